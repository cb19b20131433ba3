"""How far predictions move when a crystal's description does, though the crystal stays what it is for its user.

Relaxed cells without symmetry, snapshots of molecular dynamics and rounded files are everyday input. A change is
judged against the error that the model makes anyway.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cgatlib.graphs.packing import Cell


def displaced(cell: Cell, rms: float, rng: np.random.Generator) -> Cell:
    """The cell with its atoms moved at random, `rms` Å in the root mean square of the length."""
    lattice, numbers, frac_coords = cell
    step = rng.normal(scale=rms / np.sqrt(3), size=frac_coords.shape)
    return lattice, numbers, frac_coords + step @ np.linalg.inv(lattice)


def rounded(cell: Cell, digits: int = 3) -> Cell:
    """The cell as a CIF with so many decimal digits gives it back: of its lengths, its angles and its coordinates."""
    from pymatgen.core import Lattice

    lattice, numbers, frac_coords = cell
    parameters = np.round(Lattice(lattice).parameters, digits)
    return Lattice.from_parameters(*parameters).matrix, numbers, np.round(frac_coords, digits)


MOVES: Mapping[str, Callable[[Cell, np.random.Generator], Cell]] = {
    "0.002 Å": lambda cell, rng: displaced(cell, 0.002, rng),
    "0.02 Å": lambda cell, rng: displaced(cell, 0.02, rng),
    "three digits": lambda cell, rng: rounded(cell),
}
"""Changes of a description: root mean square displacements of all atoms, and a CIF of three decimal digits."""


def moved(cells: list[Cell], name: str, seed: int = 0) -> list[Cell]:
    """Cells after the change `name` of `MOVES`; each cell's is drawn from the seed and its place in the list."""
    return [MOVES[name](cell, np.random.default_rng([seed, place])) for place, cell in enumerate(cells)]


def mean_change(before: NDArray, after: NDArray, mae: float) -> float:
    """Mean absolute change of predictions (n,), as a share of the model's test MAE."""
    return float(np.abs(after - before).mean() / mae)
