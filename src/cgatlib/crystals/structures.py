"""Structures of others as crystals: files of CIF, POSCAR and extxyz, objects and dictionaries of pymatgen, ASE, JARVIS.

The reason takes the place of a structure that cannot be read. pymatgen and ASE are imported when a file asks for them.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from itertools import chain, groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.crystals.crystal import ATOMIC_NUMBERS, KNOWN, BadRow, Crystal, Geometry
from cgatlib.crystals.streams import LARGEST_ENTRY
from cgatlib.processes import Processes

Candidate: TypeAlias = Crystal | str
"""A crystal, or why there is none."""

_PATH = str | os.PathLike
_FILES_PER_PROCESS = 100  # reading fewer takes less time than starting a process
_OCCUPANCY_TOLERANCE = 1e-6
_HARMLESS = 10_000  # atoms that a text may state whatever its length

# An element with or without oxidation state and spin: ``Na``, ``Na+``, ``Fe2.5+``, ``Fe3+,spin=5``.
_SPECIES = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*[+-])?(,.*)?")
# Lines of whole numbers (atoms in all, or of each element) and numbers of columns, in POSCAR and extxyz texts.
_COUNTS = re.compile(r"^[ \t]*([\d_]+(?:[ \t]+[\d_]+)*)[ \t\r]*$|:[A-Z]:(\d+)", re.MULTILINE)


def atomic_number(species: str) -> int:
    """Atomic number of a symbol, decorated or not; `BadRow` beyond Lr and of D and T, which pymatgen itself calls H."""
    match = _SPECIES.fullmatch(species)
    symbol = match.group(1) if match else species
    if symbol not in ATOMIC_NUMBERS:
        raise BadRow(f"unknown element: {species!r}, the element embedding holds H to Lr")
    return ATOMIC_NUMBERS[symbol]


@contextmanager
def decoding(what: str, *also: type[Exception]) -> Iterator[None]:
    """Make a `BadRow` of what pymatgen, ASE and numpy raise on text or dictionaries that are not a structure."""
    kinds: tuple[type[Exception], ...] = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
    kinds += (AssertionError, RuntimeError, *also)
    try:
        yield
    except BadRow:
        raise
    except kinds as error:
        text = " ".join(str(error).split())[:120]
        raise BadRow(f"undecodable {what}: {type(error).__name__} {text}".rstrip()) from error


# Dictionaries and objects


def from_dict(structure: Mapping[str, Any]) -> Geometry:
    """Read a pymatgen or a JARVIS dictionary, told apart by its keys; `BadRow` where it is neither, or disordered."""
    with decoding("structure"):
        if "lattice_mat" in structure:
            return _from_jarvis(structure)
        sites = structure["sites"]
        numbers = [_only_species(i, site["species"]) for i, site in enumerate(sites)]
        lattice = _numbers("lattice", structure["lattice"]["matrix"], (3, 3))
        coords = _numbers("coordinates", [site["abc"] for site in sites], (len(sites), 3))
        return Geometry(lattice, np.array(numbers, dtype=np.int64), coords)


def _numbers(what: str, values: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape and array.size:
        raise BadRow(f"undecodable structure: {what} of shape {array.shape}, not {shape}")
    return array.reshape(shape)


def _only_species(i: int, species: list[dict[str, Any]]) -> int:
    if len(species) != 1 or not abs(species[0].get("occu", 1) - 1) <= _OCCUPANCY_TOLERANCE:
        written = " ".join(f"{s['element']}{s.get('occu', 1):g}" for s in species)
        raise BadRow(f"partial occupancy: site {i} holds {written or 'nothing'}")
    return atomic_number(species[0]["element"])


def _from_jarvis(atoms: Mapping[str, Any]) -> Geometry:
    elements = atoms["elements"]
    lattice = _numbers("lattice", atoms["lattice_mat"], (3, 3))
    coords = _numbers("coordinates", atoms["coords"], (len(elements), 3))
    numbers = np.array([atomic_number(e.strip()) for e in elements], dtype=np.int64)
    if atoms.get("cartesian", False):
        if not abs(np.linalg.det(lattice)) >= 1e-9:
            raise BadRow("zero volume: Cartesian coordinates cannot be made fractional")
        coords = np.asarray(np.linalg.solve(lattice.T, coords.T).T, dtype=np.float64)
    return Geometry(lattice, numbers, coords)


def from_atoms(atoms: Any) -> Geometry:
    """Take over ASE Atoms; `BadRow` unless they are periodic along all axes."""
    if not atoms.pbc.all():
        raise BadRow("not periodic: the atoms have no lattice along all three axes")
    lattice = np.array(atoms.cell.array, dtype=np.float64)
    return Geometry(lattice, atoms.numbers.astype(np.int64), atoms.get_scaled_positions(wrap=False))


# Texts


def from_cif(text: str) -> Geometry:
    """Read CIF text that describes one structure; the cell is left as it is written, primitive or not."""
    from pymatgen.core.structure import StructureError
    from pymatgen.io.cif import CifParser

    with decoding("CIF", StructureError), warnings.catch_warnings():
        # Notes on rounded coordinates and on how symmetry was found; failures are exceptions.
        warnings.simplefilter("ignore")
        structures = CifParser(StringIO(text), check_cif=False).parse_structures(primitive=False, on_error="raise")
    if len(structures) != 1:
        raise BadRow(f"undecodable CIF: it holds {len(structures)} structures, not one")
    return from_dict(structures[0].as_dict())


def from_poscar(text: str) -> Geometry:
    """Read POSCAR text with element symbols (VASP 5 and later); where there are none, they are not guessed."""
    from pymatgen.core.structure import StructureError
    from pymatgen.io.vasp.inputs import BadPoscarWarning, Poscar

    _refuse_impossible_counts("POSCAR", text)
    with decoding("POSCAR", BadPoscarWarning, StructureError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", BadPoscarWarning)
        structure = Poscar.from_str(text).structure
    return from_dict(structure.as_dict())


def from_extxyz(text: str) -> Geometry:
    """Read extxyz text with one frame, periodic along all axes."""
    from ase import Atoms
    from ase.io import read

    _refuse_impossible_counts("extxyz", text)
    with decoding("extxyz", OSError):  # as which ASE's own error counts
        frames = read(StringIO(text), index=":", format="extxyz")
    atoms = frames[0] if len(frames) == 1 else None
    if not isinstance(atoms, Atoms):
        raise BadRow(f"undecodable extxyz: it holds {len(frames)} frames, not one")
    return from_atoms(atoms)


def _refuse_impossible_counts(what: str, text: str) -> None:
    """Refuse more atoms or columns than a text has lines: parsers take the memory before they look."""
    most = max(_HARMLESS, text.count("\n"))
    for stated in chain.from_iterable("".join(found).split() for found in _COUNTS.findall(text)):
        if len(stated) > 12 or int(stated) > most:
            raise BadRow(f"undecodable {what}: it states {stated[:12]} atoms or columns, more than it can hold")


# Files


PARSERS: Mapping[str, Callable[[str], Geometry]] = MappingProxyType(
    {".cif": from_cif, ".vasp": from_poscar, ".poscar": from_poscar, ".extxyz": from_extxyz, ".xyz": from_extxyz}
)


def parser_of(path: Path) -> Callable[[str], Geometry] | None:
    """Return what reads this structure file, by suffix or by VASP's file names; None if nothing does."""
    vasp = path.name.upper().startswith(("POSCAR", "CONTCAR"))
    return PARSERS.get(path.suffix.lower(), from_poscar if vasp else None)


def read_structure(path: Path) -> Geometry:
    """Read one structure file; `BadRow` where it cannot be taken, or its kind is not known."""
    parser = parser_of(path)
    if parser is None:
        raise BadRow(f"undecodable file: {path.name} is neither CIF, POSCAR nor extxyz by its name")
    try:
        if not path.is_file() and path.exists():
            raise BadRow("undecodable file: it is a folder or a device")
        with path.open(encoding="utf-8", errors="replace") as file:  # names of authors and remarks may be in Latin-1
            text = file.read(LARGEST_ENTRY + 1)
    except OSError as error:
        raise BadRow(f"undecodable file: {error}") from error
    if len(text) > LARGEST_ENTRY:
        raise BadRow(f"undecodable file: it has more than {LARGEST_ENTRY:,} characters")
    return parser(text)


def read_files(
    paths: Sequence[Path], workers: int = 1, known: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, Candidate]]:
    """Id and crystal of every structure file and of every row of a parquet table, in the order given.

    Args:
        paths: CIF, POSCAR or extxyz files, whose ids are their stems, or paths where several share a stem; and tables.
        workers: most processes that read structure files. known: columns of the tables with known values of a label.

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
            yield name, found if isinstance(found, str) else Crystal(name, *found)


def _rows(path: Path, known: Mapping[str, str]) -> Iterator[Crystal]:
    """Crystals of a table with known values; its functional and its other labels do not matter here."""
    from cgatlib.crystals.table import CORE_SCHEMA, CrystalTable, read_parquet, renamed, to_core

    table = read_parquet(path)
    for label, column in known.items():
        if column not in table.column_names:
            raise CgatError(f"{path} has no column {column!r}, the {label} of each crystal that the model asks for")
        table = renamed(path, table, label + KNOWN, column)
    columns = [*CORE_SCHEMA.names, *(label + KNOWN for label in known)]
    yield from CrystalTable(to_core(path, table).select(columns), functional="")


def _read_all(files: Sequence[Path], workers: int) -> Iterator[Geometry | str]:
    if (workers := min(workers, len(files) // _FILES_PER_PROCESS)) < 2:
        yield from map(_read, files)
    else:
        with Processes(workers) as pool:
            yield from pool.map(_read, files, chunksize=_FILES_PER_PROCESS // 4)


def _read(path: Path) -> Geometry | str:
    try:
        return read_structure(path)
    except BadRow as reason:
        return str(reason)


def _printable(name: str) -> str:
    """A file's name with the bytes escaped that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# What a user hands over


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
    found = [_named(structure, i) for i, structure in enumerate(given)]
    names, crystals = [name for name, _ in found], [candidate for _, candidate in found]
    for label, values in (known or {}).items():
        if len(values) != len(given):
            raise CgatError(f"{len(values)} known values of {label} were given for {len(given)} structures")
        for crystal, value in zip(crystals, values, strict=True):
            if isinstance(crystal, Crystal) and value is not None and not math.isnan(value):
                crystal.labels[label + KNOWN] = float(value)
    return names if ids is None else list(map(str, ids)), crystals


def _named(structure: Any, place: int) -> tuple[str, Candidate]:
    """Id and crystal of one structure; its labels are its own, and none."""
    if isinstance(structure, Crystal):
        return structure.material_id, replace(structure, labels={})
    name = _printable(os.fspath(structure)) if isinstance(structure, _PATH) else str(place)
    try:
        if isinstance(structure, _PATH):
            geometry = read_structure(Path(structure))
        elif hasattr(structure, "pbc") and hasattr(structure, "get_scaled_positions"):
            geometry = from_atoms(structure)
        elif hasattr(structure, "lattice") and hasattr(structure, "as_dict"):
            geometry = from_dict(structure.as_dict())
        else:
            what = f"a {type(structure).__name__}, neither a pymatgen Structure nor ASE Atoms, a Crystal or a path"
            raise CgatError(f"structure {place} is {what}")
    except BadRow as reason:
        return name, str(reason)
    return name, Crystal(name, *geometry)
