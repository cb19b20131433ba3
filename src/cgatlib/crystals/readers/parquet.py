"""Parquet tables with the core columns of a crystal table, ours or those of others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgatlib.crystals.checks import PROPERTIES, Crystal, Reject
from cgatlib.crystals.readers.rows import (
    BadRow,
    Geometry,
    LabelPlan,
    ReadOptions,
    UnreadableFile,
    crystal_or_reject,
    place,
    row_id,
)
from cgatlib.crystals.schema import METADATA_KEY, first_line, flatten

BATCH = 2048
GEOMETRY = ("lattice", "numbers", "frac_coords")


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        size = path.stat().st_size
        raise UnreadableFile(f"{path} is truncated or no parquet ({size} bytes): {first_line(error)}") from error


def stated_functional(path: Path) -> str | None:
    """Return the functional in the file's metadata, if it is a table of ours."""
    with _open(path) as file:
        content = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
        return json.loads(content)["functional"] if content else None


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take from the table's columns; only our own names are known.

    Raises:
        CgatError: a column asked for is not there.
    """
    with _open(path) as file:
        columns = file.schema_arrow.names
    missing = [name for name in (options.id_column or "material_id", *GEOMETRY) if name not in columns]
    if missing:
        raise UnreadableFile(f"{path} has no column {missing[0]!r}; it has: {', '.join(columns)}")
    return LabelPlan.make(options, {name: (name,) for name in PROPERTIES}, columns=columns)


def read(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of the table.

    Raises:
        UnreadableFile: the file is cut or damaged, named with row.
    """
    labels = plan(path, options)
    id_column = options.id_column or "material_id"
    keys = sorted({key for theirs in labels.keys.values() for key in theirs})
    row = 0
    with _open(path) as file:
        try:
            for batch in file.iter_batches(BATCH, columns=[id_column, *GEOMETRY, *keys]):
                yield from _crystals(path, batch, row, labels, id_column, keys)
                row += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise UnreadableFile(f"{path} is damaged after row {row}: {first_line(error)}") from error


def _crystals(
    path: Path, batch: pa.RecordBatch, first: int, labels: LabelPlan, id_column: str, keys: list[str]
) -> Iterator[Crystal | Reject]:
    lists = {name: flatten(pa.chunked_array([batch.column(name)])) for name in GEOMETRY}
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
    if not np.isfinite(part["numbers"]).all():
        raise BadRow("undecodable row: an atomic number is missing")
    return Geometry(
        part["lattice"].astype(np.float64).reshape(3, 3),
        part["numbers"].astype(np.int64),
        part["frac_coords"].astype(np.float64).reshape(n, 3),
    )
