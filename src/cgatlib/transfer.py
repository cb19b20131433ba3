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

TransferMode = Literal["none", "untouched", "head", "full"]
_MODES = ("none", "untouched", "head", "full")


@dataclass(frozen=True)
class TransferConfig:
    """What is taken over from a pre-trained network.

    Args:
        mode: ``"none"`` trains all weights from random ones; ``"untouched"`` trains nothing, the pre-trained network
            is only scored on the new test set; ``"head"`` keeps the pre-trained crystal embedding and
            trains only the output network ("only regression head"); ``"full"`` trains all pre-trained weights.
        target_statistics: mean and standard deviation that normalise the target: of the new training set
            (``"target"``) or of the pre-training set (``"source"``, what the released code does).
        reinitialise_head: start the output network from random weights instead of the pre-trained ones.
        test_crystals: ``"unseen"`` refuses a source run with another split; ``"seen"`` lets the source have been
            trained on crystals of the test set, to measure what that leak is worth.
    """

    mode: TransferMode = "none"
    target_statistics: Literal["target", "source"] = "target"
    reinitialise_head: bool = False
    test_crystals: Literal["unseen", "seen"] = "unseen"

    def __post_init__(self) -> None:
        choices = {"mode": _MODES, "target_statistics": ("target", "source"), "test_crystals": ("unseen", "seen")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise CgatError(f"unknown transfer {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        options = (self.target_statistics, self.reinitialise_head, self.test_crystals)
        if self.mode == "none" and options != ("target", False, "unseen"):
            raise CgatError("transfer mode 'none' takes nothing over: the other transfer options do not apply")
        if self.mode == "untouched" and (self.target_statistics == "target" or self.reinitialise_head):
            raise CgatError(
                "transfer mode 'untouched' needs target_statistics 'source' and a pre-trained output network"
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
    """The module whose weights a transfer mode trains; of ``"untouched"``, the one that is scored."""
    return network.output if mode == "head" else network


@torch.no_grad()
def embed_all(network: CGAT, data: Inputs, batch_size: int = 512) -> Tensor:
    """Crystal embeddings (n, embedding_width): constant as long as only the output network is trained."""
    device = next(network.parameters()).device
    starts = range(0, len(data), batch_size)
    rows = [np.arange(start, min(start + batch_size, len(data))) for start in starts]
    return torch.cat([network.embed(data.inputs(part).to(device)) for part in rows])
