"""Neighbour shells: from a periodic crystal to the list of each atom's nearest neighbours.

The only geometry the network sees is the rank of a neighbour among those of the centre atom: the number of its
distance shell, counted outwards (1 = nearest), or a continuous measure that scales with the crystal; see
"Crystal graph attention networks" in doi:10.1039/d3dd00030c.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.values import refuse_unknown

IntArray = NDArray[np.integer]
RESOLUTION = 32  # continuous ranks are multiples of 1 / RESOLUTION
_FADE = 0.1  # how far beyond the k-th neighbour, in units of its distance, a continuous list fades out
_FULL = 64  # the weight of an edge that does not fade
_SELF = 1e-8  # Å; a pair closer than this is an atom with itself
_FACE = 1e-6  # an atom at most this fraction of a cell below a face lies on it, so that rounding does not move it


@dataclass(frozen=True)
class GraphConfig:
    """How a crystal becomes a graph.

    Args:
        neighbours: k, the number of nearest neighbours each atom lists (24 in the paper).
        ties: how neighbours are ranked, and where a list ends.

            ``"continuous"``: d_k being the distance of an atom's k-th neighbour, one at distance d has the rank
            k d / 1.1 d_k, which is no whole number, and the weight 1 up to d_k, from where it falls linearly to 0
            at 1.1 d_k. Ranks and weights depend on ratios of distances alone and change little when
            atoms move little.

            The others count shells of `tolerance`, and differ in what happens when the k-th neighbour lies in the
            middle of one. ``"whole_shells"`` lists the shell to its end, which makes the graph independent of the order
            of atoms, of the origin and of the choice of cell; ``"deterministic"`` cuts at k after sorting a shell
            by element, then atom index; ``"reference"`` cuts at k, as the released code does. There rounding decides
            which atoms of a shell are listed; here they are sorted by the lattice translation from the centre's cell to
            theirs (first, second, third component ascending), then by atom index, whatever the processor.
        tolerance: width of a shell in Å: a neighbour belongs to the shell whose nearest member is at most this much
            nearer. The released code uses 1e-8. Continuous ranks have no shells and need 0.
        receiver: which end of a listed pair it updates: in the released code the *listed neighbour*, as printed in
            equation 1b the *centre*.
        quotient: merge atoms that message passing cannot tell apart (`cgatlib.graphs.packing`); predictions stay.
        max_radius: search limit in Å; an atom with fewer than k neighbours inside it is refused.
    """

    neighbours: int = 24
    ties: Literal["continuous", "whole_shells", "deterministic", "reference"] = "whole_shells"
    tolerance: float = 1e-3
    receiver: Literal["neighbour", "centre"] = "neighbour"
    quotient: bool = True
    max_radius: float = 18.0

    def __post_init__(self) -> None:
        if not 1 <= self.neighbours <= 255:
            raise CgatError(f"neighbours must be between 1 and 255, not {self.neighbours}")
        refuse_unknown(self, "graph")
        if self.max_radius <= 0 or self.tolerance < 0:
            raise CgatError("tolerance and max_radius are lengths in Å and must be positive")
        if (self.tolerance == 0) != (self.ties == "continuous"):
            raise CgatError(f"a tolerance of {self.tolerance:g} Å does not go with {self.ties} ties")

    def reach(self, kth: NDArray) -> NDArray:
        """Distance, Å, within which every pair decides about the list of an atom whose k-th neighbour is `kth` away."""
        return kth * (1 + _FADE) if self.ties == "continuous" else kth + 2 * self.tolerance


GRAPHS = {
    "released": GraphConfig(ties="reference", tolerance=1e-8),
    "paper": GraphConfig(ties="reference", tolerance=1e-8, receiver="centre"),
    "small": GraphConfig(neighbours=12, ties="continuous", tolerance=0),
    "tiny": GraphConfig(neighbours=12, ties="continuous", tolerance=0),
    "tiny-shells": GraphConfig(neighbours=12),
}
"""Graph configurations by the name of the model configuration they belong to."""


def pairs_within(
    lattice: NDArray, numbers: IntArray, frac_coords: NDArray, config: GraphConfig
) -> tuple[IntArray, IntArray, NDArray] | str:
    """Pairs of atoms near each other, enough to find every atom's k nearest neighbours and the end of their shell.

    Args:
        lattice: (3, 3) row vectors, Å. numbers: (n,). frac_coords: (n, 3).

    Returns:
        (centre, neighbour, distance), each (pairs,), in the order in which ``ties="reference"`` lists equal
        distances; or, when an atom has fewer than k neighbours within ``config.max_radius``, the sentence that says
        which.
    """
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    n, k = len(numbers), config.neighbours
    # A sphere holding about 1.5 k + 8 atoms usually suffices.
    radius = (3 * (1.5 * k + 8) * abs(np.linalg.det(lattice)) / (4 * np.pi * n)) ** (1 / 3)
    radius = min(radius, config.max_radius)
    while True:
        centre, neighbour, distance = _search(lattice, frac_coords, radius, config.ties == "reference")
        # Only what lies safely inside the sphere counts, so that the shell of the k-th neighbour is complete.
        reach = radius + _SELF if radius >= config.max_radius else radius - config.tolerance
        found = np.bincount(centre[distance <= reach], minlength=n)
        if found.min() >= k and (radius >= config.max_radius or _lists_end(centre, distance, radius, config, n)):
            return centre, neighbour, distance
        if radius >= config.max_radius:
            atom = int(found.argmin())
            return f"atom {atom} has {found[atom]} neighbours within {config.max_radius:g} Å, fewer than {k}"
        radius = min(1.3 * radius, config.max_radius)


def _cartesian(frac: NDArray, lattice: NDArray) -> NDArray:
    """Cartesian vectors (m, 3) of fractional ones: products are added in the order of the axes.

    A matrix product would leave that order, and with it the last bit, to the processor's BLAS kernel.
    """
    a, b, c = frac.T[:, :, None] * lattice[:, None]
    return a + b + c


def _search(lattice: NDArray, frac_coords: NDArray, radius: float, ordered: bool) -> tuple[IntArray, IntArray, NDArray]:
    """All pairs within a radius, Å, with their distances; `ordered` by translation from cell to cell, neighbour."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    positions = np.ascontiguousarray(_cartesian(frac_coords, lattice))
    pbc = np.ones(3, dtype=np.int64)
    centre, neighbour, image, _ = find_points_in_spheres(positions, positions, radius, pbc, lattice, 1e-8)
    image = np.rint(image)
    x, y, z = _cartesian(frac_coords.take(neighbour, 0) + image - frac_coords.take(centre, 0), lattice).T
    distance = np.sqrt(x * x + y * y + z * z)
    other = np.flatnonzero(distance > _SELF)
    if ordered:
        cell = np.floor(frac_coords + _FACE)
        a, b, c = (image + cell[neighbour] - cell[centre])[other].T
        other = other[np.lexsort((neighbour[other], c, b, a))]
    return centre[other], neighbour[other], distance[other]


def _lists_end(centre: IntArray, distance: NDArray, radius: float, config: GraphConfig, n: int) -> bool:
    """Whether the list of every atom ends inside the sphere."""
    order = np.lexsort((distance, centre))
    start = np.searchsorted(centre[order], np.arange(n))
    return bool((config.reach(distance[order][start + config.neighbours - 1]) < radius).all())


def shell_lists(
    centre: IntArray, neighbour: IntArray, distance: NDArray, numbers: IntArray, config: GraphConfig
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Each atom's list of neighbours with their ranks and weights, for any number of crystals laid end to end.

    Args:
        centre, neighbour: (pairs,) atom indices over all crystals. distance: (pairs,) Å. numbers: (atoms,). Pairs come
            in the order of `pairs_within`.

    Returns:
        (centre, neighbour, rank, weight), each (edges,), ordered by centre, then as listed. Ranks of shells start
        at 1, and all weights are 1; continuous ranks come in steps of 1 / `RESOLUTION`, weights in steps of 1 / 64.
    """
    order = np.lexsort((distance, centre))
    centre, neighbour, distance = centre[order], neighbour[order], distance[order]
    start = np.searchsorted(centre, np.arange(len(numbers)))
    if config.ties == "continuous":
        kth = distance[start + config.neighbours - 1]
        rank, weight = _continuous(distance / kth[centre], config.neighbours)
        kept = weight > 0
        return centre[kept], neighbour[kept], rank[kept], weight[kept]
    column = np.arange(len(centre)) - start[centre]
    rank = _shell_ranks(centre, column, distance, len(numbers), config.tolerance)
    if config.ties == "whole_shells":
        kept = rank <= rank[start + config.neighbours - 1][centre]
    else:
        within = (neighbour, numbers[neighbour]) if config.ties == "deterministic" else (order,)
        order = np.lexsort((*within, rank, centre))
        neighbour, rank = neighbour[order], rank[order]
        kept = column < config.neighbours
    return centre[kept], neighbour[kept], rank[kept], np.ones(np.count_nonzero(kept), dtype=np.int64)


def _continuous(x: NDArray, k: int) -> tuple[IntArray, IntArray]:
    """Rank and weight, (pairs,), of neighbours `x` times as far away as the k-th; see `GraphConfig.ties`."""
    weight = 1 - np.clip((x - 1) / _FADE, 0, 1)
    rank = k * np.minimum(x / (1 + _FADE), 1)
    return np.rint(RESOLUTION * rank).astype(np.int64), np.rint(_FULL * weight).astype(np.int64)


def _shell_ranks(centre: IntArray, column: IntArray, distance: NDArray, n: int, tolerance: float) -> IntArray:
    """Shell number of each pair, (pairs,): a new shell opens when d exceeds the open shell's first distance."""
    table = np.full((n, column.max() + 1), np.inf)
    table[centre, column] = distance
    ranks = np.ones(table.shape, dtype=np.int64)
    first = table[:, 0]
    for j in range(1, table.shape[1]):
        opens = table[:, j] > first + tolerance
        ranks[:, j] = ranks[:, j - 1] + opens
        first = np.where(opens, table[:, j], first)
    return ranks[centre, column]
