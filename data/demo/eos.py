"""Equation of state of a crystal whose shape is fixed, and a driver that batches many of them.

Each equation of state is a generator: it yields the volumes it wants (Å³/atom) and receives their energies (eV/atom),
so that the energies of many crystals are evaluated together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Structure

WINDOW = np.array([0.88, 0.94, 1.00, 1.06, 1.12])  # volumes of a fit relative to its centre
NARROW = np.array([0.94, 0.97, 1.00, 1.03, 1.06])  # the same when the wide fit is not good enough
MAX_WINDOWS = 8
CLOSEST = 0.8  # no two atoms start nearer than this fraction of their radii's sum
MAX_RESIDUAL = 0.003  # eV/atom, of the fit and of its prediction at the minimum

Floats = NDArray[np.float64]
Search = Generator[Floats, Floats, "Minimum"]


class Dropped(Exception):
    """The crystal gets no label; the message is the reason that the datasheet counts."""


@dataclass(frozen=True)
class Minimum:
    """Result of an equation of state."""

    volume: float  # Å³/atom
    energy: float  # eV/atom, evaluated at that volume
    bulk_modulus: float  # eV/Å³
    residual: float  # eV/atom, largest deviation between fit and energies
    n_energies: int


def guess_volume(structure: Structure, numbers: NDArray[np.int64]) -> float:
    """Volume (Å³/atom) at which every atom is, on average, one sum of Slater radii from its nearest neighbour.

    Radii: J. C. Slater, J. Chem. Phys. 41, 3199 (1964), doi:10.1063/1.1725697, as carried by pymatgen.
    """
    radii = np.array([float(Element.from_Z(int(z)).atomic_radius or 1.5) for z in numbers])
    reach = 2.0 * structure.volume ** (1 / 3)
    centre, neighbour, _, distance = structure.get_neighbor_list(reach)
    ratios = []
    for i in range(len(structure)):
        mine = centre == i
        nearest = mine & (distance < distance[mine].min() * 1.05)
        ratios.append(np.mean((radii[i] + radii[neighbour[nearest]]) / distance[nearest]))
    closest = float(np.max((radii[centre] + radii[neighbour]) / distance))
    return float(structure.volume / len(structure) * max(float(np.mean(ratios)), CLOSEST * closest) ** 3)


def find_minimum(guess: float) -> Search:
    """Move a window of five volumes until the fitted minimum lies inside, then evaluate and check the fit there."""
    centre, spacing, count = guess, WINDOW, 0
    for _ in range(MAX_WINDOWS):
        window = centre * spacing
        energies = yield window
        count += len(window)
        volume, modulus, curve = birch_murnaghan(window, energies)
        lowest = int(np.argmin(energies))
        if lowest in (0, len(window) - 1) or not window[0] < volume < window[-1]:
            centre = _next_centre(window, energies, volume)
            continue
        (energy,) = yield np.array([volume])
        count += 1
        residual = float(max(np.abs(curve(window) - energies).max(), abs(float(curve(volume)) - energy)))
        if residual <= MAX_RESIDUAL:
            return Minimum(volume, float(energy), modulus, residual, count)
        if spacing is NARROW:
            raise Dropped("equation of state not smooth")
        centre, spacing = volume, NARROW
    raise Dropped("no minimum bracketed")


def _next_centre(window: Floats, energies: Floats, volume: float) -> float:
    """Downhill: the fitted minimum, no further than 1.35 times the window's centre in either direction."""
    middle = float(window[len(window) // 2])
    if energies[0] < energies[-1]:
        return float(np.clip(volume, middle / 1.35, window[0])) if volume < middle else middle / 1.25
    return float(np.clip(volume, window[-1], middle * 1.35)) if volume > middle else middle * 1.25


def birch_murnaghan(volumes: Floats, energies: Floats) -> tuple[float, float, Callable[[Floats | float], Floats]]:
    """Third-order fit: volume and bulk modulus (eV/Å³) of the minimum, and the curve.

    Linear least squares in x = V^(-2/3) (Birch, Phys. Rev. 71, 809 (1947), doi:10.1103/PhysRev.71.809). The volume is
    infinite when the curve has no minimum.
    """
    scale = float(np.median(volumes))
    fit = np.poly1d(np.polyfit((volumes / scale) ** (-2 / 3), energies, 3))

    def curve(volume: Floats | float) -> Floats:
        return np.asarray(fit((np.asarray(volume) / scale) ** (-2 / 3)))

    roots = np.roots(fit.deriv())
    minima = [float(x.real) for x in roots if abs(x.imag) < 1e-9 and x.real > 0 and fit.deriv(2)(x.real) > 0]
    if not minima:
        return float("inf"), 0.0, curve
    x = min(minima, key=lambda root: abs(root - 1))
    volume = scale * x ** (-1.5)
    modulus = float(fit.deriv(2)(x)) * (2 / 3) ** 2 * x**2 / volume  # V d²E/dV² with dx/dV = -2x/(3V)
    return volume, modulus, curve


def run_searches(
    searches: Sequence[Search], evaluate: Callable[[list[tuple[int, float]]], Floats]
) -> list[Minimum | Dropped]:
    """Run the searches side by side; `evaluate` maps pairs of search index and volume to energies

    (NaN for isolated atoms, infinite for a cell too dense to evaluate)."""
    results: dict[int, Minimum | Dropped] = {}
    wanted = {i: next(search) for i, search in enumerate(searches)}
    while wanted:
        energies = evaluate([(i, float(v)) for i, volumes in wanted.items() for v in volumes])
        following, start = {}, 0
        for i, volumes in wanted.items():
            mine = energies[start : start + len(volumes)]
            start += len(volumes)
            try:
                if np.isnan(mine).any():
                    raise Dropped("an atom has no neighbour within the potential's 6 Å")
                if np.isinf(mine).any():
                    raise Dropped("more bond angles below 3 Å than the labelling allows")
                following[i] = searches[i].send(mine)
            except StopIteration as stop:
                results[i] = stop.value
            except Dropped as reason:
                results[i] = reason
        wanted = following
    return [results[i] for i in range(len(searches))]
