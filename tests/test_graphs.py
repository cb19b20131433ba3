"""Graphs and batches: what leaves them unchanged, what the quotient keeps, and that each option acts."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from cells import MOVES as SAME
from cells import perovskite, random_cell, rocksalt, rutile, supercell, triclinic
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import DTYPES, PackedGraphs, pack

WHOLE = GraphConfig(neighbours=12)
CONTINUOUS = GraphConfig(neighbours=12, ties="continuous", tolerance=0)

pytestmark = pytest.mark.filterwarnings("ignore:Unable to accurately infer 'num_nodes':UserWarning")


CELLS = {"rocksalt": rocksalt(), "perovskite": perovskite(), "rutile": rutile(), "triclinic": triclinic()}


def canonical(cell, config=WHOLE) -> Counter:
    """What distinguishes a crystal's graph from others: shares of its atoms by the tree of neighbours around them.

    Colour refinement with text hashes, apart from the package's own; multiplicities count.
    """
    graphs, rejected = pack([cell], config)
    assert not rejected
    incoming = defaultdict(list)
    for receiver, sender, rank, count in zip(graphs.receiver, graphs.sender, graphs.rank, graphs.count, strict=True):
        incoming[int(receiver)].append((int(sender), int(rank), int(count)))
    colour = {i: str(z) for i, z in enumerate(graphs.numbers.tolist())}
    for _ in range(12):  # more than these crystals have atoms
        seen = {}
        for i in colour:
            around = Counter()
            for sender, rank, count in incoming[i]:
                around[rank, colour[sender]] += count
            seen[i] = hashlib.sha256(repr((colour[i], sorted(around.items()))).encode()).hexdigest()
        colour = seen
    shares = Counter()
    for i, name in colour.items():
        shares[name] += graphs.multiplicity[i] / graphs.multiplicity.sum()
    return Counter({name: round(share, 12) for name, share in shares.items()})


def scaled(cell):
    return 1.07 * cell[0], cell[1], cell[2]


def noisy(cell):
    noise = np.random.default_rng(2).uniform(-1e-5, 1e-5, cell[2].shape)
    return cell[0], cell[1], cell[2] + noise @ np.linalg.inv(cell[0])


MOVES = [*SAME, scaled, noisy]


@pytest.mark.parametrize("quotient", [True, False], ids=["quotient", "all atoms"])
@pytest.mark.parametrize("receiver", ["neighbour", "centre"])
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
@pytest.mark.parametrize("name", CELLS)
def test_whole_shells_see_the_crystal_not_its_description(name, move, receiver, quotient):
    config = GraphConfig(12, receiver=receiver, quotient=quotient)
    assert canonical(move(CELLS[name]), config) == canonical(CELLS[name], config)


ANY_CELL = st.one_of(st.sampled_from(list(CELLS.values())), st.integers(0, 10_000).map(random_cell))


@given(cell=ANY_CELL, move=st.sampled_from(MOVES[:-1]), quotient=st.booleans())
def test_continuous_graphs_see_the_crystal_not_its_description_or_size(cell, move, quotient):
    config = replace(CONTINUOUS, quotient=quotient)
    assert canonical(move(cell), config) == canonical(cell, config)


@pytest.mark.parametrize("config", [WHOLE, CONTINUOUS], ids=["whole shells", "continuous"])
def test_different_crystals_have_different_graphs(config):
    seen = [canonical(cell, config) for cell in CELLS.values()]
    seen.append(canonical((rocksalt()[0], np.array([11, 9]), rocksalt()[2]), config))
    assert len({tuple(sorted(graph)) for graph in seen}) == len(seen)


def test_quotient_is_the_same_for_every_size_of_cell():
    small, large = (pack([cell], WHOLE)[0] for cell in (rutile(), supercell(rutile())))
    assert len(small.numbers) == len(large.numbers) == 2
    assert large.multiplicity.tolist() == [6 * m for m in small.multiplicity.tolist()]
    for name in ("receiver", "sender", "rank", "count"):
        np.testing.assert_array_equal(getattr(small, name), getattr(large, name))


@pytest.mark.parametrize("receiver", ["neighbour", "centre"])
@pytest.mark.parametrize("ties", ["continuous", "whole_shells", "deterministic", "reference"])
def test_quotient_multiplicities_add_up(ties, receiver):
    cells = list(CELLS.values())
    tolerance = 0 if ties == "continuous" else 1e-3
    config = GraphConfig(12, ties, tolerance, receiver)
    whole, _ = pack(cells, replace(config, quotient=False))
    quotient, _ = pack(cells, config)
    assert len(quotient.rank) < len(whole.rank)
    for g, cell in enumerate(cells):
        nodes = slice(quotient.node_ptr[g], quotient.node_ptr[g + 1])
        edges = slice(quotient.edge_ptr[g], quotient.edge_ptr[g + 1])
        multiplicity = quotient.multiplicity[nodes].astype(int)
        atoms = Counter()
        for number, times in zip(quotient.numbers[nodes].tolist(), multiplicity.tolist(), strict=True):
            atoms[number] += times
        assert atoms == Counter(cell[1].tolist())
        stood_for = multiplicity[quotient.receiver[edges]] * quotient.count[edges]
        assert stood_for.sum() == whole.count[whole.edge_ptr[g] : whole.edge_ptr[g + 1]].sum()


def test_each_end_can_receive():
    """Released code: the listed neighbour receives; printed equation: the centre does, so in-degrees are the lists."""
    released, _ = pack([triclinic()], GraphConfig(12, "reference", receiver="neighbour", quotient=False))
    printed, _ = pack([triclinic()], GraphConfig(12, "reference", receiver="centre", quotient=False))
    assert np.bincount(printed.receiver).tolist() == [12] * 4
    assert np.bincount(released.sender).tolist() == [12] * 4
    assert np.bincount(released.receiver, minlength=4).tolist() != [12] * 4

    def directed(receiver, sender, rank):
        return sorted(zip(receiver.tolist(), sender.tolist(), rank.tolist(), strict=True))

    assert directed(released.receiver, released.sender, released.rank) == directed(
        printed.sender, printed.receiver, printed.rank
    )


def test_edges_are_ordered_by_receiver_within_each_graph():
    graphs, _ = pack(list(CELLS.values()), WHOLE)
    for g in range(len(graphs)):
        receiver = graphs.receiver[graphs.edge_ptr[g] : graphs.edge_ptr[g + 1]]
        assert (np.diff(receiver.astype(int)) >= 0).all()
        assert receiver.max() < graphs.node_ptr[g + 1] - graphs.node_ptr[g]


def test_crystals_without_a_graph_are_named_and_the_others_kept():
    sparse = (30 * np.eye(3), np.array([1]), np.zeros((1, 3)))
    graphs, rejected = pack([sparse, rocksalt(), sparse, perovskite()], WHOLE)
    assert rejected == dict.fromkeys((0, 2), "atom 0 has 0 neighbours within 18 Å, fewer than 12")
    alone, _ = pack([rocksalt(), perovskite()], WHOLE)
    for name in DTYPES:
        np.testing.assert_array_equal(getattr(graphs, name), getattr(alone, name))
    none, rejected = pack([sparse], WHOLE)
    assert len(none) == 0
    assert list(rejected) == [0]


def test_packing_together_equals_packing_alone():
    cells = list(CELLS.values())
    together, _ = pack(cells, WHOLE)
    for g, cell in enumerate(cells):
        alone, _ = pack([cell], WHOLE)
        ours, theirs = together.graph(g), alone.graph(0)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours.keys())  # noqa: SIM118 - PyG's Data


@pytest.mark.parametrize("quotient", [True, False])
def test_batch_equals_from_data_list(quotient):
    graphs, _ = pack(list(CELLS.values()), GraphConfig(12, quotient=quotient))
    indices = np.array([3, 0, 2, 2, 1])
    target = torch.arange(5.0)
    ours = graphs.batch(indices, target)
    data = [graphs.graph(i) for i in indices]
    for one, y in zip(data, target, strict=True):
        one.y = y.reshape(1)
    theirs = Batch.from_data_list(data)
    assert set(ours.keys()) == set(theirs.keys())
    for key in theirs.keys():  # noqa: SIM118 - PyG's Batch
        assert ours[key].dtype == theirs[key].dtype, key
        assert torch.equal(ours[key], theirs[key]), key
    assert ours.num_graphs == theirs.num_graphs == 5
    assert ours.num_nodes == theirs.num_nodes
    assert "y" not in graphs.batch(indices)


def test_a_graph_too_large_for_the_records_is_refused():
    ptr, nodes, edges = np.array([0, 1]), np.array([[1, 40_000]]), np.ones((1, 4), np.int64)
    with pytest.raises(CgatError, match="a crystal is too large: its graph has a number 40000 among the nodes"):
        PackedGraphs.of(ptr, ptr, nodes, edges)
