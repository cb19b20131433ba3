"""Cells that can be searched for neighbours: what is refused before the search would fail, hang or fill the memory."""

import math

import numpy as np
from numpy.typing import NDArray

ELEMENTS = 103
"""The element embedding ends at Lr."""
NEIGHBOUR_RADIUS = 18.0
"""Å; sphere in which every atom must have its k neighbours, as in the released code."""
MAX_OFFSET = 1000.0
"""Cells; a fractional coordinate further from the origin has lost the digits that place its atom."""
MAX_SEARCH = 4_000_000
"""Places, pairs and boxes that a search for neighbours may go through: two seconds and 0.6 GB. Compact cells of 2,000
atoms need fewer."""


def misfit(lattice: NDArray[np.float64], numbers: NDArray[np.integer], frac_coords: NDArray[np.float64]) -> str | None:
    """Return why a cell has no graph, whatever its labels, or None: only what passes may be searched for neighbours."""
    n = len(numbers)
    if n == 0:
        return "no atoms"
    if unknown := sorted(z for z in set(numbers.tolist()) if not 1 <= z <= ELEMENTS):
        return f"unknown element: atomic number {unknown[0]}, the element embedding ends at Lr (103)"
    if lattice.shape != (3, 3):
        return f"bad geometry: lattice has shape {lattice.shape}, not (3, 3)"
    if frac_coords.shape != (n, 3):
        return f"bad geometry: coordinates have shape {frac_coords.shape}, not ({n}, 3)"
    if not np.isfinite(lattice).all():
        return "bad geometry: lattice is not finite"
    if not np.isfinite(frac_coords).all():
        return "bad geometry: coordinates are not finite"
    if (furthest := np.abs(frac_coords).max()) > MAX_OFFSET:
        return f"bad geometry: an atom is {furthest:.3g} cells from the origin, more than {MAX_OFFSET:g}"
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _check_search(lattice, frac_coords)


def _check_search(lattice: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> str | None:
    """Refuse a cell so flat, so skew or so large that the search for neighbours within 18 Å would not end."""
    n, volume = len(frac_coords), abs(float(np.linalg.det(lattice)))
    if not volume >= 1e-3 * n:
        return f"zero volume: {volume:.3g} Å³"
    spacing = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)  # of the lattice planes, (3,) Å
    images = n * np.prod(np.ptp(frac_coords, axis=0) + 2 * NEIGHBOUR_RADIUS / spacing + 2)
    pairs = n * n * 4 / 3 * math.pi * NEIGHBOUR_RADIUS**3 / volume
    boxes = np.prod(np.ptp(frac_coords @ lattice, axis=0) + 2)  # of 1 Å, each as large in memory as ten pairs
    if not (effort := images + pairs + 10 * boxes) <= MAX_SEARCH:
        return (
            f"bad geometry: needle-like or huge cell, {n} atoms and lattice planes {spacing.min():.3g} Å apart: its "
            f"neighbours are among {effort / 1e6:.3g} million places, more than {MAX_SEARCH / 1e6:g} million "
            "(is it the reduced cell?)"
        )
    return None
