"""Sizes and variants of the network, by name too, and the vectors that describe the elements."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cgatlib import CgatError
from cgatlib.crystals.crystal import SYMBOLS
from cgatlib.values import refuse_unknown

ElementVectors = Literal["matscholar", "one-hot"]
# Limits against a file from elsewhere that asks for more than any machine has.
_LARGEST = dict(atom_width=10_000, edge_width=10_000, heads=100, steps=100, neighbours=255, roost_steps=100)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of the network; the defaults are the sizes printed in the paper.

    Args:
        atom_width: C. edge_width: D. heads: attention heads. steps: message-passing steps.
        neighbours: largest rank of the graphs.
        ranks: ``"whole"``, a row of the edge table for each shell; ``"continuous"``, for graphs of that kind (see
            `GraphConfig.ties`): between two rows an edge's feature is their linear interpolation.
        output_widths: hidden widths of the residual output network.
        edge_update: ``"plain"``, e + FCNN(e), which is what the released code computes; ``"attention"``, equations 2a
            to 2d as printed; ``"hypernetwork"``, the released code's other branch, a generated network on the mean
            of the heads.
        condition: what the hypernetwork sees: ``"damped"``, d h_0 + (1 - d) aggregate with a learnt d (released), or
            ``"difference"``, h_t - h_(t-1) (printed). At the first step both see h_0.
        pooling: ``"concatenate"`` the heads of the crystal embedding or take their ``"mean"``.
        roost_steps: message-passing steps of the composition branch.
        elements: which vectors describe the elements.
    """

    atom_width: int = 128
    edge_width: int = 512
    heads: int = 6
    steps: int = 5
    neighbours: int = 24
    ranks: Literal["whole", "continuous"] = "whole"
    output_widths: tuple[int, ...] = (1024, 1024, 512, 512, 256, 256, 128)
    edge_update: Literal["plain", "attention", "hypernetwork"] = "plain"
    condition: Literal["damped", "difference"] = "damped"
    pooling: Literal["concatenate", "mean"] = "concatenate"
    roost_steps: int = 3
    elements: ElementVectors = "matscholar"

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"ranks": "whole"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_widths", tuple(self.output_widths))  # a list when read from json
        for name, most in _LARGEST.items():
            if not 1 <= getattr(self, name) <= most:
                raise CgatError(f"model: {name} must be from 1 to {most}, not {getattr(self, name)}")
        if len(self.output_widths) > 100 or not all(1 <= width <= 10_000 for width in self.output_widths):
            raise CgatError("model: output_widths are at most 100 numbers from 1 to 10000")
        refuse_unknown(self, "model")
        if self.edge_update == "hypernetwork" and self.condition == "difference":
            raise CgatError("model: edge_update 'hypernetwork' exists only with condition 'damped'")

    @property
    def hidden(self) -> int:
        """Hidden width of the message-passing FCNNs."""
        return int((2 * self.atom_width + self.edge_width) / 1.5)

    @property
    def embedding_width(self) -> int:
        """Width of the crystal embedding that enters the output network."""
        return self.atom_width * (self.heads if self.pooling == "concatenate" else 1)


_TINY = ModelConfig(16, 16, 2, 2, neighbours=12, output_widths=(64, 64, 32), roost_steps=1)
MODELS = {
    "paper": ModelConfig(edge_update="attention", condition="difference"),
    "released": ModelConfig(edge_width=128, heads=5),
    "small": ModelConfig(32, 32, 2, 2, neighbours=12, ranks="continuous"),
    "tiny": replace(_TINY, ranks="continuous"),
    "tiny-shells": _TINY,
}
"""Model configurations by name; `cgatlib.graphs.neighbours.GRAPHS` has the graph configuration that goes with each."""


@cache
def element_vectors(kind: ElementVectors = "matscholar") -> Tensor:
    """Vectors of all elements, one row per atomic number starting at hydrogen.

    The matscholar vectors were learnt from the abstracts of materials-science papers (Tshitoyan et al., Nature 571, 95
    (2019), doi:10.1038/s41586-019-1335-8). Of the package that they come with only the data file is read, because
    importing it pulls in its plotting stack.

    Returns:
        float64; (103, 200) of unit length, or (103, 103) of ``"one-hot"``, which carries no chemistry.
    """
    if kind == "one-hot":
        return torch.from_numpy(np.eye(len(SYMBOLS)))
    path = resources.files("elementembeddings") / "data" / "element_representations" / "matscholar-embedding.json"
    vectors = json.loads(path.read_text())
    return torch.from_numpy(np.array([vectors[symbol] for symbol in SYMBOLS]))
