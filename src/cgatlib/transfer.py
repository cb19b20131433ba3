"""Transfer learning: which weights come from the pre-trained network, which are trained, on which scale.

The three procedures of the paper (section II, Fig. 1): no transfer, only the regression head, full transfer. Beyond it,
a kernel machine on the frozen embedding (`cgatlib.kernel`), alone, for pairs, or beside the tuned network.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cgatlib import CgatError
from cgatlib.inputs import GraphInputs, Inputs, TargetStatistics, embed_all, predict
from cgatlib.kernel import Average, KernelNetwork, best_share, form_of, kernel_network, with_known
from cgatlib.model.cgat import CGAT
from cgatlib.model.layers import OutputNetwork
from cgatlib.training import in_one, mean_absolute_errors

TransferMode = Literal["none", "untouched", "head", "full", "kernel", "paired", "average"]
_MODES = ("none", "untouched", "head", "full", "kernel", "paired", "average")
STEPLESS: tuple[TransferMode, ...] = ("untouched", "kernel", "paired")
"""Modes in which no weight is trained step by step."""
_COEFFICIENTS = [step / 10 for step in range(11)]  # of the tuned weights, between them and the pre-trained ones


@dataclass(frozen=True)
class TransferConfig:
    """What is taken over from a pre-trained network.

    Args:
        mode: ``"none"`` trains all weights from random ones; ``"untouched"`` trains nothing, the pre-trained network
            is only scored on the new test set; ``"head"`` keeps the pre-trained crystal embedding and
            trains only the output network ("only regression head"); ``"full"`` trains all pre-trained weights.
            ``"kernel"`` trains a kernel machine on the pre-trained crystal embedding; ``"paired"`` the same on the
            difference to the crystal's value by a cheaper functional, which it is told; ``"average"`` is the mean of
            ``"full"`` and ``"kernel"``, weighted by the validation part.
        target_statistics: mean and standard deviation that normalise the target: of the new training set
            (``"target"``), of the pre-training set (``"source"``, what the released code does), or those with which the
            pre-trained network is closest to the new labels, by least squares (``"fitted"``).
        reinitialise_head: start the output network from random weights instead of the pre-trained ones.
        test_crystals: ``"unseen"`` refuses a source run with another split; ``"seen"`` lets the source have been
            trained on crystals of the test set, to measure what that leak is worth.
        source_label: which output of a source of several labels a label starts from that is not among them, or
            ``"fresh"`` for a last layer of random weights.
        head_first: share of the steps in which the output network alone is trained, before all weights are.
        interpolate: keep the weights on the line from the pre-trained to the tuned ones that are best on validation.
    """

    mode: TransferMode = "none"
    target_statistics: Literal["target", "source", "fitted"] = "target"
    reinitialise_head: bool = False
    test_crystals: Literal["unseen", "seen"] = "unseen"
    source_label: str | None = None
    head_first: float = 0.0
    interpolate: bool = False

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"source_label": None, "head_first": 0.0, "interpolate": False}
    )
    LATER: ClassVar[tuple[str, ...]] = ("head_first", "interpolate")

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
        if not 0 <= self.head_first < 1:
            raise CgatError(f"transfer head_first must be at least 0 and below 1, not {self.head_first}")
        if self.mode not in ("full", "average") and (self.head_first or self.interpolate):
            raise CgatError(
                f"transfer mode {self.mode!r} does not train all weights: head_first and interpolate do not apply"
            )
        if self.mode in ("kernel", "paired") and (self.reinitialise_head or self.target_statistics != "target"):
            raise CgatError(f"transfer mode {self.mode!r} has no output network: no other transfer option applies")
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
    if len(taken) > 1 and form_of(config.mode) != "network":
        raise CgatError(f"transfer mode {config.mode!r} is for one label, not {len(taken)}")
    own = TargetStatistics.of(train.targets)
    if source is None or source_statistics is None:
        return own
    if source.config != network.config:
        raise CgatError(f"the source network has another configuration: {source.config} instead of {network.config}")
    fresh_head = copy.deepcopy(network.output)
    network.load_state_dict(source.state_dict() | _last_layer(fresh_head, source.output, taken))
    if config.reinitialise_head:
        network.output = fresh_head
    if config.mode == "paired":
        return TargetStatistics(0.0, 1.0)  # what is predicted is added to a value in the label's unit
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
    """The module whose weights a transfer mode trains; where none are, the pre-trained network."""
    return network.output if mode == "head" else network


def completed(
    network: nn.Module,
    source: nn.Module,
    config: TransferConfig,
    train: Inputs,
    validation: Inputs,
    statistics: TargetStatistics,
    weights: Sequence[float] = (),
) -> tuple[nn.Module, dict[str, float]]:
    """What follows the training of weights: the line between two sets of them, the kernel, the mean of both.

    Args:
        network: tuned; its weights may be changed. source: as it was before. weights: of several labels.

    Returns:
        What predicts, and the validation errors of all that could have, by name, its own last.
    """

    def error(module: nn.Module) -> float:
        maes = mean_absolute_errors(predict(module, validation, statistics), validation.targets)
        return in_one(maes, statistics, weights)

    tried = {}
    if train.targets.ndim == 1:
        tried["mean of the training labels"] = float((validation.targets - train.targets.mean()).abs().mean())
    if config.target_statistics != "target":
        tried["pre-trained"] = error(source)
    if config.mode not in STEPLESS:
        tried["full" if config.mode == "average" else config.mode] = error(network)
    if config.interpolate:
        tried["interpolated"] = _interpolate(network, source, error)
    if form_of(config.mode) == "network":
        return network, tried
    kernel = _kernel(cast(CGAT, source), config.mode == "paired", train, validation, statistics)
    tried["kernel" if config.mode == "average" else config.mode] = error(kernel)
    if config.mode != "average":
        return kernel, tried
    full, other = (statistics.normalised(predict(each, validation, statistics)) for each in (network, kernel))
    share = best_share(full, other, statistics.normalised(validation.targets))
    both = Average(cast(CGAT, network), kernel, share).to(next(network.parameters()).device)
    tried["average"] = error(both)
    return both, tried


def _interpolate(network: nn.Module, source: nn.Module, error: Callable[[nn.Module], float]) -> float:
    """Give `network` the weights between its own and the source's that have the lowest error, and return that."""
    before, after = (copy.deepcopy(each.state_dict()) for each in (source, network))

    def between(coefficient: float) -> float:
        network.load_state_dict({name: torch.lerp(before[name], after[name], coefficient) for name in after})
        return error(network)

    return between(min(_COEFFICIENTS, key=between))


def _kernel(
    source: CGAT, paired: bool, train: Inputs, validation: Inputs, statistics: TargetStatistics
) -> KernelNetwork:
    """On the embedding of `source`, and of pairs on the known values too."""

    def part(data: Inputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        inputs, values = embed_all(source, data).cpu().double(), statistics.normalised(data.targets)
        if paired:
            known = cast(Tensor, cast(GraphInputs, data).known)
            inputs, values = with_known(inputs, known), values - known
        return inputs.numpy(), values.numpy()

    return kernel_network(source, part(train), part(validation), paired).to(next(source.parameters()).device)
