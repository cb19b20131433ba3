"""Structures of the outside world to arrays: pymatgen and JARVIS dictionaries, CIF, POSCAR and extxyz text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from io import StringIO
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgatlib.crystals.checks import ATOMIC_NUMBERS
from cgatlib.crystals.readers.rows import BadRow, Geometry

SPECIES = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*[+-])?(,.*)?")
"""An element with or without oxidation state and spin: ``Na``, ``Na+``, ``Fe2.5+``, ``Fe3+,spin=5``."""

COUNTS = re.compile(r"^[ \t]*([\d_]+(?:[ \t]+[\d_]+)*)[ \t\r]*$|:[A-Z]:(\d+)", re.MULTILINE)
"""Lines of whole numbers (atoms in all, or of each element) and numbers of columns, in POSCAR and extxyz texts."""
HARMLESS = 10_000
OCCUPANCY_TOLERANCE = 1e-6

DECODE_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError)
"""What pymatgen, ASE and numpy raise on text or dictionaries that are not a structure."""


def atomic_number(species: str) -> int:
    """Return the atomic number of an element symbol, decorated or not.

    Raises:
        BadRow: no element up to Lr; deuterium and tritium, written D and T, are not taken for hydrogen.
    """
    match = SPECIES.fullmatch(species)
    symbol = match.group(1) if match else species
    if symbol not in ATOMIC_NUMBERS:
        raise BadRow(f"unknown element: {species!r}, the element embedding holds H to Lr")
    return ATOMIC_NUMBERS[symbol]


def from_dict(structure: Mapping[str, Any]) -> Geometry:
    """Read a pymatgen or a JARVIS dictionary, told apart by its keys.

    Raises:
        BadRow: neither, or partial occupancy, an unknown element, values of the wrong shape.
    """
    try:
        if "lattice_mat" in structure:
            return _from_jarvis(structure)
        return _from_pymatgen(structure)
    except BadRow:
        raise
    except DECODE_ERRORS as error:
        raise undecodable("structure", error) from error


def undecodable(what: str, error: Exception) -> BadRow:
    """Return the refusal of something that could not be decoded, with the first line of the error."""
    text = " ".join(str(error).split())[:120]
    return BadRow(f"undecodable {what}: {type(error).__name__} {text}".rstrip())


def _from_pymatgen(structure: Mapping[str, Any]) -> Geometry:
    sites = structure["sites"]
    numbers = [_only_species(i, site["species"]) for i, site in enumerate(sites)]
    coords = [site["abc"] for site in sites]
    return Geometry(
        _numbers("lattice", structure["lattice"]["matrix"], (3, 3)),
        np.array(numbers, dtype=np.int64),
        _numbers("coordinates", coords, (len(sites), 3)),
    )


def _numbers(what: str, values: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.shape != shape and array.size:
        raise BadRow(f"undecodable structure: {what} of shape {array.shape}, not {shape}")
    return array.reshape(shape)


def _only_species(i: int, species: list[dict[str, Any]]) -> int:
    if len(species) != 1 or not abs(species[0].get("occu", 1) - 1) <= OCCUPANCY_TOLERANCE:
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


def from_cif(text: str) -> Geometry:
    """Read CIF text that describes one structure; the cell is left as it is written, primitive or not.

    Raises:
        BadRow: no or several structures, partial occupancy, unknown element, not CIF.
    """
    from pymatgen.core.structure import StructureError
    from pymatgen.io.cif import CifParser

    try:
        with warnings.catch_warnings():
            # Notes on rounded coordinates and on how symmetry was found; failures are exceptions.
            warnings.simplefilter("ignore")
            parser = CifParser(StringIO(text), check_cif=False)
            structures = parser.parse_structures(primitive=False, on_error="raise")
    except (*DECODE_ERRORS, StructureError) as error:
        raise undecodable("CIF", error) from error
    if len(structures) != 1:
        raise BadRow(f"undecodable CIF: it holds {len(structures)} structures, not one")
    return from_dict(structures[0].as_dict())


def from_poscar(text: str) -> Geometry:
    """Read POSCAR text with element symbols (VASP 5 and later).

    Raises:
        BadRow: not POSCAR, or without element symbols: they are not guessed.
    """
    from pymatgen.core.structure import StructureError
    from pymatgen.io.vasp.inputs import BadPoscarWarning, Poscar

    _refuse_impossible_counts("POSCAR", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", BadPoscarWarning)
            structure = Poscar.from_str(text).structure
    except (*DECODE_ERRORS, BadPoscarWarning, StructureError) as error:
        raise undecodable("POSCAR", error) from error
    return from_dict(structure.as_dict())


def _refuse_impossible_counts(what: str, text: str) -> None:
    """Refuse more atoms or columns than a text has lines: parsers take the memory before they look."""
    most = max(HARMLESS, text.count("\n"))
    for count in chain.from_iterable("".join(found).split() for found in COUNTS.findall(text)):
        if len(count) > 12 or int(count) > most:
            raise BadRow(f"undecodable {what}: it states {count[:12]} atoms or columns, more than it can hold")


def from_extxyz(text: str) -> Geometry:
    """Read extxyz text with one frame, periodic along all axes.

    Raises:
        BadRow: not extxyz, several frames, or not periodic.
    """
    from ase import Atoms
    from ase.io import read
    from ase.io.extxyz import XYZError

    _refuse_impossible_counts("extxyz", text)
    try:
        frames = read(StringIO(text), index=":", format="extxyz")
    except (*DECODE_ERRORS, XYZError, OSError) as error:
        raise undecodable("extxyz", error) from error
    atoms = frames[0] if len(frames) == 1 else None
    if not isinstance(atoms, Atoms):
        raise BadRow(f"undecodable extxyz: it holds {len(frames)} frames, not one")
    return from_atoms(atoms)


def from_atoms(atoms: Any) -> Geometry:
    """Take over ASE Atoms that are periodic along all axes.

    Raises:
        BadRow: they are not.
    """
    if not atoms.pbc.all():
        raise BadRow("not periodic: the atoms have no lattice along all three axes")
    lattice = np.array(atoms.cell.array, dtype=np.float64)
    return Geometry(lattice, atoms.numbers.astype(np.int64), atoms.get_scaled_positions(wrap=False))
