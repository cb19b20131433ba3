"""The crystal table: one schema, units and functional in the file's metadata.

Columns: ``material_id``, ``formula`` (reduced), ``n_atoms``, ``lattice`` (9 numbers, row vectors, Å),
``numbers`` (one atomic number per site), ``frac_coords`` (3 per site), and one column per label in the unit
of ``PROPERTIES``; a missing label is null. Other columns a source brings are kept but are not labels. A table may carry
a property under another functional than its own, too: ``band_gap@HSE``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.crystals.checks import PROPERTIES, Crystal, labels_among
from cgatlib.crystals.schema import (
    CORE_SCHEMA,
    PARQUET_ERRORS,
    counted,
    fingerprint,
    first_line,
    flatten,
    floats,
    functional_name,
    is_crystal_table,
    rows_to_arrow,
    space_groups_in,
    stated,
    table_metadata,
    to_core,
)
from cgatlib.files import replacing


@dataclass(frozen=True, eq=False)
class CrystalTable:
    """Crystals of one functional, backed by an arrow table.

    Attributes:
        table: core columns, label columns and any others the file brought.
        functional: e.g. ``PBE``; from the file's metadata or stated by the user, never guessed.
        source: where the rows came from, in words.
    """

    table: pa.Table
    functional: str
    source: str = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Crystal]:
        return (self.crystal(i) for i in range(len(self)))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns that hold at least one value, as `labels_among` orders them."""
        carried = labels_among(self.table.column_names)
        return tuple(name for name in carried if self.table[name].null_count < len(self))

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

    @property
    def _counted(self) -> list[str]:
        return counted(self.labels, self.table.column_names)

    @cached_property
    def _lists(self) -> dict[str, tuple[NDArray[np.int64], NDArray[Any]]]:
        """Offsets (rows + 1,) and flat values of the list columns."""
        return {name: flatten(self.table[name]) for name in ("lattice", "numbers", "frac_coords")}

    @cached_property
    def _label_arrays(self) -> dict[str, NDArray[np.float64]]:
        return {name: self.label(name) for name in self.labels}

    def crystal(self, i: int) -> Crystal:
        """Return row ``i``; its labels hold only what is not missing."""
        part = {}
        for name, (offsets, values) in self._lists.items():
            part[name] = values[offsets[i] : offsets[i + 1]]
        labels = {name: float(v[i]) for name, v in self._label_arrays.items() if not np.isnan(v[i])}
        return Crystal(
            material_id=self.ids[i],
            lattice=part["lattice"].reshape(3, 3),
            numbers=part["numbers"],
            frac_coords=part["frac_coords"].reshape(-1, 3),
            labels=labels,
        )

    def label(self, name: str) -> NDArray[np.float64]:
        """Return one label (rows,) in its unit, NaN where it is missing.

        Raises:
            CgatError: the table does not carry that label.
        """
        if name not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise CgatError(f"the table has no label {name!r}; it carries: {known}")
        return floats(self.table[name])

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over functional, labels, ids, geometry and space groups if there are any, in row order."""
        return fingerprint(self.functional, self._counted, lambda name: [self.table[name]])

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """The rows in order, `rows` at a time: core columns, labels and space groups."""
        columns = self.table.select([*CORE_SCHEMA.names, *self._counted])
        return (columns.slice(start, rows) for start in range(0, len(self), rows))

    def select(self, indices: Sequence[int] | NDArray[np.integer]) -> CrystalTable:
        """Return the rows ``indices`` in that order."""
        return CrystalTable(self.table.take(pa.array(np.asarray(indices, np.int64))), self.functional, self.source)

    def write(self, path: str | Path) -> None:
        """Write parquet (zstd) with the metadata; the name appears only once the file is whole.

        Raises:
            CgatError: something else than a crystal table of ours has that name, or it cannot be written.
        """
        carried = labels_among(self.table.column_names)
        metadata = table_metadata(self.functional, carried, self.source)
        with replacing(Path(path), "a crystal table", is_crystal_table) as part:
            pq.write_table(self.table.replace_schema_metadata(metadata), part, compression="zstd")

    @classmethod
    def read(
        cls, path: str | Path, functional: str | None = None, labels: Mapping[str, str] | None = None
    ) -> CrystalTable:
        """Read a parquet table with the core columns.

        Args:
            path: the file.
            functional: needed when the file's metadata does not state it; must agree with it otherwise.
            labels: our name -> column that holds it (a column of our name is replaced).

        Raises:
            CgatError: not parquet, a core column is missing, or the functional is unknown or contradicted.
        """
        path = Path(path)
        table = read_parquet(path)
        name, source = origin(path, table.schema, functional)
        for ours, theirs in (labels or {}).items():
            table = renamed(path, table, ours, theirs)
        return cls(to_core(path, table), name, source)

    @classmethod
    def from_crystals(cls, crystals: Iterable[Crystal], functional: str, source: str = "") -> CrystalTable:
        """Build a table in memory; the labels are those that at least one crystal carries."""
        rows = list(crystals)
        carried = {name for c in rows for name in c.labels}
        labels = labels_among(carried)
        if unknown := carried.difference(labels):
            raise CgatError(f"unknown labels {sorted(unknown)}; known: {', '.join(PROPERTIES)}")
        return cls(rows_to_arrow(rows, labels), functional_name(functional), source)


def read_parquet(path: Path) -> pa.Table:
    """Read a parquet file whole.

    Raises:
        CgatError: it is none, or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except PARQUET_ERRORS as error:
        raise CgatError(f"cannot read {path} as a parquet table: {first_line(error)}") from error


def origin(path: Path, schema: pa.Schema, given: str | None) -> tuple[str, str]:
    """Functional and source of a table as its file's metadata state them.

    Args:
        given: functional, where the file does not state one; it must agree otherwise.

    Raises:
        CgatError: the functional is unknown or contradicted.
    """
    functional, source = stated(path, schema)
    return _agreed_functional(path, functional, given), source or path.name


def _agreed_functional(path: Path, written: str | None, given: str | None) -> str:
    if given is None and written is None:
        raise CgatError(f"{path} does not state its functional; name it, e.g. --functional PBE")
    if given is None:
        return str(written)
    if written is not None and functional_name(given) != written:
        raise CgatError(f"{path} holds {written} data, but {functional_name(given)} was asked for")
    return functional_name(given)


def renamed(path: Path, table: pa.Table, ours: str, theirs: str) -> pa.Table:
    """A table of a file with a column of theirs under our name, in the place of another of that name.

    Raises:
        CgatError: ours is no label, or there is no column of theirs.
    """
    if ours not in PROPERTIES:
        raise CgatError(f"unknown label {ours!r}; known: {', '.join(PROPERTIES)}")
    if theirs not in table.column_names:
        raise CgatError(f"{path} has no column {theirs!r}; it has: {', '.join(table.column_names)}")
    if ours == theirs:
        return table
    if ours in table.column_names:
        table = table.drop_columns([ours])
    return table.rename_columns([ours if c == theirs else c for c in table.column_names])
