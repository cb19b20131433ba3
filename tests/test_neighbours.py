"""Neighbour lists and shell ranks: what the released code lists, and what whole shells promise."""

import math
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cells import close_packed, fluorite, perovskite, random_cell, rocksalt
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.optimization import neighbors
from pymatgen.optimization.neighbors import find_points_in_spheres

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS, RESOLUTION, GraphConfig, pairs_within, shell_lists
from cgatlib.runs.tested import digests

REFERENCE = GRAPHS["released"]


def listed(cell, config: GraphConfig):
    """(centre, neighbour, rank) of one crystal, given as (lattice, numbers, frac_coords)."""
    pairs = pairs_within(*cell, config)
    assert not isinstance(pairs, str), pairs
    return shell_lists(*pairs, cell[1], config)[:3]


TIES = {"rocksalt": rocksalt(), "perovskite": perovskite(), "close packed": close_packed(), "fluorite": fluorite()}


def neighbours_by_hand(cell, images: int = 6):
    """(neighbour, distance) of every atom by adding up lattice vectors, sorted by distance."""
    lattice, numbers, coords = cell
    n = np.arange(-images, images + 1)
    cells = np.stack(np.meshgrid(n, n, n, indexing="ij"), -1).reshape(-1, 3)
    for atom in range(len(numbers)):
        delta = (coords[None] + cells[:, None] - coords[atom]) @ lattice
        distance = np.linalg.norm(delta, axis=-1).ravel()
        neighbour = np.broadcast_to(np.arange(len(numbers)), (len(cells), len(numbers))).ravel()
        order = np.argsort(distance, kind="stable")[1:]  # without the atom itself
        yield neighbour[order], distance[order]


def ranks_by_hand(distance, tolerance: float):
    rank, first, ranks = 1, distance[0], []
    for d in distance:
        if d > first + tolerance:
            rank, first = rank + 1, d
        ranks.append(rank)
    return np.array(ranks)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("neighbours", [1, 12, 24])
def test_whole_shells_equal_a_search_by_hand(seed, neighbours):
    cell = random_cell(seed, atoms=1 + seed % 4, stretch=1 + seed % 3)
    config = GraphConfig(neighbours=neighbours)
    centre, neighbour, rank = listed(cell, config)
    for atom, (expected, distance) in enumerate(neighbours_by_hand(cell)):
        ranks = ranks_by_hand(distance[:200], config.tolerance)
        kept = ranks <= ranks[neighbours - 1]
        mine = centre == atom
        assert rank[mine].tolist() == ranks[kept].tolist()
        pairs = sorted(zip(rank[mine].tolist(), neighbour[mine].tolist(), strict=True))
        assert pairs == sorted(zip(ranks[kept].tolist(), expected[:200][kept].tolist(), strict=True))


@pytest.mark.parametrize("cell", [perovskite(), random_cell(5)], ids=["ties", "no ties"])
def test_reference_shells_are_those_of_pymatgens_list_sorted_by_distance(cell):
    """As the released code does it: every neighbour within 18 Å as an object, sorted by distance, the first 24."""
    from pymatgen.core import Structure

    structure = Structure(cell[0], cell[1], cell[2])
    _, neighbour, rank = listed(cell, REFERENCE)
    everyone = structure.get_all_neighbors(18.0)
    for atom, sites in enumerate(everyone):
        sites = sorted(sites, key=lambda site: site.nn_distance)
        ranks = ranks_by_hand([site.nn_distance for site in sites[:100]], 1e-8)
        theirs = np.array([site.index for site in sites[:100]])
        mine = slice(24 * atom, 24 * (atom + 1))
        assert rank[mine].tolist() == ranks[:24].tolist()
        for shell in range(1, ranks[23] + 1):
            ours, all_of_it = (Counter(n[r == shell]) for n, r in ((neighbour[mine], rank[mine]), (theirs, ranks)))
            assert ours <= all_of_it
            assert ours == all_of_it or shell == ranks[23]


def shells_by_hand(cell, images: int = 4):
    """(rank, translation from the centre's cell to the neighbour's, neighbour) of every atom, sorted."""
    lattice, numbers, coords = cell
    cells = np.floor(coords + 1e-6).astype(int)
    for atom in range(len(numbers)):
        found = []
        for shift in product(range(-images, images + 1), repeat=3):
            for other in range(len(numbers)):
                place = coords[other] + shift + cells[atom] - cells[other] - coords[atom]
                distance = math.hypot(*(place[0] * lattice[0] + place[1] * lattice[1] + place[2] * lattice[2]))
                if distance > 1e-8:
                    found.append((distance, shift, other))
        ranks = ranks_by_hand([distance for distance, *_ in sorted(found)], 1e-8)
        yield sorted((rank, *rest) for rank, (_, *rest) in zip(ranks.tolist(), sorted(found), strict=True))


@pytest.mark.parametrize("name", TIES)
def test_reference_order_within_a_shell_is_by_translation_then_atom(name):
    everyone = list(shells_by_hand(TIES[name]))
    for neighbours in (1, 7, 11, 24):
        lists = listed(TIES[name], GraphConfig(neighbours, ties="reference", tolerance=1e-8))
        expected = [(atom, other, rank) for atom, found in enumerate(everyone) for rank, _, other in found[:neighbours]]
        assert list(zip(*(column.tolist() for column in lists), strict=True)) == expected


@pytest.mark.parametrize("neighbours", [7, 24])
@pytest.mark.parametrize("change", ["another enumeration", "noise", "lattice vectors"])
@pytest.mark.parametrize("name", TIES)
def test_no_rounding_can_change_the_reference_order(name, change, neighbours, monkeypatch):
    lattice, numbers, coords = TIES[name]
    config = GraphConfig(neighbours, ties="reference", tolerance=1e-8)
    before = listed(TIES[name], config)
    rng = np.random.default_rng(0)
    for _ in range(2):
        if change == "another enumeration":
            monkeypatch.setattr(neighbors, "find_points_in_spheres", shuffled(find_points_in_spheres, rng))
        elif change == "noise":  # Å
            coords = TIES[name][2] + rng.normal(0, 1e-13, coords.shape) @ np.linalg.inv(lattice)
        else:
            coords = TIES[name][2] + rng.integers(-3, 4, coords.shape)
        for one, other in zip(before, listed((lattice, numbers, coords), config), strict=True):
            np.testing.assert_array_equal(one, other)


def shuffled(search, rng):
    """A search that finds the same pairs in another order, and their distances up to rounding."""

    def search_and_shuffle(*arguments):
        *pairs, distance = search(*arguments)
        order = rng.permutation(len(distance))
        return *(found[order] for found in pairs), (distance * (1 + rng.normal(0, 1e-15, len(distance))))[order]

    return search_and_shuffle


def test_reference_lists_equal_the_released_codes(shared):
    """Ranks on all 40 golden crystals; the neighbours of every shell where the released code's choice is well defined.

    It lists all shells to their end there. Which atom of a shell comes first is rounding in its lists.
    """
    golden = np.load(Path(__file__).parent / "golden" / "inputs.npz")
    crystals = CrystalTable.read(shared / "data" / "mp" / "pbe.parquet", functional="PBE")
    row = {crystal: i for i, crystal in enumerate(digests(crystals.ids, crystals.formulas).tolist())}
    ends = np.cumsum(golden["n_atoms"])
    compared = 0
    for i, name in enumerate(golden["crystal"].tolist()):
        crystal = crystals.crystal(row[name])
        mine = slice(ends[i] - golden["n_atoms"][i], ends[i])
        np.testing.assert_array_equal(crystal.numbers, golden["numbers"][mine])
        _, neighbour, rank = listed((crystal.lattice, crystal.numbers, crystal.frac_coords), REFERENCE)
        np.testing.assert_array_equal(rank.reshape(-1, 24), golden["ranks"][mine])
        if golden["tie_free"][i]:
            theirs, ranks = golden["neighbours"][mine].ravel(), golden["ranks"][mine].ravel()
            centre = np.repeat(np.arange(golden["n_atoms"][i]), 24)
            ours, theirs = (x[np.lexsort((x, ranks, centre))] for x in (neighbour, theirs))
            np.testing.assert_array_equal(ours, theirs)
            compared += 1
    assert compared == 24


@pytest.mark.parametrize("move", ["permutation", "shift", "both"])
@pytest.mark.parametrize("cell", [rocksalt(), random_cell(2)], ids=["rocksalt", "general"])
def test_deterministic_cut_keeps_the_elements_of_every_list(cell, move):
    lattice, numbers, coords = cell
    order = np.arange(len(numbers))[::-1] if move != "shift" else np.arange(len(numbers))
    shift = np.array([0.31, 2.7, -0.123]) if move != "permutation" else np.zeros(3)
    config = GraphConfig(neighbours=9, ties="deterministic")

    def elements(cell):
        centre, neighbour, rank = listed(cell, config)
        assert (np.bincount(centre) == 9).all()
        return [
            sorted(zip(rank[centre == a].tolist(), cell[1][neighbour[centre == a]].tolist(), strict=True))
            for a in range(len(cell[1]))
        ]

    before, after = elements(cell), elements((lattice, numbers[order], coords[order] + shift))
    assert after == [before[atom] for atom in order]


def test_each_tie_rule_acts():
    lengths = {ties: len(listed(rocksalt(), GraphConfig(7, ties))[0]) for ties in ("whole_shells", "deterministic")}
    assert lengths == {"whole_shells": 36, "deterministic": 14}
    cell = (rocksalt()[0], np.array([17, 11]), rocksalt()[2])  # second shell: 12 of the centre's own kind
    for atoms in (cell, fluorite()):
        deterministic = listed(atoms, GraphConfig(6, "deterministic"))
        reference = listed(atoms, GraphConfig(6, "reference"))
        np.testing.assert_array_equal(deterministic[2], reference[2])
    assert not np.array_equal(deterministic[1], reference[1])  # atoms of one element: by index, or as they come


def test_tolerance_acts():
    lattice, numbers, coords = rocksalt()
    coords = coords + np.array([[0, 0, 0], [0.004, 0, 0]])  # splits the first shell by some 0.02 Å
    cell = (lattice, numbers, coords)
    assert listed(cell, GraphConfig(6, tolerance=0.1))[2].max() == 1
    assert listed(cell, GraphConfig(6, tolerance=1e-3))[2].max() > 1


CELLS = st.one_of(
    st.sampled_from([rocksalt(), perovskite(), fluorite()]),
    st.builds(random_cell, seed=st.integers(0, 10_000), atoms=st.integers(1, 6), stretch=st.floats(0.8, 2.0)),
)
LISTED = st.sampled_from([1, 7, 12, 24])


@given(cell=CELLS, neighbours=LISTED)
def test_continuous_ranks_and_weights_follow_from_ratios_of_distances(cell, neighbours):
    config = GraphConfig(neighbours, "continuous", tolerance=0)
    centre, neighbour, rank, weight = shell_lists(*pairs_within(*cell, config), cell[1], config)
    for atom, (others, distance) in enumerate(neighbours_by_hand(cell, images=5)):
        x = distance / distance[neighbours - 1]
        expected = np.rint(64 * np.minimum(1, 1 - (x - 1) / 0.1))
        near = expected > 0
        assert weight[centre == atom].tolist() == expected[near].tolist()
        assert rank[centre == atom].tolist() == np.rint(RESOLUTION * neighbours * x[near] / 1.1).tolist()
        assert Counter(neighbour[centre == atom]) == Counter(others[near])


@given(cell=CELLS, neighbours=LISTED, seed=st.integers(0, 100), size=st.floats(1e-6, 0.1))
def test_continuous_lists_change_little_when_atoms_move_little(cell, neighbours, seed, size):
    """Moves of at most e change no rank by more than 4 k e / d_k and no weight by more than 42 e / d_k."""
    lattice, numbers, coords = cell
    step = np.random.default_rng(seed).uniform(-1, 1, coords.shape)
    step *= size / np.linalg.norm(step, axis=1).max()  # Å
    config = GraphConfig(neighbours, "continuous", tolerance=0)
    kth = min(distance[neighbours - 1] for _, distance in neighbours_by_hand(cell, images=5)) - 2 * size
    lists = []
    for frac in (coords, coords + step @ np.linalg.inv(lattice)):
        centre, _, rank, weight = shell_lists(*pairs_within(lattice, numbers, frac, config), numbers, config)
        padded = np.full((2, len(numbers), 400), [[[RESOLUTION * neighbours]], [[0]]])  # of what is not listed
        column = np.arange(len(centre)) - np.searchsorted(centre, centre)
        padded[:, centre, column] = np.stack([rank, weight])
        lists.append(padded)
    ranks, weights = np.abs(lists[1] - lists[0])
    assert ranks.max() <= RESOLUTION * 4 * neighbours * size / kth + 1  # each is rounded to a whole step
    assert weights.max() <= 64 * 42 * size / kth + 1


def test_too_few_neighbours_names_the_atom_and_the_radius():
    lattice, numbers, coords = 16.0 * np.eye(3), np.array([1, 1, 1]), np.array([[0.5] * 3, [0.0] * 3, [0.05] * 3])
    reason = pairs_within(lattice, numbers, coords, GraphConfig(24))
    assert reason == "atom 1 has 21 neighbours within 18 Å, fewer than 24"
    assert isinstance(pairs_within(lattice, numbers, coords, GraphConfig(21)), tuple)
    reason = pairs_within(*rocksalt(), GraphConfig(24, max_radius=4.0))
    assert reason == "atom 0 has 18 neighbours within 4 Å, fewer than 24"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"neighbours": 0}, "neighbours must be between 1 and 255, not 0"),
        ({"neighbours": 256}, "neighbours must be between 1 and 255, not 256"),
        ({"ties": "random"}, "unknown ties 'random'; known: continuous, whole_shells, deterministic, reference"),
        ({"receiver": "both"}, "unknown receiver 'both'; known: neighbour, centre"),
        ({"tolerance": 0.0}, "a tolerance of 0 Å does not go with whole_shells ties"),
        ({"ties": "continuous"}, "a tolerance of 0.001 Å does not go with continuous ties"),
        ({"tolerance": -1.0}, "tolerance and max_radius are lengths"),
        ({"max_radius": -1.0}, "tolerance and max_radius are lengths"),
    ],
)
def test_impossible_configurations_are_refused(change, sentence):
    with pytest.raises(CgatError, match=sentence.split(";")[0]) as refusal:
        replace(GraphConfig(), **change)
    assert sentence in str(refusal.value)
