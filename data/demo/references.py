"""Elemental reference energies: the lowest energy of each element at a level.

Candidates are the equations of state of all elemental prototypes; for non-metals, whose bonds cannot be scaled along
with the cell, also the library's own crystals of up to 36 atoms relaxed with the potential (cell and positions), and,
where the element is a molecule, crystals of molecules relaxed likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from chgnet.model import StructOptimizer
from decoration import ELEMENTS, Candidate
from eos import Minimum
from labelling import Cache, Potential
from prototypes import large_elemental_cells
from pymatgen.core import Lattice, Structure
from tqdm import tqdm

# bond length (Å) and volume of a molecule in the crystal (Å³), to start the relaxation
MOLECULES = {
    "H": (0.74, 38.0),
    "N": (1.10, 45.0),
    "O": (1.21, 35.0),
    "F": (1.41, 33.0),
    "Cl": (1.99, 57.0),
    "Br": (2.28, 66.0),
    "I": (2.67, 86.0),
}
NON_METALS = {*MOLECULES, "B", "C", "P", "S", "Se"}
MAX_FORCE, MAX_STEPS = 0.03, 300  # eV/Å and steps of a relaxation


def molecular_crystals(symbol: str) -> Iterator[tuple[str, Structure]]:
    """Molecules on a face-centred cubic lattice along the body diagonals (alpha N2), and as in the iodine crystal."""
    bond, volume = MOLECULES[symbol]
    edge = (4 * volume) ** (1 / 3)
    centres = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    axes = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) / np.sqrt(3)
    offset = axes * bond / 2 / edge
    coords = np.concatenate([centres + offset, centres - offset])
    yield "molecules as in alpha N2", Structure(Lattice.cubic(edge), [symbol] * 8, coords)
    iodine = next(s for label, s in large_elemental_cells() if label == "A_oC8_64_f" and s[0].specie.symbol == "I")
    like_iodine = iodine.copy()
    like_iodine.replace_species({"I": symbol})
    like_iodine.scale_lattice(len(iodine) / 2 * volume)
    yield "molecules as in iodine", like_iodine


def relaxation_starts() -> list[tuple[str, Structure]]:
    """Crystals to relax, with a key of element and name."""
    starts = []
    for label, structure in large_elemental_cells():
        if (symbol := structure[0].specie.symbol) in NON_METALS:
            starts.append((f"{symbol}: {label} relaxed", structure))
    for symbol in MOLECULES:
        starts += [(f"{symbol}: {name} relaxed", structure) for name, structure in molecular_crystals(symbol)]
    return starts


def lowest_relaxed(cache: Cache, number: int) -> list[tuple[str, Structure]]:
    """The starts that led to the lowest energies of each element at the cache's level, `number` of each."""
    starts = sorted(relaxation_starts(), key=lambda start: cache.rows[start[0]]["energy"])
    chosen = []
    for symbol in sorted(NON_METALS):
        chosen += [start for start in starts if start[0].startswith(f"{symbol}: ")][:number]
    return chosen


def relax_all(potential: Potential, starts: list[tuple[str, Structure]], cache: Cache) -> None:
    """Relax cell and positions of every start that the cache does not hold."""
    optimizer = StructOptimizer(model=potential.model, use_device="cpu")
    todo = [(key, structure) for key, structure in starts if key not in cache.rows]
    for key, start in tqdm(todo, desc=f"{potential.level} references", unit="crystal"):
        result = optimizer.relax(start, fmax=MAX_FORCE, steps=MAX_STEPS, verbose=False)
        final, steps = result["final_structure"], len(result["trajectory"])
        energy = float(result["trajectory"].energies[-1]) / len(final)
        cache.add([key], [Minimum(final.volume / len(final), energy, 0.0, 0.0, steps)])


@dataclass(frozen=True, order=True)
class Reference:
    """Lowest energy of an element."""

    energy: float  # eV/atom
    found_in: str  # prototype, or name of the relaxed crystal
    volume: float  # Å³/atom


def find_references(elements: list[Candidate], eos: Cache, relaxed: Cache) -> dict[str, Reference]:
    """The reference of each element at one level."""
    found: dict[str, list[Reference]] = {symbol: [] for symbol in ELEMENTS}
    for candidate in elements:
        row = eos.rows.get(candidate.key, {})
        if "energy" in row:
            found[candidate.elements[0]].append(Reference(row["energy"], candidate.prototype.label, row["volume"]))
    for key, _ in relaxation_starts():
        symbol, name = key.split(": ")
        if key in relaxed.rows:
            row = relaxed.rows[key]
            found[symbol].append(Reference(row["energy"], name, row["volume"]))
    return {symbol: min(options) for symbol, options in found.items() if options}
