"""Equality with the released code: outputs, embeddings, loss and every parameter's gradient, in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import PackedGraphs, pack_lists
from cgatlib.model.cgat import CGAT
from cgatlib.model.released import released_config, released_weights

pytestmark = pytest.mark.usefixtures("float64")

EXCERPT = Path(__file__).parent / "golden"
NETWORKS = ("small", "wide_edges", "mean_pooling", "edge_hypernetwork", "released_head")


def dead_parameters(steps: int, hypernetwork: bool) -> set[str]:
    """Beginnings of the names that the released forward pass never uses and that are absent here."""
    last = f"graphs.{steps - 1}.Edge."
    if hypernetwork:
        return {last}
    return {last} | {f"graphs.{t}.Edge.MH_{net}." for t in range(steps) for net in "AM"}


def golden_graphs(inputs, neighbours: int, quotient: bool) -> PackedGraphs:
    """Graphs from the listed neighbours and ranks of the reference: the listed neighbour receives."""
    n_atoms, numbers = inputs["n_atoms"], inputs["numbers"]
    first = np.repeat(np.cumsum(n_atoms) - n_atoms, n_atoms)
    listed = (inputs["neighbours"][:, :neighbours] + first[:, None]).ravel()
    centre, rank = np.repeat(np.arange(len(numbers)), neighbours), inputs["ranks"][:, :neighbours].ravel()
    config = GraphConfig(neighbours, "reference", 1e-8, quotient=quotient)
    return pack_lists(n_atoms, numbers, centre, listed, rank, np.ones_like(rank), config)


@pytest.fixture(scope="module")
def inputs():
    return dict(np.load(EXCERPT / "inputs.npz"))


def golden_network(name: str, request) -> tuple[dict, dict, dict, dict]:
    """Weights, {"output", "embedding"}, gradient norms and facts of one golden network."""
    if name == "excerpt":
        arrays = dict(np.load(EXCERPT / "small.npz"))
        norms = dict(zip(arrays["gradient_names"].tolist(), arrays["gradient_norms"].tolist(), strict=True))
        facts = {"k": 12, "L": 2, "no_hyper": True}
    else:
        folder = request.getfixturevalue("shared") / "golden"
        facts = json.loads((folder / "meta.json").read_text())[name]
        arrays, norms = dict(np.load(folder / f"{name}.npz")), facts["grad_norm"]
    prefix = "weight/"
    weights = {k[len(prefix) :]: torch.from_numpy(v.astype(float)) for k, v in arrays.items() if k.startswith(prefix)}
    return weights, arrays, norms, facts


def translate(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """For each of our parameters the number of the released parameter that every entry comes from."""
    names = list(weights)
    tags = {name: torch.full_like(weights[name], float(number)) for number, name in enumerate(names)}
    return {ours: tag.long() for ours, tag in released_weights(tags).items()}, names


@pytest.mark.parametrize("quotient", [False, True], ids=["all atoms", "quotient"])
@pytest.mark.parametrize("name", ["excerpt", *NETWORKS])
def test_equals_the_released_code(name, quotient, inputs, request):
    weights, arrays, norms, facts = golden_network(name, request)
    network = CGAT(released_config(weights))
    network.load_state_dict(released_weights(weights))
    batch = golden_graphs(inputs, facts["k"], quotient).batch(np.arange(40))

    embedding = network.embed(batch)
    output = network.output(embedding)
    if name == "excerpt":
        loss = (output[:, 0] * torch.from_numpy(arrays["sign"])).mean()
    else:
        target = np.load(request.getfixturevalue("shared") / "golden" / "inputs.npz")["target"]
        loss = (output[:, 0] - torch.from_numpy(target)).abs().mean()
    loss.backward()

    np.testing.assert_allclose(output.detach().numpy(), arrays["output"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(embedding.detach().numpy(), arrays["embedding"], rtol=0, atol=1e-12)
    assert loss.item() == pytest.approx(facts.get("loss_l1", arrays.get("loss")), rel=1e-12)

    source, names = translate(weights)
    squares = torch.zeros(len(names))
    for ours, parameter in network.named_parameters():
        squares.index_add_(0, source[ours].flatten(), parameter.grad.flatten() ** 2)
    ours_norm = dict(zip(names, squares.sqrt().tolist(), strict=True))
    compared = 0
    for theirs, norm in norms.items():
        if norm is None or theirs.startswith(tuple(dead_parameters(facts["L"], not facts["no_hyper"]))):
            assert not norm, f"{theirs} is absent here but alive in the released code"
        elif norm > 1e-15:
            assert ours_norm[theirs] == pytest.approx(norm, rel=1e-10), theirs
            compared += 1
        else:  # a bias that shifts all scores of a softmax: zero but for rounding
            assert theirs.endswith(".fc_out.bias")
            assert ".MH_A." in theirs or ".gate_nn." in theirs
            assert ours_norm[theirs] < 1e-15
    assert compared > 100


@pytest.mark.parametrize("name", NETWORKS)
def test_absent_parameters_are_the_dead_ones(name, request):
    weights, _, _, facts = golden_network(name, request)
    source, names = translate(weights)
    used = {names[number] for tag in source.values() for number in tag.unique().tolist()}
    dead = tuple(dead_parameters(facts["L"], not facts["no_hyper"]))
    assert set(names) - used == {n for n in names if n.startswith(dead)}
    counted = sum(weights[n].numel() for n in used)
    assert counted == sum(p.numel() for p in CGAT(released_config(weights)).parameters())


def test_excerpt_is_the_full_sets_network(request):
    ours, arrays, norms, _ = golden_network("excerpt", request)
    full, full_arrays, full_norms, full_facts = golden_network("small", request)
    dead = tuple(dead_parameters(2, hypernetwork=False))
    assert set(ours) == {n for n in full if not n.startswith(dead)}
    assert all(torch.equal(ours[n], full[n]) for n in ours)
    np.testing.assert_array_equal(arrays["output"], full_arrays["output"])
    assert norms == full_norms
    target = np.load(request.getfixturevalue("shared") / "golden" / "inputs.npz")["target"]
    np.testing.assert_array_equal(arrays["sign"], np.sign(arrays["output"][:, 0] - target))
    assert arrays["loss"] - (arrays["sign"] * target).mean() == pytest.approx(full_facts["loss_l1"], rel=1e-12)


@pytest.mark.parametrize("quotient", [False, True], ids=["all atoms", "quotient"])
def test_released_checkpoint_predicts_the_same(quotient, inputs, shared):
    state = torch.load(shared / "golden" / "released_checkpoint.ckpt", map_location="cpu", weights_only=True)[
        "state_dict"
    ]
    weights = {name.removeprefix("model."): w.double() for name, w in state.items() if name.startswith("model.")}
    config = released_config(weights)
    assert (config.atom_width, config.edge_width, config.neighbours) == (32, 128, 12)
    network = CGAT(config)
    network.load_state_dict(released_weights(weights))
    batch = golden_graphs(inputs, 12, quotient).batch(np.arange(40))
    with torch.no_grad():
        prediction = network(batch)[:, 0] * state["std"].double() + state["mean"].double()
    expected = np.load(shared / "golden" / "released_checkpoint_predictions.npz")["prediction"]
    np.testing.assert_allclose(prediction.numpy(), expected, rtol=0, atol=1e-6)


def test_sizes_are_read_off_the_weights(request):
    weights, *_ = golden_network("excerpt", request)
    config = released_config(weights)
    assert (config.atom_width, config.edge_width, config.heads, config.steps) == (16, 16, 2, 2)
    assert (config.neighbours, config.output_widths, config.roost_steps) == (12, (64, 64, 32), 3)
    assert (config.edge_update, config.condition, config.pooling) == ("plain", "damped", "concatenate")


def test_other_checkpoints_are_refused():
    with pytest.raises(CgatError, match=r"not a released CGAT checkpoint: it has no weight 'embedding\.weight'"):
        released_config({"layer.weight": torch.zeros(2, 2)})
