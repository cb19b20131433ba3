"""Our weights in the layout of the reference implementation, so that both compute the same."""

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.reference import GeneratedNetwork, Reference
from cgatlib import CgatError
from cgatlib.model.cgat import CGAT, ModelConfig

UNUSED = ("edges.{step}.score.", "edges.{step}.message.")
"""Parameters that every released edge layer has and that do not act; the last step's edge layer does not act at all."""


def without_effect(name: str, config: ModelConfig) -> bool:
    """Whether a parameter of the reference implementation has no influence on its output."""
    return any(
        name.startswith(prefix.format(step=step)) for prefix in UNUSED for step in range(config.steps)
    ) or name.startswith(f"edges.{config.steps - 1}.")


def reference_of(network: CGAT) -> Reference:
    """The reference implementation with the weights of one of our networks; weights that do not act there are random.

    Raises:
        CgatError: the network is not of the released form; or a weight has no counterpart.
    """
    reference = Reference(network.config).to(network.rank.dtype)
    found = reference.load_state_dict(in_released_layout(network.state_dict()), strict=False)
    lost = [name for name in found.missing_keys if not without_effect(name, network.config)]
    if lost or found.unexpected_keys:
        raise CgatError(f"weights without a counterpart: {', '.join([*lost, *found.unexpected_keys])}")
    return reference


def in_released_layout(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names and in the shapes of `CGAT` as those of `Reference`: weights, or their gradients."""
    theirs: dict[str, Tensor] = {}
    for name in ours:
        prefix, last = name.rpartition(".")[::2]
        if last == "w_in":
            theirs |= _head_networks(prefix, ours)
        elif last == "w_hidden":
            theirs |= _generated(prefix, ours)
        elif last == "damping":
            theirs[name.replace("hfcnn", "generated")] = ours[name]
        elif name == "rank":
            theirs["rank.weight"] = ours[name]
        elif prefix.startswith("edges."):
            theirs[name.replace("fcnn", "plain")] = ours[name]
        elif last in ("weight", "bias") or name in ("composition.powers", "output.scales"):
            theirs[name] = ours[name]
    return theirs


def _head_networks(prefix: str, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One of our blocks of networks as convolutions, or (composition branch, one head) as linear layers."""
    parts = [ours[f"{prefix}.{part}"] for part in ("w_in", "b_in", "w_out", "b_out")]
    theirs = {}
    for net, (w_in, b_in, w_out, b_out) in enumerate(zip(*parts, strict=True)):
        first, second = w_in.flatten(0, 1), w_out.mT.flatten(0, 1)
        if prefix.startswith("composition."):
            name, layers = prefix.replace("scores", "gates"), ("0", "2")
        else:
            name = prefix.replace("fcnn", ("score", "message")[net]).removeprefix("pooling.")
            first, second, layers = first.unsqueeze(2), second.unsqueeze(2), ("first", "second")
        theirs |= {f"{name}.{layers[0]}.weight": first, f"{name}.{layers[0]}.bias": b_in.flatten()}
        theirs |= {f"{name}.{layers[1]}.weight": second, f"{name}.{layers[1]}.bias": b_out.flatten()}
    return theirs


def _generated(prefix: str, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    theirs = {}
    name = prefix.replace("hfcnn.network", "generated.generators")
    w_hidden, b_hidden = ours[f"{prefix}.w_hidden"], ours[f"{prefix}.b_hidden"]  # (depth, layer, in, out), (.., 1, out)
    for layer in range(GeneratedNetwork.layers):
        for depth in range(4):
            theirs[f"{name}.{layer}.{2 * depth}.weight"] = w_hidden[depth, layer].t()
            theirs[f"{name}.{layer}.{2 * depth}.bias"] = b_hidden[depth, layer, 0]
        for theirs_part, parts in (("weight", ("w_weight", "w_bias")), ("bias", ("b_weight", "b_bias"))):
            matrix, vector = (ours[f"{prefix}.{part}"][layer] for part in parts)
            theirs[f"{name}.{layer}.8.{theirs_part}"] = torch.cat([matrix.flatten(0, 1), vector])
    return theirs
