"""The crystal table: one schema, with units and functional in the file's metadata.

Columns: ``material_id``, ``formula`` (reduced), ``n_atoms``, ``lattice`` (9 numbers, row vectors, Å), ``numbers`` (one
atomic number per site), ``frac_coords`` (3 per site), and one per label in the unit of ``PROPERTIES``, null where it is
missing; perhaps a property under another functional (``band_gap@HSE``) and the numbers of space groups. Other columns
are kept, but neither fingerprints nor graphs depend on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, SYMBOLS, Crystal, functional_name, labels_among, reduced_formula
from cgatlib.files import replacing

METADATA_KEY = b"cgatlib"
SCHEMA_VERSION = 1
PARQUET_ERRORS = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What arrow raises on files that are damaged or no parquet."""

SPACE_GROUP = "space_group_number"
"""Column that a table may have: what a split by space groups keeps together."""

_TYPES = {
    "material_id": pa.string(),
    "formula": pa.string(),
    "n_atoms": pa.int32(),
    "lattice": pa.list_(pa.float64()),
    "numbers": pa.list_(pa.uint8()),
    "frac_coords": pa.list_(pa.float64()),
}
CORE_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _TYPES.items()])
_TYPES[SPACE_GROUP] = pa.int16()  # labels are float64


@dataclass(frozen=True, eq=False)
class CrystalTable:
    """Crystals of one functional.

    Attributes:
        table: core columns, label columns and any others that the file brought.
        functional: e.g. ``PBE``; from the file's metadata or stated by the user, never guessed.
        source: where the rows came from, in words.
    """

    table: pa.Table = field(repr=False)  # pages of a notebook
    functional: str
    source: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Crystal]:
        return (self.crystal(i) for i in range(len(self)))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns that hold at least one value, as `labels_among` orders them."""
        return tuple(n for n in labels_among(self.table.column_names) if self.table[n].null_count < len(self))

    @property
    def content(self) -> pa.Table:
        """Core columns, labels and space groups if there are any: what fingerprints and graphs depend on."""
        return self.table.select([*CORE_SCHEMA.names, *_counted(self.labels, self.table.column_names)])

    @cached_property
    def ids(self) -> list[str]:
        """Material ids, one per row."""
        return list(self.table["material_id"].to_pylist())

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formulas, one per row."""
        return list(self.table["formula"].to_pylist())

    @property
    def space_groups(self) -> list[int]:
        """Numbers of the space groups, one per row; `CgatError` where the table does not have them."""
        return space_groups_in(self.table, "the table")

    @cached_property
    def _arrays(self) -> tuple[list[tuple[NDArray[np.int64], NDArray[Any]]], dict[str, NDArray[np.float64]]]:
        """What rows are cut from: offsets and values of the lists, values of the labels."""
        lists = [_flatten(self.table[name]) for name in ("lattice", "numbers", "frac_coords")]
        return lists, {name: self.label(name) for name in self.labels}

    def crystal(self, i: int) -> Crystal:
        """Row ``i``; its labels hold only what is not missing."""
        lists, labels = self._arrays
        lattice, numbers, coords = (values[ends[i] : ends[i + 1]] for ends, values in lists)
        known = {name: float(values[i]) for name, values in labels.items() if not np.isnan(values[i])}
        return Crystal(self.ids[i], lattice.reshape(3, 3), numbers, coords.reshape(-1, 3), known)

    def label(self, name: str) -> NDArray[np.float64]:
        """One label (rows,) in its unit, NaN where it is missing; `CgatError` where the table does not carry it."""
        if name not in self.labels:
            raise CgatError(f"the table has no label {name!r}; it carries: {', '.join(self.labels) or 'none'}")
        return _floats(self.table[name])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over functional, labels, ids, geometry and space groups if there are any, in row order.

        A formula counts only where it is not that of the row's atoms: it is what splits go by.
        """
        content = self.content
        counted = content.column_names[len(CORE_SCHEMA) :]
        digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, self.functional, counted]).encode())
        digest.update(json.dumps(self.ids).encode())
        for name, kind in (("lattice", "<f8"), ("numbers", "<u1"), ("frac_coords", "<f8")):
            ends, values = _flatten(content[name])
            digest.update(ends.astype("<i8").tobytes() + values.astype(kind).tobytes())
        for name in counted:
            values = _floats(content[name])
            digest.update(np.isnan(values).tobytes() + np.nan_to_num(values, nan=0.0).astype("<f8").tobytes())
        ends, numbers = _flatten(content["numbers"])
        for row, formula in enumerate(self.formulas):
            if formula != reduced_formula(numbers[ends[row] : ends[row + 1]]):
                digest.update(json.dumps((row, formula)).encode())
        return digest.hexdigest()[:16]

    def select(self, indices: Sequence[int] | NDArray[np.integer]) -> CrystalTable:
        """Return the rows ``indices`` in that order."""
        return replace(self, table=self.table.take(pa.array(np.asarray(indices, np.int64))))

    def write(self, path: str | Path) -> None:
        """Write parquet (zstd) with the metadata; the name appears only once the file is whole.

        Raises:
            CgatError: something else than a crystal table of ours has that name, or it cannot be written.
        """
        metadata = table_metadata(self.functional, labels_among(self.table.column_names), self.source)
        with replacing(Path(path), "a crystal table", is_crystal_table) as part:
            pq.write_table(self.table.replace_schema_metadata(metadata), part, compression="zstd")

    @classmethod
    def read(
        cls, path: str | Path, functional: str | None = None, labels: Mapping[str, str] | None = None
    ) -> CrystalTable:
        """Read a parquet table with the core columns.

        Args:
            functional: needed when the file's metadata does not state it; must agree with it otherwise.
            labels: our name -> column that holds it (a column of our name is replaced).

        Raises:
            CgatError: not parquet, a core column is missing, or the functional is unknown or contradicted.
        """
        path = Path(path)
        table = read_parquet(path)
        written, source = stated(path, table.schema)
        functional = written if functional is None else functional_name(functional)
        if functional is None:
            raise CgatError(f"{path} does not state its functional; name it, e.g. --functional PBE")
        if written not in (None, functional):
            raise CgatError(f"{path} holds {written} data, but {functional} was asked for")
        for ours, theirs in (labels or {}).items():
            table = renamed(path, table, ours, theirs)
        return cls(to_core(path, table), functional, source or path.name)

    @classmethod
    def from_crystals(cls, crystals: Iterable[Crystal], functional: str, source: str = "") -> CrystalTable:
        """Build a table in memory; the labels are those that at least one crystal carries."""
        rows = list(crystals)
        carried = {name for c in rows for name in c.labels}
        if unknown := carried.difference(labels := labels_among(carried)):
            raise CgatError(f"unknown labels {sorted(unknown)}; known: {', '.join(PROPERTIES)}")
        return cls(rows_to_arrow(rows, labels), functional_name(functional), source)


read_table = CrystalTable.read  # the name that `cgatlib` hands out


def space_groups_in(table: pa.Table, where: str) -> list[int]:
    """Numbers of the space groups, one per row, of a table called `where`; `CgatError` where one is not known."""
    if SPACE_GROUP not in table.column_names or table[SPACE_GROUP].null_count:
        raise CgatError(f"{where} does not state the space group of every crystal; declare it with space_groups: true")
    return list(table[SPACE_GROUP].to_pylist())


def table_metadata(functional: str, labels: Iterable[str], source: str = "") -> dict[bytes, bytes]:
    """Return the schema metadata of a crystal table: functional, units, schema version, source."""
    units = {name: PROPERTIES[name].unit for name in labels}
    content = {"functional": functional, "units": units, "schema": SCHEMA_VERSION, "source": source}
    return {METADATA_KEY: json.dumps(content, ensure_ascii=False, sort_keys=True).encode()}


def stated(path: Path, schema: pa.Schema) -> tuple[str | None, str]:
    """Functional and source as the metadata of a file state them, if any; `CgatError` where these are damaged."""
    try:
        content = json.loads((schema.metadata or {}).get(METADATA_KEY, "{}"))
        functional, source = content.get("functional"), content.get("source", "")
        if not (functional is None or functional.strip()) or not isinstance(source, str):
            raise ValueError(f"functional {functional!r}, source {source!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CgatError(f"{path} has damaged metadata {METADATA_KEY.decode()!r}: {first_line(error)}") from error
    for name, unit in units.items() if isinstance(units := content.get("units"), dict) else ():
        if name in PROPERTIES and unit != PROPERTIES[name].unit:
            raise CgatError(f"{path} states {name} in {unit}; everywhere else it is in {PROPERTIES[name].unit}")
    return functional, source


def is_crystal_table(path: Path) -> bool:
    """Whether a file is a crystal table that this program wrote, by its metadata."""
    try:
        return METADATA_KEY in (pq.read_schema(path).metadata or {})
    except PARQUET_ERRORS:
        return False


def _counted(labels: Iterable[str], columns: Iterable[str]) -> list[str]:
    """Columns that count besides the core: labels, and space groups where they are among `columns`."""
    return [*labels, *({SPACE_GROUP} & set(columns))]


def table_schema(names: Iterable[str]) -> pa.Schema:
    """Return the core columns followed by others that count."""
    return pa.schema([*CORE_SCHEMA, *(pa.field(name, _TYPES.get(name, pa.float64())) for name in names)])


def rows_to_arrow(crystals: Sequence[Crystal], labels: Sequence[str]) -> pa.Table:
    """Return crystals as an arrow table with the columns of ``table_schema(labels)``."""
    core = [
        (c.material_id, c.formula, len(c.numbers), c.lattice.ravel(), c.numbers.astype(np.uint8), c.frac_coords.ravel())
        for c in crystals
    ]
    columns = [*(zip(*core, strict=True) if core else 6 * [()]), *([c.labels.get(n) for c in crystals] for n in labels)]
    schema = table_schema(labels)
    return pa.table([pa.array(col, f.type) for col, f in zip(columns, schema, strict=True)], schema=schema)


def first_line(error: Exception) -> str:
    """An error's first line without its full stop, to put into a sentence."""
    return str(error).split("\n", 1)[0].rstrip(".")


def _flatten(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Offsets (rows + 1,) and flat values of a list column."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)], dtype=np.int64), pc.list_flatten(column).to_numpy()


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Values of a label column (rows,), NaN where they are missing."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def to_core(path: Path, table: pa.Table) -> pa.Table:
    """Order and cast the columns: core, labels, then the others as they are.

    Raises:
        CgatError: a core column is missing, has nulls, or values of another type or length, or an element is unknown.
    """
    known = _counted(labels_among(table.column_names), table.column_names)
    for name in (*CORE_SCHEMA.names, *known):
        if (times := table.column_names.count(name)) > 1 or (times == 0 and name in CORE_SCHEMA.names):
            raise CgatError(f"{path} is no crystal table: column {name!r} is {'there twice' if times else 'missing'}")
    others = [name for name in table.column_names if name not in {*CORE_SCHEMA.names, *known}]
    schema = pa.schema([*table_schema(known), *(table.schema.field(name) for name in others)])
    for name in CORE_SCHEMA.names:
        if table[name].null_count:
            raise CgatError(f"{path} is no crystal table: column {name!r} has {table[name].null_count} nulls")
    try:
        table = table.select(schema.names).cast(schema)
        table.validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        raise CgatError(f"{path} is no crystal table: {first_line(error)}") from error
    n_atoms = table["n_atoms"].to_numpy()
    for name, expected in (("lattice", 9), ("numbers", n_atoms), ("frac_coords", 3 * n_atoms)):
        wrong = np.flatnonzero(np.diff(_flatten(table[name])[0]) != expected)
        if len(wrong):
            raise CgatError(f"{path} is no crystal table: row {wrong[0]} has a {name!r} of the wrong length")
    offsets, numbers = _flatten(table["numbers"])
    odd = np.flatnonzero((numbers < 1) | (numbers > len(SYMBOLS)))
    if len(odd):
        row = np.searchsorted(offsets, odd[0], side="right") - 1
        raise CgatError(f"{path} is no crystal table: row {row} has atomic number {numbers[odd[0]]}, not 1 to 103")
    return table


def read_parquet(path: Path) -> pa.Table:
    """Read a parquet file whole; `CgatError` where it is none, or damaged."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except PARQUET_ERRORS as error:
        raise CgatError(f"cannot read {path} as a parquet table: {first_line(error)}") from error


def renamed(path: Path, table: pa.Table, ours: str, theirs: str) -> pa.Table:
    """A table with a column of theirs under the name of our label, in the place of another of that name."""
    if ours not in PROPERTIES:
        raise CgatError(f"unknown label {ours!r}; known: {', '.join(PROPERTIES)}")
    if theirs not in table.column_names:
        raise CgatError(f"{path} has no column {theirs!r}; it has: {', '.join(table.column_names)}")
    if ours in table.column_names and ours != theirs:
        table = table.drop_columns([ours])
    return table.rename_columns([ours if c == theirs else c for c in table.column_names])
