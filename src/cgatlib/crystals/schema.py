"""Columns, units and metadata of a crystal table as arrow sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.crystals.checks import PROPERTIES, SYMBOLS, Crystal, labels_among, reduced_formula

FUNCTIONALS = ("PBE", "PBEsol", "SCAN", "r2SCAN", "HSE", "LDA", "OptB88vdW")
METADATA_KEY = b"cgatlib"
SCHEMA_VERSION = 1
PARQUET_ERRORS = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What arrow raises on files that are damaged or no parquet."""

CORE_SCHEMA = pa.schema(
    [
        pa.field("material_id", pa.string(), nullable=False),
        pa.field("formula", pa.string(), nullable=False),
        pa.field("n_atoms", pa.int32(), nullable=False),
        pa.field("lattice", pa.list_(pa.float64()), nullable=False),
        pa.field("numbers", pa.list_(pa.uint8()), nullable=False),
        pa.field("frac_coords", pa.list_(pa.float64()), nullable=False),
    ]
)


SPACE_GROUP = "space_group_number"
"""Column that a table may have (`cgatlib.crystals.symmetry`): what a split by space groups keeps together."""


def functional_name(name: str) -> str:
    """Return ``name`` in the field's writing if it is known (``pbesol`` -> ``PBEsol``), else as it is.

    Raises:
        CgatError: the name is empty.
    """
    if not name.strip():
        raise CgatError("the functional is empty; name it, e.g. PBE")
    known = {f.lower(): f for f in FUNCTIONALS}
    return known.get(name.strip().lower(), name.strip())


def table_metadata(functional: str, labels: Iterable[str], source: str = "") -> dict[bytes, bytes]:
    """Return the schema metadata of a crystal table: functional, units, schema version, source."""
    units = {name: PROPERTIES[name].unit for name in labels}
    content = {"functional": functional, "units": units, "schema": SCHEMA_VERSION, "source": source}
    return {METADATA_KEY: json.dumps(content, ensure_ascii=False, sort_keys=True).encode()}


def stated(path: Path, schema: pa.Schema) -> tuple[str | None, str]:
    """Return functional and source as the metadata of a file state them; None and nothing where it has none of ours.

    Raises:
        CgatError: there are metadata under our name, but not as we write them, or with another unit of a label.
    """
    metadata = (schema.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        return None, ""
    try:
        content = json.loads(metadata)
        functional, source = content.get("functional"), content.get("source", "")
    except (ValueError, AttributeError, RecursionError) as error:
        raise CgatError(f"{path} has damaged metadata {METADATA_KEY.decode()!r}: {first_line(error)}") from error
    if not (functional is None or (isinstance(functional, str) and functional.strip())) or not isinstance(source, str):
        raise CgatError(f"{path} has damaged metadata {METADATA_KEY.decode()!r}: functional {functional!r}")
    units = content.get("units")
    for name, unit in units.items() if isinstance(units, dict) else ():
        if name in PROPERTIES and unit != PROPERTIES[name].unit:
            raise CgatError(f"{path} states {name} in {unit}; everywhere else it is in {PROPERTIES[name].unit}")
    return functional, source


def is_crystal_table(path: Path) -> bool:
    """Whether a file is a crystal table that this program wrote, by its metadata."""
    try:
        return METADATA_KEY in (pq.read_schema(path).metadata or {})
    except PARQUET_ERRORS:
        return False


def counted(labels: Iterable[str], columns: Iterable[str]) -> list[str]:
    """Columns that count besides the core: labels, and space groups where they are among `columns`."""
    return [*labels, *({SPACE_GROUP} & set(columns))]


def table_schema(names: Iterable[str]) -> pa.Schema:
    """Return the core columns followed by others that count."""
    kinds = {SPACE_GROUP: pa.int16()}
    return pa.schema([*CORE_SCHEMA, *(pa.field(name, kinds.get(name, pa.float64())) for name in names)])


def rows_to_arrow(crystals: Sequence[Crystal], labels: Sequence[str]) -> pa.Table:
    """Return crystals as an arrow table with the columns of ``table_schema(labels)``."""
    columns: list[Iterable[object]] = [
        [c.material_id for c in crystals],
        [c.formula for c in crystals],
        [len(c.numbers) for c in crystals],
        [c.lattice.ravel() for c in crystals],
        [c.numbers.astype(np.uint8) for c in crystals],
        [c.frac_coords.ravel() for c in crystals],
        *([c.labels.get(name) for c in crystals] for name in labels),
    ]
    schema = table_schema(labels)
    return pa.table([pa.array(col, f.type) for col, f in zip(columns, schema, strict=True)], schema=schema)


def first_line(error: Exception) -> str:
    """Return an error's first line without its full stop, to put into a sentence."""
    return str(error).split("\n", 1)[0].rstrip(".")


def flatten(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return offsets (rows + 1,) and flat values of a list column."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty column stays chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    lengths = np.asarray(array.value_lengths().fill_null(0), dtype=np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return offsets, array.flatten().to_numpy(zero_copy_only=False)


def fingerprint(functional: str, names: Sequence[str], column: Callable[[str], Iterable[pa.ChunkedArray]]) -> str:
    """16 hex digits over functional, names and values of labels and space groups, ids, geometry and formulas, in order.

    Independent of compression, row groups, integer widths and extra columns. A formula that is the reduced formula of
    the row's atoms follows from the geometry; only another one, which a file may state and the split then uses, is
    hashed, so that tables from before formulas counted keep their fingerprint.

    Args:
        names: of the columns that count besides the core.
        column: the values of a column piece by piece, as often as it is called; no more is held at a time.
    """
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, functional, names]).encode())
    separator = "["
    for ids in column("material_id"):
        if len(ids):
            digest.update(f"{separator}{json.dumps(ids.to_pylist())[1:-1]}".encode())
            separator = ", "
    digest.update(b"]" if separator == ", " else b"[]")
    for name, kind in (("lattice", "<f8"), ("numbers", "<u1"), ("frac_coords", "<f8")):
        end = np.zeros(1, dtype="<i8")
        digest.update(end.tobytes())
        for part in column(name):
            ends = end + flatten(part)[0][1:]
            digest.update(ends.astype("<i8").tobytes())
            end = ends[-1:] if len(ends) else end
        for part in column(name):
            digest.update(flatten(part)[1].astype(kind).tobytes())
    for name in names:
        for part in column(name):
            digest.update(np.isnan(floats(part)).tobytes())
        for part in column(name):
            digest.update(np.nan_to_num(floats(part), nan=0.0).astype("<f8").tobytes())
    for other in _other_formulas(column):
        digest.update(json.dumps(other).encode())
    return digest.hexdigest()[:16]


def _other_formulas(column: Callable[[str], Iterable[pa.ChunkedArray]]) -> Iterator[tuple[int, str]]:
    """Rows whose formula is not that of their atoms, and what it is."""
    first = 0
    for formulas, numbers in zip(column("formula"), column("numbers"), strict=True):
        ends, atoms = flatten(numbers)
        known = len(atoms) and 1 <= atoms.min() <= atoms.max() <= len(SYMBOLS) and np.diff(ends).min() > 0
        for row, formula in enumerate(formulas.to_pylist()):
            if not known or formula != reduced_formula(atoms[ends[row] : ends[row + 1]]):
                yield first + row, formula or ""
        first += len(formulas)


def space_groups_in(table: pa.Table, where: str) -> list[int]:
    """Numbers of the space groups, one per row, of a table called `where`; `CgatError` where one is not known."""
    if SPACE_GROUP not in table.column_names or table[SPACE_GROUP].null_count:
        raise CgatError(f"{where} does not state the space group of every crystal; declare it with space_groups: true")
    return list(table[SPACE_GROUP].to_pylist())


def floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Values of a label column (rows,), NaN where they are missing."""
    return np.asarray(column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)


def to_core(path: Path, table: pa.Table, first: int = 0) -> pa.Table:
    """Order and cast the columns: core, labels, then the others as they are.

    Args:
        first: number of the table's first row in the file, for messages.

    Raises:
        CgatError: a core column is missing, has nulls, or values of another type or length, or an element is unknown.
    """
    known = counted(labels_among(table.column_names), table.column_names)
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
    for name, expected in (
        ("lattice", np.full_like(n_atoms, 9)),
        ("numbers", n_atoms),
        ("frac_coords", 3 * n_atoms),
    ):
        wrong = np.flatnonzero(np.diff(flatten(table[name])[0]) != expected)
        if len(wrong):
            raise CgatError(f"{path} is no crystal table: row {first + wrong[0]} has a {name!r} of the wrong length")
    offsets, numbers = flatten(table["numbers"])
    odd = np.flatnonzero((numbers < 1) | (numbers > len(SYMBOLS)))
    if len(odd):
        row = first + np.searchsorted(offsets, odd[0], side="right") - 1
        raise CgatError(f"{path} is no crystal table: row {row} has atomic number {numbers[odd[0]]}, not 1 to 103")
    return table
