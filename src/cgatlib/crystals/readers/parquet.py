"""Parquet tables with the core columns of a crystal table, ours or those of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgatlib.crystals.crystal import PROPERTIES, BadRow, Crystal, Geometry, Reject, UnreadableFile, labels_among
from cgatlib.crystals.readers.rows import LabelPlan, ReadOptions, crystal_or_reject, place, row_id
from cgatlib.crystals.table import PARQUET_ERRORS, first_line, flatten, stated

BATCH = 2048
GEOMETRY = ("lattice", "numbers", "frac_coords")
_NUMBERS = pa.list_(pa.float64())  # what others write as integers or lists of a fixed size is read as this


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a file; `UnreadableFile` where it is damaged or no parquet."""
    try:
        return pq.ParquetFile(path)
    except PARQUET_ERRORS as error:
        size = path.stat().st_size
        raise UnreadableFile(f"{path} is truncated or no parquet ({size} bytes): {first_line(error)}") from error


def stated_functional(path: Path) -> str | None:
    """Return the functional in the file's metadata, if it is a table of ours.

    Raises:
        CgatError: the metadata are not as we write them.
    """
    with open_parquet(path) as file:
        return stated(path, file.schema_arrow)[0]


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take from the table's columns; only our own names are known.

    Raises:
        CgatError: a column asked for is not there.
    """
    with open_parquet(path) as file:
        columns = file.schema_arrow.names
    for name in (options.id_column or "material_id", *GEOMETRY):
        if columns.count(name) != 1:
            there = "no column" if name not in columns else "more than one column"
            raise UnreadableFile(f"{path} has {there} {name!r}; it has: {', '.join(map(repr, columns))}")
    return LabelPlan.make(options, {name: (name,) for name in labels_among([*PROPERTIES, *columns])}, columns=columns)


def read(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of the table.

    Raises:
        UnreadableFile: the file is cut or damaged, named with row.
    """
    labels = plan(path, options)
    id_column = options.id_column or "material_id"
    keys = sorted({key for theirs in labels.keys.values() for key in theirs})
    row = 0
    with open_parquet(path) as file:
        try:
            for batch in file.iter_batches(BATCH, columns=[id_column, *GEOMETRY, *keys]):
                yield from _crystals(path, batch, row, labels, id_column, keys)
                row += batch.num_rows
        except PARQUET_ERRORS as error:
            raise UnreadableFile(f"{path} is damaged after row {row}: {first_line(error)}") from error


def _crystals(
    path: Path, batch: pa.RecordBatch, first: int, labels: LabelPlan, id_column: str, keys: list[str]
) -> Iterator[Crystal | Reject]:
    lists = {name: flatten(pa.chunked_array([batch.column(name)]).cast(_NUMBERS, safe=False)) for name in GEOMETRY}
    ids = batch.column(id_column).to_pylist()
    values = {key: batch.column(key).to_pylist() for key in keys}
    for i, material_id in enumerate(ids):
        part = {name: flat[offsets[i] : offsets[i + 1]] for name, (offsets, flat) in lists.items()}
        row = {key: column[i] for key, column in values.items()}

        def make(part: dict[str, NDArray[Any]] = part, row: dict[str, Any] = row) -> Any:
            return _geometry(part), labels.pick(row)

        yield crystal_or_reject(place(path, first + i), row_id({"id": material_id}, ("id",)), make)


def _geometry(part: dict[str, NDArray[Any]]) -> Geometry:
    n = len(part["numbers"])
    for name, expected in (("lattice", 9), ("frac_coords", 3 * n)):
        if len(part[name]) != expected:
            raise BadRow(f"undecodable row: {name} has {len(part[name])} numbers, not {expected}")
    numbers = part["numbers"]
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
    if (odd := whole != numbers).any():
        raise BadRow(f"unknown element: atomic number {numbers[odd][0]:g} is not whole")
    return Geometry(part["lattice"].reshape(3, 3), whole, part["frac_coords"].reshape(n, 3))
