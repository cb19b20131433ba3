"""The network as a function of crystals: what must not change its output, and that every option does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cells import MOVES, perovskite, triclinic

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GRAPHS, RESOLUTION, GraphConfig
from cgatlib.graphs.packing import pack
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import MODELS, ModelConfig, element_vectors

TINY = ModelConfig(8, 8, 2, 2, neighbours=12, output_widths=(20, 8), roost_steps=2)
VARIANTS = {
    "released": TINY,
    "printed": replace(TINY, edge_update="attention", condition="difference"),
    "hypernetwork": replace(TINY, edge_update="hypernetwork", steps=3),
    "mean": replace(TINY, pooling="mean", heads=3),
}
WHOLE = GraphConfig(neighbours=12)


def copper():
    return 1.8 * (1 - np.eye(3)), np.array([29]), np.zeros((1, 3))


CELLS = [perovskite(), triclinic(), copper()]


def network(config=TINY, seed=0) -> CGAT:
    """Fresh weights; the residual blocks are switched on, as they are once trained."""
    torch.manual_seed(seed)
    model = CGAT(config)
    torch.nn.init.constant_(model.output.scales, 0.5)
    return model


def outputs(model, cells=CELLS, graph=WHOLE) -> torch.Tensor:
    graphs, rejected = pack(cells, graph)
    assert not rejected
    with torch.no_grad():
        return model(graphs.batch(np.arange(len(graphs))))


def count(config: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in CGAT(config).parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("quotient", [True, False], ids=["quotient", "all atoms"])
@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_prediction_belongs_to_the_crystal(variant, move, quotient):
    model = network(VARIANTS[variant])
    graph = replace(WHOLE, quotient=quotient)
    before, after = outputs(model, graph=graph), outputs(model, [move(c) for c in CELLS], graph)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)
    assert before.std(0).min() > 1e-4  # it does tell the crystals apart


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("ties", ["whole_shells", "deterministic", "reference"])
@pytest.mark.parametrize("receiver", ["neighbour", "centre"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_quotient_graph_is_the_same_function(variant, receiver, ties):
    model = network(VARIANTS[variant])
    graph = GraphConfig(12, ties, receiver=receiver)
    whole = outputs(model, graph=replace(graph, quotient=False))
    torch.testing.assert_close(outputs(model, graph=graph), whole, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("variant", VARIANTS)
def test_crystals_of_a_batch_do_not_see_each_other(variant):
    model = network(VARIANTS[variant])
    together = outputs(model)
    alone = torch.cat([outputs(model, [cell]) for cell in CELLS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_has_a_gradient(variant):
    model = network(VARIANTS[variant])
    graphs, _ = pack(CELLS, WHOLE)
    model(graphs.batch(np.arange(3))).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_the_chemistry_and_the_geometry_count():
    model = network()
    lattice, numbers, coords = perovskite()
    other_element = (lattice, np.array([56, 22, 8, 8, 8]), coords)
    swapped = (lattice, np.array([22, 38, 8, 8, 8]), coords)
    values = outputs(model, [perovskite(), other_element, swapped])[:, 0]
    assert len(set(values.round(decimals=9).tolist())) == 3
    stretched = (lattice * np.array([[1.0], [1.0], [1.2]]), numbers, coords)
    assert not torch.allclose(outputs(model, [stretched]), outputs(model, [perovskite()]))


CHANGES = {
    "atom_width": 10,
    "edge_width": 12,
    "heads": 3,
    "steps": 3,
    "neighbours": 13,
    "output_widths": (20, 20, 8),
    "edge_update": "attention",
    "condition": "difference",
    "pooling": "mean",
    "roost_steps": 1,
    "elements": "one-hot",
}


def test_every_field_is_tested():
    assert {*CHANGES, "ranks"} == set(vars(TINY))


@pytest.mark.parametrize("variant", ["released", "printed", "hypernetwork"])
@pytest.mark.usefixtures("float64")
def test_between_two_ranks_the_edge_features_are_interpolated(variant):
    whole, continuous = network(VARIANTS[variant]), network(replace(VARIANTS[variant], ranks="continuous"))
    assert count(whole.config) == count(continuous.config)
    batch = pack(CELLS, WHOLE)[0].batch([0, 1, 2])
    finer = batch.clone()
    finer.rank = RESOLUTION * batch.rank
    torch.testing.assert_close(continuous(finer), whole(batch))
    rows = continuous.edge_table().view(-1, whole.rank.shape[1])
    torch.testing.assert_close(rows[RESOLUTION // 2 :: RESOLUTION], (whole.rank[1:] + whole.rank[:-1]) / 2)
    finer.rank = finer.rank - 1
    assert not torch.allclose(continuous(finer), whole(batch), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_only_ratios_of_edge_weights_matter():
    model, batch = network(), pack(CELLS, WHOLE)[0].batch([0, 1, 2])
    before = model(batch)
    batch["count"] = 64 * batch["count"]
    torch.testing.assert_close(model(batch), before)


@pytest.mark.usefixtures("float64")
def test_continuous_ranks_make_the_prediction_follow_small_moves():
    """The least loss of symmetry splits shells, and whole ranks jump; the change of continuous ones shrinks with it."""
    lattice, numbers, coords = perovskite()
    steps = np.random.default_rng(0).normal(size=(20, *coords.shape)) @ np.linalg.inv(lattice)

    def change(model, config, size):  # in Å
        moved = [(lattice, numbers, coords + size * step) for step in steps]
        return float(
            (outputs(model, moved, config) - outputs(model, [(lattice, numbers, coords)], config)).abs().mean()
        )

    continuous = network(replace(TINY, ranks="continuous")), GRAPHS["tiny"]
    assert change(*continuous, 0.002) < 0.1 * change(*continuous, 0.2)
    assert change(network(), WHOLE, 0.002) > 0.5 * change(network(), WHOLE, 0.2)


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_changes_the_network(name):
    changed = replace(TINY, **{name: CHANGES[name]})
    assert count(changed) != count(TINY)
    assert outputs(network(changed)).shape == (3, 2)


@pytest.mark.parametrize(
    "changes",
    [{"condition": "difference"}, {"edge_update": "attention"}, {"edge_update": "hypernetwork"}],
    ids=lambda changes: "-".join(changes.values()),
)
@pytest.mark.usefixtures("float64")
def test_variants_differ_with_the_same_weights(changes):
    model, other = network(), network(replace(TINY, **changes), seed=1)
    state = other.state_dict()
    shared = {k: v for k, v in model.state_dict().items() if k in state and state[k].shape == v.shape}
    other.load_state_dict(shared, strict=False)
    assert not torch.allclose(outputs(other), outputs(model), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_receiver_changes_the_prediction():
    model = network()
    cell = [triclinic()]
    released = outputs(model, cell, GraphConfig(12, "reference", receiver="neighbour"))
    printed = outputs(model, cell, GraphConfig(12, "reference", receiver="centre"))
    assert not torch.allclose(released, printed, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (ModelConfig(), 79_002_060),
        (MODELS["released"], 55_688_012),
        (ModelConfig(edge_width=128), 57_347_148),
        (MODELS["small"], 3_426_089),
    ],
    ids=["printed sizes", "released", "released, six heads", "small"],
)
def test_parameter_counts_are_the_live_ones_of_the_released_code(config, parameters):
    assert count(config) == parameters


@pytest.mark.parametrize("name", MODELS)
def test_every_named_model_has_graphs(name):
    graph, model = GRAPHS[name], MODELS[name]
    assert (graph.neighbours, graph.ties == "continuous") == (model.neighbours, model.ranks == "continuous")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"edge_update": "mlp"}, "unknown edge_update 'mlp'; known: plain, attention, hypernetwork"),
        ({"ranks": "real"}, "unknown ranks 'real'; known: whole, continuous"),
        ({"condition": "none"}, "unknown condition 'none'; known: damped, difference"),
        ({"pooling": "sum"}, "unknown pooling 'sum'; known: concatenate, mean"),
        ({"elements": "word2vec"}, "unknown elements 'word2vec'; known: matscholar, one-hot"),
        ({"heads": 0}, "heads must be from 1 to 100, not 0"),
        ({"steps": 0}, "steps must be from 1 to 100, not 0"),
        ({"edge_update": "hypernetwork", "condition": "difference"}, "exists only with condition 'damped'"),
    ],
)
def test_impossible_models_are_refused(change, sentence):
    with pytest.raises(CgatError) as refusal:
        replace(TINY, **change)
    assert sentence in str(refusal.value)


def test_damping_stays_between_zero_and_one():
    model = network()
    damping = model.nodes[1].hfcnn.damping
    for value, expected in ((-0.3, 0.0), (1.7, 1.0), (0.4, 0.4)):
        torch.nn.init.constant_(damping, value)
        outputs(model)
        assert damping.item() == pytest.approx(expected)


def test_element_vectors():
    matscholar, one_hot = element_vectors(), element_vectors("one-hot")
    assert matscholar.shape == (103, 200)
    torch.testing.assert_close(matscholar.norm(dim=1), torch.ones(103, dtype=torch.float64), rtol=0, atol=1e-6)
    assert len(torch.unique(matscholar, dim=0)) == 103
    torch.testing.assert_close(one_hot, torch.eye(103, dtype=torch.float64))
    similarity = matscholar @ matscholar.T
    chlorine, bromine, iron = 16, 34, 25
    assert similarity[chlorine, bromine] > similarity[chlorine, iron]
