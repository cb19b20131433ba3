"""LeMat-Bulk: the parquet files of ``LeMaterial/LeMat-Bulk`` on Hugging Face, with the columns that its card documents.

``immutable_id``, ``lattice_vectors`` (3 x 3, Å), ``cartesian_site_positions`` (n x 3, Å), ``species_at_sites`` (n) and
``functional`` (pbe, pbesol, scan). Energies there are total ones, no labels of ours: unless columns are named, a table
of these files has the volume alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cgatlib.crystals.crystal import BadRow, Crystal, Geometry, Reject, UnreadableFile, functional_name
from cgatlib.crystals.readers.parquet import BATCH, open_parquet
from cgatlib.crystals.readers.rows import LabelPlan, ReadOptions, crystal_or_reject, place, row_id
from cgatlib.crystals.structures import DECODE_ERRORS, atomic_number, undecodable
from cgatlib.crystals.table import PARQUET_ERRORS, first_line

GEOMETRY = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
_FUNCTIONAL = "functional"
_KNOWN = {"volume_per_atom": ("volume_per_atom",)}


def is_lemat(path: Path) -> bool:
    """Whether a parquet file has the columns of LeMat-Bulk."""
    with open_parquet(path) as file:
        return set(GEOMETRY) <= set(file.schema_arrow.names)


def stated_functional(path: Path) -> str | None:
    """The functional of the first row; rows of another one become rejects. None where no row states one.

    Raises:
        UnreadableFile: the file is cut or damaged.
    """
    with open_parquet(path) as file:
        try:
            first = next(file.iter_batches(1, columns=[_FUNCTIONAL]), None)
        except PARQUET_ERRORS as error:
            raise UnreadableFile(f"{path} is damaged at row 0: {first_line(error)}") from error
    stated = first.column(0).to_pylist()[0] if first is not None else None
    return functional_name(stated) if isinstance(stated, str) and stated.strip() else None


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take: the volume, and columns that are asked for.

    Raises:
        CgatError: a column asked for is not there. UnreadableFile: a column of the format is not there.
    """
    with open_parquet(path) as file:
        columns = file.schema_arrow.names
    for name in (options.id_column or "immutable_id", *GEOMETRY, _FUNCTIONAL):
        if columns.count(name) != 1:
            there = "no column" if name not in columns else "more than one column"
            raise UnreadableFile(f"{path} has {there} {name!r}; it has: {', '.join(map(repr, columns))}")
    return LabelPlan.make(options if options.labels else _volume(options), _KNOWN, columns=columns)


def _volume(options: ReadOptions) -> ReadOptions:
    return ReadOptions({"volume_per_atom": ""}, options.allow_missing, options.id_column)


def read(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of a file.

    Raises:
        UnreadableFile: the file is cut or damaged, named with row.
    """
    labels, functional = plan(path, options), stated_functional(path)
    id_column = options.id_column or "immutable_id"
    keys = sorted({key for theirs in labels.keys.values() for key in theirs})
    row = 0
    with open_parquet(path) as file:
        try:
            for batch in file.iter_batches(BATCH, columns=[id_column, _FUNCTIONAL, *GEOMETRY, *keys]):
                for values in batch.to_pylist():
                    yield _crystal(values, place(path, row), labels, id_column, functional)
                    row += 1
        except PARQUET_ERRORS as error:
            raise UnreadableFile(f"{path} is damaged after row {row}: {first_line(error)}") from error


def _crystal(
    row: dict[str, Any], where: str, labels: LabelPlan, id_column: str, functional: str | None
) -> Crystal | Reject:
    def make() -> tuple[Geometry, dict[str, float]]:
        stated = row[_FUNCTIONAL]
        if not isinstance(stated, str) or not stated.strip() or functional_name(stated) != functional:
            raise BadRow(f"another functional: {stated!r} in a file that begins with {functional}")
        try:
            return _geometry(row), labels.pick(row)
        except DECODE_ERRORS as error:
            raise error if isinstance(error, BadRow) else undecodable("structure", error) from error

    return crystal_or_reject(where, row_id(row, (id_column,)), make)


def _geometry(row: dict[str, Any]) -> Geometry:
    numbers = np.array([atomic_number(species) for species in row["species_at_sites"]], dtype=np.int64)
    lattice = np.array(row["lattice_vectors"], dtype=np.float64).reshape(3, 3)
    positions = np.array(row["cartesian_site_positions"], dtype=np.float64).reshape(len(numbers), 3)
    coords = np.linalg.solve(lattice.T, positions.T).T  # without a volume LinAlgError, which is a ValueError
    return Geometry(lattice, numbers, coords.astype(np.float64))
