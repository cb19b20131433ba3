"""Structures as users have them, as crystals in the order given; of what cannot be read, the reason takes its place.

Imports numpy only, so that processes which read files start quickly.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.checks import KNOWN, Crystal
from cgatlib.crystals.readers.folder import read_structure
from cgatlib.crystals.readers.rows import BadRow, Geometry
from cgatlib.crystals.readers.structures import from_atoms, from_dict
from cgatlib.processes import Processes

Candidate = Crystal | str
"""A crystal, or why there is none."""

_PATH = str | os.PathLike

_FILES_PER_PROCESS = 100  # reading fewer takes less time than starting a process


def candidates(
    structures: Any, ids: Sequence[Any] | None = None, known: Mapping[str, Sequence[float]] | None = None
) -> tuple[list[str], list[Candidate]]:
    """Ids and crystals of pymatgen Structures, ASE Atoms, Crystals or paths of their files: one, or an iterable.

    Without `ids`, a Crystal keeps its own, a file's is its path, and the others are counted from 0. The only labels
    that crystals have are the `known` values of a property, one for each.

    Raises:
        CgatError: something else is among them, or the number of ids or values is another.
    """
    one = isinstance(structures, Crystal | _PATH) or hasattr(structures, "lattice") or hasattr(structures, "pbc")
    given = [structures] if one else list(structures)
    if ids is not None and len(ids) != len(given):
        raise CgatError(f"{len(ids)} ids were given for {len(given)} structures")
    crystals = [_candidate(structure, i) for i, structure in enumerate(given)]
    for label, values in (known or {}).items():
        if len(values) != len(given):
            raise CgatError(f"{len(values)} known values of {label} were given for {len(given)} structures")
        crystals = [_with_known(crystal, label, value) for crystal, value in zip(crystals, values, strict=True)]
    return [str(name) for name in (map(_name, given, count()) if ids is None else ids)], crystals


def _name(structure: Any, place: int) -> str:
    if isinstance(structure, Crystal):
        return structure.material_id
    return _printable(os.fspath(structure)) if isinstance(structure, _PATH) else str(place)


def _candidate(structure: Any, place: int) -> Candidate:
    if isinstance(structure, Crystal):
        return replace(structure, labels={})
    if isinstance(structure, _PATH):
        found = _read(Path(structure))
        return found if isinstance(found, str) else _crystal(_printable(os.fspath(structure)), found)
    try:
        if hasattr(structure, "pbc") and hasattr(structure, "get_scaled_positions"):
            return _crystal(str(place), from_atoms(structure))
        if hasattr(structure, "lattice") and hasattr(structure, "as_dict"):
            return _crystal(str(place), from_dict(structure.as_dict()))
    except BadRow as reason:
        return str(reason)
    kind = type(structure).__name__
    raise CgatError(f"structure {place} is a {kind}, neither a pymatgen Structure nor ASE Atoms, a Crystal or a path")


def _with_known(candidate: Candidate, label: str, value: float | None) -> Candidate:
    if isinstance(candidate, str) or value is None or math.isnan(value):
        return candidate
    return replace(candidate, labels={**candidate.labels, label + KNOWN: float(value)})


def read_files(
    paths: Sequence[Path], workers: int = 1, known: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, Candidate]]:
    """Id and crystal of every structure file and of every row of a parquet table, in the order given.

    A file's id is its stem, or the whole path where several files share a stem.

    Args:
        paths: CIF, POSCAR or extxyz files, and tables. workers: most processes that read structure files.
        known: columns of the tables that hold known values of a label.

    Raises:
        CgatError: a table cannot be read or lacks a column, or a structure file, which has none, is given with `known`.
    """
    for path in paths if known else ():
        if path.suffix != ".parquet":
            raise CgatError(
                f"{path} is a structure file, which cannot carry the known {', '.join(known)}: give a table (parquet) "
                f"with the column {', '.join(known.values())}"
            )
    stems = Counter(path.stem for path in paths)
    for is_table, group in groupby(paths, lambda path: path.suffix == ".parquet"):
        files = list(group)
        if is_table:
            yield from ((crystal.material_id, crystal) for path in files for crystal in _rows(path, known))
            continue
        ids = [_printable(path.stem if stems[path.stem] == 1 else str(path)) for path in files]
        for name, found in zip(ids, _read_all(files, workers), strict=True):
            yield name, found if isinstance(found, str) else _crystal(name, found)


def _printable(name: str) -> str:
    """A file's name with the bytes escaped that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _crystal(material_id: str, geometry: Geometry) -> Crystal:
    return Crystal(material_id, *geometry, labels={})


def _rows(path: Path, known: Mapping[str, str]) -> Iterator[Crystal]:
    """Crystals of a table with known values; its functional and its other labels do not matter here."""
    from cgatlib.crystals.schema import CORE_SCHEMA, to_core
    from cgatlib.crystals.table import CrystalTable, read_parquet, renamed

    table = read_parquet(path)
    for label, column in known.items():
        if column not in table.column_names:
            raise CgatError(f"{path} has no column {column!r}, the {label} of each crystal that the model asks for")
        table = renamed(path, table, label + KNOWN, column)
    columns = [*CORE_SCHEMA.names, *(label + KNOWN for label in known)]
    yield from CrystalTable(to_core(path, table).select(columns), functional="")


def _read_all(files: Sequence[Path], workers: int) -> Iterator[Geometry | str]:
    workers = min(workers, len(files) // _FILES_PER_PROCESS)
    if workers < 2:
        yield from map(_read, files)
        return
    with Processes(workers) as pool:
        yield from pool.map(_read, files, chunksize=_FILES_PER_PROCESS // 4)


def _read(path: Path) -> Geometry | str:
    try:
        return read_structure(path)
    except BadRow as reason:
        return str(reason)
