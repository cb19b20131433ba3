"""Checkpoints of the authors' released network, in the sizes and under the names used here.

The released code (github.com/hyllios/CGAT) is described point by point in the methods page of the book. Parameters
that its forward pass never uses have no counterpart here: the edge attention where the edge update is the plain
network, and the whole edge update of the last step.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from cgatlib import CgatError
from cgatlib.model.cgat import HFCNN
from cgatlib.model.config import ModelConfig

Weights = Mapping[str, Tensor]


def released_config(weights: Weights) -> ModelConfig:
    """Sizes of a released network, read off its weights (its hyper-parameters misstate the edge width)."""
    try:
        width = weights["embedding.weight"].shape[0]
        rows, edge_width = weights["nbr_embedding.weight"].shape
        hidden = int((2 * width + edge_width) / 1.5)
        heads = weights["graphs.0.Node.MH_A.fc_in.weight"].shape[0] // hidden
        entry = weights["output_nn.fcs.0.weight"].shape[1]
    except KeyError as error:
        raise CgatError(f"not a released CGAT checkpoint: it has no weight {error.args[0]!r}") from error
    return ModelConfig(
        atom_width=width,
        edge_width=edge_width,
        heads=heads,
        steps=_count(weights, r"graphs\.(\d+)\.Node"),
        neighbours=rows - 1,
        output_widths=tuple(
            weights[f"output_nn.fcs.{i}.weight"].shape[0] for i in range(_count(weights, r"output_nn\.fcs\.(\d+)"))
        ),
        edge_update="plain" if "graphs.0.Edge.Pooling_NN.fcs.0.weight" in weights else "hypernetwork",
        pooling="mean" if entry == width else "concatenate",
        roost_steps=_count(weights, r"roost\.graphs\.(\d+)"),
    )


def _count(weights: Weights, pattern: str) -> int:
    return 1 + max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1)


def released_weights(weights: Weights) -> dict[str, Tensor]:
    """The weights of a released network as a state of `cgatlib.model.cgat.CGAT`; the mapping, name by name."""
    config = released_config(weights)
    state = {"atom.weight": weights["embedding.weight"], "rank": weights["nbr_embedding.weight"]}
    for t in range(config.steps):
        state |= _heads(f"nodes.{t}.fcnn", weights, [f"graphs.{t}.Node.MH_A", f"graphs.{t}.Node.MH_M"], config.heads)
        state |= _hypernetwork(f"nodes.{t}.hfcnn", weights, f"graphs.{t}.Node.Pooling_NN")
    for t in range(config.steps - 1):
        theirs = f"graphs.{t}.Edge.Pooling_NN"
        if config.edge_update == "plain":
            state |= _linear(f"edges.{t}.fcnn.0", weights, f"{theirs}.fcs.0")
            state |= _linear(f"edges.{t}.fcnn.2", weights, f"{theirs}.fc_out")
        else:
            names = [f"graphs.{t}.Edge.MH_A", f"graphs.{t}.Edge.MH_M"]
            state |= _heads(f"edges.{t}.fcnn", weights, names, config.heads)
            state |= _hypernetwork(f"edges.{t}.update", weights, theirs)
    state |= _heads("pooling.score", weights, ["cry_pool.MH_A"], config.heads)
    state |= _heads("pooling.message", weights, ["cry_pool.MH_M"], config.heads)
    return state | _composition(weights, config) | _output(weights, config)


def _linear(ours: str, weights: Weights, theirs: str) -> dict[str, Tensor]:
    return {f"{ours}.{part}": weights[f"{theirs}.{part}"] for part in ("weight", "bias")}


def _heads(ours: str, weights: Weights, theirs: list[str], heads: int) -> dict[str, Tensor]:
    """Grouped 1x1 convolutions, or plain linears (one head), of several networks as one `MultiHeadFCNN`."""
    state: dict[str, list[Tensor]] = {"w_in": [], "b_in": [], "w_out": [], "b_out": []}
    for name in theirs:
        first = f"{name}.fc_in" if f"{name}.fc_in.weight" in weights else f"{name}.fcs.0"
        state["w_in"].append(weights[f"{first}.weight"].flatten(1).unflatten(0, (heads, -1)))
        state["b_in"].append(weights[f"{first}.bias"].unflatten(0, (heads, 1, -1)))
        state["w_out"].append(weights[f"{name}.fc_out.weight"].flatten(1).unflatten(0, (heads, -1)).mT)
        state["b_out"].append(weights[f"{name}.fc_out.bias"].unflatten(0, (heads, -1)))
    return {f"{ours}.{part}": torch.stack(tensors) for part, tensors in state.items()}


def _hypernetwork(ours: str, weights: Weights, theirs: str) -> dict[str, Tensor]:
    names = [
        f"{theirs}.Hyper.layers.{layer}.{'' if layer == HFCNN.layers - 1 else 'hyper_linear.'}hypo_params.net"
        for layer in range(HFCNN.layers)
    ]
    last_w = torch.stack([weights[f"{name}.4.weight"] for name in names])  # (layer, C * C + C, C)
    last_b = torch.stack([weights[f"{name}.4.bias"] for name in names])  # (layer, C * C + C)
    width = last_w.shape[2]
    hidden_w = [[weights[f"{name}.{depth}.net.0.weight"].t() for name in names] for depth in range(4)]
    hidden_b = [[weights[f"{name}.{depth}.net.0.bias"].unsqueeze(0) for name in names] for depth in range(4)]
    state = {
        f"{ours}.network.w_hidden": torch.stack([torch.stack(row) for row in hidden_w]),
        f"{ours}.network.b_hidden": torch.stack([torch.stack(row) for row in hidden_b]),
        f"{ours}.network.w_weight": last_w[:, : width * width].unflatten(1, (width, width)),
        f"{ours}.network.b_weight": last_b[:, : width * width].unflatten(1, (width, width)),
        f"{ours}.network.w_bias": last_w[:, width * width :],
        f"{ours}.network.b_bias": last_b[:, width * width :],
    }
    if f"{theirs}.damping" in weights:
        state[f"{ours}.damping"] = weights[f"{theirs}.damping"]
    return state


def _composition(weights: Weights, config: ModelConfig) -> dict[str, Tensor]:
    state = _linear("composition.embedding", weights, "roost.embedding")
    for t in range(config.roost_steps):
        state |= _heads(f"composition.scores.{t}", weights, [f"roost.graphs.{t}.pooling.0.gate_nn"], 1)
        state |= _heads(f"composition.messages.{t}", weights, [f"roost.graphs.{t}.pooling.0.message_nn"], 1)
    state |= _heads("composition.pool", weights, ["roost.cry_pool.0.gate_nn"], 1)
    powers = [f"roost.graphs.{t}.pooling.0.pow" for t in range(config.roost_steps)] + ["roost.cry_pool.0.pow"]
    return state | {"composition.powers": torch.cat([weights[name] for name in powers])}


def _output(weights: Weights, config: ModelConfig) -> dict[str, Tensor]:
    state = _linear("output.last", weights, "output_nn.fc_out")
    for i in range(len(config.output_widths)):
        state |= _linear(f"output.linears.{i}", weights, f"output_nn.fcs.{i}")
        skip = f"output_nn.res_fcs.{i}.weight"
        if skip in weights:
            state[f"output.skips.{i}.weight"] = weights[skip]
    scales = [weights[f"output_nn.rezeros.{i}.alpha"] for i in range(len(config.output_widths))]
    return state | {"output.scales": torch.cat(scales)}
