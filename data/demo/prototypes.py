"""Crystal prototypes of the demo set: the AFLOW library as shipped with pymatgen, symmetrised primitive cells.

Library: Mehl et al., Comput. Mater. Sci. 136, S1 (2017), doi:10.1016/j.commatsci.2017.01.017.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import spglib
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Structure

MAX_ATOMS = 10
SYMPREC = 0.01  # Å; the library prints 4-6 digits


@dataclass(frozen=True)
class Prototype:
    """One prototype; `slots` are its distinct species, each to be filled by one element."""

    label: str  # AFLOW label, with the native formula appended where two entries share a label
    structure: Structure  # symmetrised primitive cell with the library's own elements
    slots: tuple[Element, ...]  # the library's element of each slot
    counts: tuple[int, ...]  # atoms of each slot in the primitive cell
    swaps: tuple[tuple[int, ...], ...]  # permutations of the slots that give the same crystal (identity included)

    @property
    def slot_of_atom(self) -> np.ndarray:
        """Slot index of each atom, shape (n,)."""
        return np.array([self.slots.index(site.specie) for site in self.structure])

    @property
    def stoichiometry(self) -> tuple[int, ...]:
        """Slot counts over their common divisor, sorted: prototypes that agree in it hold the same formulas."""
        divisor = int(np.gcd.reduce(self.counts))
        return tuple(sorted(count // divisor for count in self.counts))

    def canonical(self, elements: tuple[str, ...]) -> tuple[str, ...]:
        """The first, in alphabetical order, of the equivalent decorations of this prototype."""
        return min(tuple(elements[i] for i in swap) for swap in self.swaps)


def symmetrised_primitive(structure: Structure) -> Structure:
    """Standard primitive cell with exactly symmetric lattice and positions (the library's decimals are rounded)."""
    cell = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    found = spglib.standardize_cell(cell, to_primitive=True, no_idealize=False, symprec=SYMPREC)
    if found is None:
        raise ValueError(f"spglib finds no standard cell for {structure.composition.formula}")
    lattice, coords, numbers = found
    return Structure(lattice, [Element.from_Z(int(z)) for z in numbers], _snap(coords))


def _snap(coords: np.ndarray) -> np.ndarray:
    """Coordinates in [0, 1), with multiples of 1/24 made exact to the last bit; shape (n, 3)."""
    nearest = np.round(coords * 24) / 24
    return np.where(np.abs(coords - nearest) < 1e-9, nearest, coords) % 1.0


def _equivalent_swaps(structure: Structure, slots: tuple[Element, ...]) -> tuple[tuple[int, ...], ...]:
    """Permutations of the slots under which the crystal is unchanged, e.g. Na and Cl in rock salt."""
    matcher = StructureMatcher(ltol=0.02, stol=0.02, angle_tol=1, primitive_cell=False, scale=True)
    amounts = structure.composition
    swaps = []
    for order in permutations(range(len(slots))):
        mapping = {slot: slots[i] for slot, i in zip(slots, order, strict=True)}
        if any(amounts[a] != amounts[b] for a, b in mapping.items()):
            continue
        swapped = structure.copy()
        swapped.replace_species(mapping)
        if order == tuple(range(len(slots))) or matcher.fit(structure, swapped):
            swaps.append(order)
    return tuple(swaps)


def _make(label: str, structure: Structure) -> Prototype:
    slots = tuple(sorted({site.specie for site in structure}, key=lambda element: element.symbol))
    counts = tuple(int(structure.composition[slot]) for slot in slots)
    return Prototype(label, structure, slots, counts, _equivalent_swaps(structure, slots))


def load_prototypes() -> tuple[list[Prototype], dict[str, str]]:
    """All distinct prototypes of at most MAX_ATOMS atoms, and the dropped labels with their reason."""
    entries = [(e["tags"]["aflow"], e["snl"].structure) for e in AFLOW_PROTOTYPE_LIBRARY]
    cells = [(label, symmetrised_primitive(s)) for label, s in entries]
    cells = [(label, s) for label, s in cells if len(s) <= MAX_ATOMS]
    cells.sort(key=lambda cell: -cell[1].get_space_group_info(SYMPREC)[1])  # of two equals the symmetric one stays
    labels = [label for label, _ in cells]
    named = [
        (f"{label} ({s.composition.reduced_formula})" if labels.count(label) > 1 else label, s) for label, s in cells
    ]
    repeated = _repeats(named)
    kept: dict[str, Prototype] = {}
    dropped: dict[str, str] = {}
    for i, (label, structure) in enumerate(named):
        if i in repeated or label in kept:
            dropped[label] = "repeats another prototype"
        elif not _clear_shells(structure):
            dropped[label] = "distances that differ by less than 1e-6 without being equal"
        else:
            kept[label] = _make(label, structure)
    return list(kept.values()), dropped


def _clear_shells(structure: Structure) -> bool:
    """Neighbour distances are either equal (1e-10) or clearly different (1e-6), so that shells are well defined."""
    for site in structure:
        distances = np.sort([neighbour.nn_distance for neighbour in structure.get_neighbors(site, 9.0)])
        gaps = np.diff(distances) / distances[1:]
        if np.any((gaps > 1e-10) & (gaps < 1e-6)):
            return False
    return True


def _repeats(named: list[tuple[str, Structure]]) -> set[int]:
    """Indices of prototypes that are, up to scale and element names, an earlier one."""
    matcher = StructureMatcher(ltol=0.03, stol=0.03, angle_tol=1, primitive_cell=False, scale=True)
    repeats: set[int] = set()
    for i, j in combinations(range(len(named)), 2):
        first, second = named[i][1], named[j][1]
        same = len(first) == len(second)
        same = same and first.composition.anonymized_formula == second.composition.anonymized_formula
        if same and i not in repeats and j not in repeats and matcher.fit_anonymous(first, second):
            repeats.add(j)
    return repeats


def large_elemental_cells(max_atoms: int = 36) -> list[tuple[str, Structure]]:
    """Elemental structures of the library with their own element (label, primitive cell), for the references."""
    cells = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure = entry["snl"].structure
        if len(structure.composition) == 1:
            primitive = symmetrised_primitive(structure)
            if len(primitive) <= max_atoms:
                cells.append((entry["tags"]["aflow"], primitive))
    return cells
