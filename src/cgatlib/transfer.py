"""Transfer learning: which weights come from the pre-trained network, which are trained, on which scale.

The three procedures of the paper (section II, Fig. 1): no transfer, only the regression head, full transfer.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cgatlib import CgatError
from cgatlib.inputs import Inputs, TargetStatistics
from cgatlib.model.cgat import CGAT
from cgatlib.model.layers import OutputNetwork

TransferMode = Literal["none", "head", "full"]


@dataclass(frozen=True)
class TransferConfig:
    """What is taken over from a pre-trained network.

    Args:
        mode: ``"none"`` trains all weights from random ones; ``"head"`` keeps the pre-trained crystal embedding and
            trains only the output network ("only regression head"); ``"full"`` trains all pre-trained weights.
        target_statistics: mean and standard deviation that normalise the target: of the new training set
            (``"target"``) or of the pre-training set (``"source"``, what the released code does).
        reinitialise_head: start the output network from random weights instead of the pre-trained ones.
    """

    mode: TransferMode = "none"
    target_statistics: Literal["target", "source"] = "target"
    reinitialise_head: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("none", "head", "full"):
            raise CgatError(f"unknown transfer mode {self.mode!r}; known: none, head, full")
        if self.target_statistics not in ("target", "source"):
            raise CgatError(f"unknown target_statistics {self.target_statistics!r}; known: target, source")
        if self.mode == "none" and (self.target_statistics == "source" or self.reinitialise_head):
            raise CgatError(
                "transfer mode 'none' takes nothing over: target_statistics and reinitialise_head do not apply"
            )


def prepare(
    network: CGAT,
    config: TransferConfig,
    source: CGAT | None,
    source_statistics: TargetStatistics | None,
    targets: Tensor,
) -> TargetStatistics:
    """Give a freshly initialised `network` its starting weights and return how its targets are normalised.

    Args:
        network: changed in place. source: the pre-trained network, of the same configuration.
        source_statistics: its target statistics. targets: (n,) labels of the new training set.

    Raises:
        CgatError: mode and source do not go together, or the two networks differ in configuration.
    """
    if (config.mode == "none") != (source is None):
        raise CgatError(f"transfer mode {config.mode!r} {'takes no' if config.mode == 'none' else 'needs a'} source")
    own = TargetStatistics.of(targets)
    if source is None or source_statistics is None:
        return own
    if source.config != network.config:
        raise CgatError(f"the source network has another configuration: {source.config} instead of {network.config}")
    fresh_head = copy.deepcopy(network.output)
    network.load_state_dict(source.state_dict())
    if config.reinitialise_head:
        network.output = fresh_head
    return own if config.target_statistics == "target" else source_statistics


def trained_part(network: CGAT, mode: TransferMode) -> CGAT | OutputNetwork:
    """The module whose weights a transfer mode trains."""
    return network.output if mode == "head" else network


@torch.no_grad()
def embed_all(network: CGAT, data: Inputs, batch_size: int = 512) -> Tensor:
    """Crystal embeddings (n, embedding_width): constant as long as only the output network is trained."""
    device = next(network.parameters()).device
    starts = range(0, len(data), batch_size)
    rows = [np.arange(start, min(start + batch_size, len(data))) for start in starts]
    return torch.cat([network.embed(data.inputs(part).to(device)) for part in rows])
