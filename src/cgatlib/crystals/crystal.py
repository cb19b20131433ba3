"""One crystal: what it holds, its properties and functional, and what makes it unfit for the tables.

Needs numpy only; pymatgen is imported where a formula or distances ask for it.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.crystals.geometry import NEIGHBOUR_RADIUS, misfit

SYMBOLS: tuple[str, ...] = tuple(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr".split()
)
"""Element symbols by atomic number - 1; the element embedding ends at Lr (103), so the list does too."""

ATOMIC_NUMBERS: dict[str, int] = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}
NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})

MIN_DISTANCE = 0.4
"""Å; nearer atoms overlap (the shortest bond, H2, has 0.74 Å)."""
VOLUME_TOLERANCE = 0.01
"""Relative difference allowed between a source's volume per atom and that of its own lattice."""

FUNCTIONALS: Mapping[str, str] = MappingProxyType(
    {name: name.replace("r2", "r²") for name in ("PBE", "PBEsol", "SCAN", "r2SCAN", "HSE", "LDA", "OptB88vdW")}
)
"""Functionals as tables and keys name them, and as they are shown."""


def functional_name(name: str) -> str:
    """A name in the field's writing if it is known (``pbesol`` -> ``PBEsol``), else as it is; `CgatError` if empty."""
    if not name.strip():
        raise CgatError("the functional is empty; name it, e.g. PBE")
    return {known.lower(): known for known in FUNCTIONALS}.get(name.strip().lower(), name.strip())


@dataclass(frozen=True)
class Property:
    """A label: its unit, the range outside of which a value is refused, and how it and its errors are written.

    Args:
        name: of its column in tables of ours. columns: its usual names in the tables of others.
        lower, upper: physical range, in `unit`.
        title: in words. symbol: as mathtext. text: as plain text.
        error_unit: of its errors, `error_factor` times those in `unit`, with `error_digits` decimals.
    """

    name: str
    unit: str
    lower: float
    upper: float
    title: str
    symbol: str
    text: str
    columns: tuple[str, ...]
    error_unit: str
    error_factor: float = 1.0
    error_digits: int = 3

    def refuse(self, value: float) -> str | None:
        """Return why ``value`` (in ``unit``) cannot be this property, or None."""
        if math.isnan(value):
            return f"label not a number: {self.name}"
        if self.lower <= value <= self.upper:
            return None
        if self.unit == "eV/atom" and abs(value) > self.upper:
            return f"label looks per cell: {self.name} = {value:.6g}, beyond ±{self.upper:g} {self.unit}"
        return f"label out of range: {self.name} = {value:.6g}, outside {self.lower:g} to {self.upper:g} {self.unit}"


class _Properties(dict[str, Property]):
    """Properties by label: ``band_gap``, of the table's functional, and ``band_gap@HSE``, which names another one.

    Only the former are listed; the latter are made by joining tables, and have the same property.
    """

    def __contains__(self, label: object) -> bool:
        name, at, functional = str(label).partition("@")
        return super().__contains__(name) and bool(at) == bool(functional)

    def __missing__(self, label: str) -> Property:
        if label not in self:
            raise KeyError(label)
        return self[label.partition("@")[0]]


# fmt: off
_PROPERTIES = (
    Property("e_form", "eV/atom", -10.0, 10.0, title="Formation energy", symbol=r"$E_\mathrm{form}$", text="E_form",
             columns=("e_form", "formation_energy_per_atom", "formation_energy_peratom"),
             error_unit="meV/atom", error_factor=1e3, error_digits=1),
    # Distances to a hull that does not hold the compound itself may be slightly negative.
    Property("e_above_hull", "eV/atom", -1.0, 10.0, title="Distance to the hull", symbol=r"$E_\mathrm{hull}$",
             text="E_hull", columns=("e_above_hull", "ehull", "energy_above_hull"),
             error_unit="meV/atom", error_factor=1e3, error_digits=1),
    Property("band_gap", "eV", 0.0, 25.0, title="Band gap", symbol="Band gap", text="Band gap",
             columns=("band_gap", "band_gap_ind", "optb88vdw_bandgap", "bandgap"), error_unit="eV"),
    Property("volume_per_atom", "Å³/atom", 1.0, 1000.0, title="Volume", symbol="Volume", text="Volume",
             columns=("volume_per_atom",), error_unit="Å³/atom"),
)
# fmt: on
PROPERTIES: Mapping[str, Property] = _Properties((p.name, p) for p in _PROPERTIES)
"""All properties that can be learnt, by label. Whoever adds one adds it here, and nowhere else."""


GAP_THRESHOLD = 0.1
"""eV; crystals with a wider gap are non-metals. The cutoff of Hoffmann et al. (2023), section III, not tuned here."""

KNOWN = "@known"
"""What follows a property's name in that of its values by some cheaper functional."""


def labels_among(columns: Iterable[str]) -> list[str]:
    """Those names of columns that are labels: in the order of `PROPERTIES`, then those that name a functional."""
    names = {name for name in columns if name in PROPERTIES}
    return [*(name for name in PROPERTIES if name in names), *sorted(names.difference(PROPERTIES))]


@cache
def _reduced_formula(counts: tuple[tuple[int, int], ...]) -> str:
    from pymatgen.core.composition import Composition

    with warnings.catch_warnings():
        # Noble gases have no Pauling electronegativity; pymatgen says so and orders them last.
        warnings.simplefilter("ignore", UserWarning)
        return str(Composition({SYMBOLS[z - 1]: n for z, n in counts}).reduced_formula)


def reduced_formula(numbers: NDArray[np.integer]) -> str:
    """Return the reduced formula of atomic numbers (n,) in pymatgen's writing, e.g. ``NaCl``.

    The counts are divided by their greatest common divisor first, so that the cache holds one entry per
    formula; pymatgen then writes diatomic gases as molecules (``O2``) whatever the cell.
    """
    counts = sorted(Counter(numbers.tolist()).items())
    divisor = math.gcd(*(n for _, n in counts))
    return _reduced_formula(tuple((z, n // divisor) for z, n in counts))


class Geometry(NamedTuple):
    """Lattice (3, 3) Å row vectors, atomic numbers (n,), fractional coordinates (n, 3)."""

    lattice: NDArray[np.float64]
    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]


class BadRow(ValueError):
    """A row cannot be taken; the message is the reason."""


class UnreadableFile(CgatError):
    """A source cannot be read any further; the message names the file and the byte, line or entry."""


@dataclass(frozen=True, eq=False)
class Crystal:
    """One crystal as arrays.

    Attributes:
        material_id: the source's id.
        lattice: (3, 3) float64, row vectors, Å.
        numbers: (n,) atomic numbers.
        frac_coords: (n, 3) float64, fractional.
        labels: property name -> value in the unit of ``PROPERTIES``; a label that is missing has no key.
        source: where it was read, ``file#entry``, for messages.
    """

    material_id: str
    lattice: NDArray[np.float64]
    numbers: NDArray[np.integer]
    frac_coords: NDArray[np.float64]
    labels: dict[str, float] = field(default_factory=dict)
    source: str = ""

    @property
    def formula(self) -> str:
        """Reduced formula, the group key of the splits."""
        return reduced_formula(self.numbers)

    @property
    def volume_per_atom(self) -> float:
        """Cell volume over number of atoms, Å³/atom."""
        return abs(float(np.linalg.det(self.lattice))) / len(self.numbers)


@dataclass(frozen=True)
class Reject:
    """A row that was not taken: its id (empty where it has none), why, and where it stood."""

    material_id: str
    reason: str
    source: str

    @property
    def kind(self) -> str:
        """The reason up to the first colon, for counting."""
        return self.reason.split(":", 1)[0]


def check(crystal: Crystal, noble_gases: bool = True, neighbours: int | None = None) -> str | None:
    """The reason for which ``crystal`` cannot be taken, one phrase, or None; ``neighbours`` must be within 18 Å."""
    if reason := misfit(crystal.lattice, crystal.numbers, crystal.frac_coords):
        return reason
    if not noble_gases and (found := sorted(NOBLE_GASES.intersection(crystal.numbers.tolist()))):
        return f"noble gas: {SYMBOLS[found[0] - 1]}"
    return (
        _check_labels(crystal)
        or _check_overlap(crystal)
        or (_check_neighbours(crystal, neighbours) if neighbours else None)
    )


def _check_labels(crystal: Crystal) -> str | None:
    if (volume := float(np.linalg.det(crystal.lattice))) < 0:
        return f"negative volume: {volume:.6g} Å³ (left-handed lattice)"
    for name, value in {"volume_per_atom": crystal.volume_per_atom, **crystal.labels}.items():
        if reason := PROPERTIES[name].refuse(value):
            return reason
    stated = crystal.labels.get("volume_per_atom")
    if stated is not None and abs(stated / crystal.volume_per_atom - 1) > VOLUME_TOLERANCE:
        return (
            f"volume does not match the lattice: volume_per_atom = {stated:.6g}, lattice gives "
            f"{crystal.volume_per_atom:.6g} Å³/atom (per cell, or another unit?)"
        )
    return None


def _pairs_within(crystal: Crystal, radius: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Centres (p,) and distances (p,) Å of all periodic pairs within ``radius``, without each atom itself."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = np.ascontiguousarray(crystal.lattice, dtype=np.float64)
    cartesian = np.ascontiguousarray(crystal.frac_coords @ lattice)
    pbc = np.ones(3, dtype=np.int64)
    centre, other, image, distance = find_points_in_spheres(cartesian, cartesian, radius, pbc, lattice, 1e-8)
    itself = (centre == other) & (image == 0).all(axis=1)
    return centre[~itself], distance[~itself]


def _check_overlap(crystal: Crystal) -> str | None:
    distance = _pairs_within(crystal, MIN_DISTANCE)[1]
    if len(distance) and distance.min() < MIN_DISTANCE:
        return f"overlapping atoms: {distance.min():.3f} Å apart, less than {MIN_DISTANCE} Å"
    return None


def _check_neighbours(crystal: Crystal, neighbours: int) -> str | None:
    # Any point in space has a point of each sublattice within half the longest body diagonal, so a ball of
    # radius R holds at least as many of them as cells fill a ball of radius R - diagonal / 2.
    signs = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    reach = NEIGHBOUR_RADIUS - 0.5 * float(np.linalg.norm(signs @ crystal.lattice, axis=1).max())
    if reach > 0 and 4 / 3 * math.pi * reach**3 / crystal.volume_per_atom - 1 >= neighbours:
        return None
    counts = np.bincount(_pairs_within(crystal, NEIGHBOUR_RADIUS)[0], minlength=len(crystal.numbers))
    if counts.min() < neighbours:
        return f"fewer neighbours than {neighbours}: an atom has {counts.min()} within {NEIGHBOUR_RADIUS:g} Å"
    return None
