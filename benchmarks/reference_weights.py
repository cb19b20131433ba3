"""The reference implementation and our network with the same weights, so that both compute the same."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks.reference import Reference
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import ModelConfig
from cgatlib.model.released import released_weights

_NAMES = (  # of parameters of `Reference` and of the released code, where they differ
    (r"generators\.(\d)\.8", r"Hyper.layers.\1.hyper_linear.hypo_params.net.4"),
    *((rf"generators\.(\d)\.{2 * i}", rf"Hyper.layers.\1.hyper_linear.hypo_params.net.{i}.net.0") for i in range(4)),
    (r"layers\.3\.hyper_linear", "layers.3"),
    (r"gates\.(\d+)", r"graphs.\1.pooling.0.gate_nn"),
    (r"messages\.(\d+)", r"graphs.\1.pooling.0.message_nn"),
    (r"roost\.pool\b", "roost.cry_pool.0.gate_nn"),
)


def in_our_layout(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors named as the parameters of `Reference` as those of `CGAT`: weights, or their gradients."""
    released = {}
    for name, tensor in reference.items():
        for pattern, theirs in _NAMES:
            name = re.sub(pattern, theirs, name)
        released[name] = tensor
    *powers, last = released.pop("roost.powers").split(1)
    released |= {f"roost.graphs.{t}.pooling.0.pow": power for t, power in enumerate(powers)}
    scales = released.pop("output_nn.rezeros").split(1)
    released |= {f"output_nn.rezeros.{i}.alpha": scale for i, scale in enumerate(scales)}
    return released_weights(released | {"roost.cry_pool.0.pow": last})


def same_networks(config: ModelConfig) -> tuple[Reference, CGAT]:
    """The reference implementation with random weights, and our network with the same."""
    torch.manual_seed(0)
    reference, ours = Reference(config), CGAT(config)
    nn.init.constant_(reference.output_nn.rezeros, 0.5)  # the residual blocks take part, as they do once trained
    ours.load_state_dict(in_our_layout(reference.state_dict()))
    return reference, ours
