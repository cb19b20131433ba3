"""Transfer learning: which weights come from the pre-trained network, which are trained, on which scale.

The three procedures of the paper (section II, Fig. 1): no transfer, only the regression head, full transfer.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cgatlib import CgatError
from cgatlib.inputs import Inputs, TargetStatistics, predict
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
            (``"target"``), of the pre-training set (``"source"``, what the released code does), or those with which the
            pre-trained network is closest to the new labels, by least squares (``"fitted"``).
        reinitialise_head: start the output network from random weights instead of the pre-trained ones.
        test_crystals: ``"unseen"`` refuses a source run with another split; ``"seen"`` lets the source have been
            trained on crystals of the test set, to measure what that leak is worth.
        source_label: which output of a source of several labels a label starts from that is not among them, or
            ``"fresh"`` for a last layer of random weights.
    """

    mode: TransferMode = "none"
    target_statistics: Literal["target", "source", "fitted"] = "target"
    reinitialise_head: bool = False
    test_crystals: Literal["unseen", "seen"] = "unseen"
    source_label: str | None = None

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"source_label": None})

    def __post_init__(self) -> None:
        scales = ("target", "source", "fitted")
        choices = {"mode": _MODES, "target_statistics": scales, "test_crystals": ("unseen", "seen")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise CgatError(f"unknown transfer {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        options = (self.target_statistics, self.reinitialise_head, self.test_crystals, self.source_label)
        if self.mode == "none" and options != ("target", False, "unseen", None):
            raise CgatError("transfer mode 'none' takes nothing over: the other transfer options do not apply")
        if self.mode == "untouched" and (self.target_statistics == "target" or self.reinitialise_head):
            raise CgatError(
                "transfer mode 'untouched' needs target_statistics 'source' or 'fitted' and the output network it has"
            )
        anew = self.reinitialise_head or self.source_label == "fresh"
        if anew and self.target_statistics == "fitted":
            raise CgatError("transfer target_statistics 'fitted' needs a pre-trained output network")
        if self.source_label == "fresh" and self.target_statistics == "source":
            raise CgatError("transfer source_label 'fresh' has no target_statistics of the source")


def outputs_taken(config: TransferConfig, labels: Sequence[str], source_labels: Sequence[str]) -> list[int | None]:
    """Which output of the source each label starts from: that of the same label, else the one that is named.

    Args:
        labels: of the new network. source_labels: of the pre-trained one; a single one stands for any label.

    Returns:
        Places in `source_labels`; None for an output with random weights.

    Raises:
        CgatError: the source has several labels, none of which is this one or the one that is named.
    """
    taken: list[int | None] = []
    for label in labels:
        related = label if label in source_labels else config.source_label
        if related is None and len(source_labels) == 1:
            related = source_labels[0]
        if related != "fresh" and related not in source_labels:
            raise CgatError(
                f"the pre-trained network has no output for {related or label}, only for {', '.join(source_labels)}: "
                f"source_label must name the one that {label} starts from, or 'fresh'"
            )
        taken.append(None if related == "fresh" else source_labels.index(related))
    return taken


def prepare(
    network: CGAT,
    config: TransferConfig,
    source: CGAT | None,
    source_statistics: TargetStatistics | None,
    train: Inputs,
    taken: Sequence[int | None] = (0,),
) -> TargetStatistics:
    """Give a freshly initialised `network` its starting weights and return how its targets are normalised.

    Args:
        network: changed in place. source: the pre-trained network, of the same configuration.
        source_statistics: its target statistics. train: the new training set.
        taken: which of its outputs the new ones start from, as `outputs_taken` says.

    Raises:
        CgatError: mode and source do not go together, the two networks differ in configuration, or no scale can be
            fitted.
    """
    if (config.mode == "none") != (source is None):
        raise CgatError(f"transfer mode {config.mode!r} {'takes no' if config.mode == 'none' else 'needs a'} source")
    own = TargetStatistics.of(train.targets)
    if source is None or source_statistics is None:
        return own
    if source.config != network.config:
        raise CgatError(f"the source network has another configuration: {source.config} instead of {network.config}")
    fresh_head = copy.deepcopy(network.output)
    network.load_state_dict(source.state_dict() | _last_layer(fresh_head, source.output, taken))
    if config.reinitialise_head:
        network.output = fresh_head
    if config.target_statistics == "fitted":
        return _fitted(network, train, own)
    theirs = source_statistics.each
    source_scales = [theirs[place] for place in taken if place is not None]
    return own if config.target_statistics == "target" else TargetStatistics.together(source_scales)


def _last_layer(fresh: OutputNetwork, source: OutputNetwork, taken: Sequence[int | None]) -> dict[str, Tensor]:
    """The last layer of the new network: two rows of the source's for each output that is taken from it."""
    state = {}
    for name, rows in source.last.state_dict().items():
        theirs, ours = rows.unflatten(0, (-1, 2)), fresh.last.state_dict()[name].unflatten(0, (-1, 2))
        chosen = [ours[i] if place is None else theirs[place] for i, place in enumerate(taken)]
        state[f"output.last.{name}"] = torch.cat(chosen)
    return state


def _fitted(network: CGAT, train: Inputs, own: TargetStatistics) -> TargetStatistics:
    """The straight line from each output to its label with the smallest squared error on the training set."""
    unit = [TargetStatistics(0.0, 1.0)] * len(own.each)
    values = predict(network, train, TargetStatistics.together(unit)).reshape(len(train), -1)
    lines = []
    for value, label in zip(values.unbind(1), train.targets.double().reshape(len(train), -1).unbind(1), strict=True):
        value, label = value[~label.isnan()], label[~label.isnan()]
        apart = value - value.mean()
        slope = float(apart @ label / (apart @ apart))
        if not slope > 0:
            raise CgatError(
                f"the pre-trained output does not rise with the new labels (slope {slope:.2g}): "
                "no scale can be fitted; take target_statistics 'target'"
            )
        lines.append(TargetStatistics(float(label.mean() - slope * value.mean()), slope))
    return TargetStatistics.together(lines)


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
