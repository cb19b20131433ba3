"""Transfer learning: which weights come from the pre-trained network, which are trained, on which scale.

The three procedures of the paper (section II, Fig. 1): no transfer, only the regression head, full transfer. Beyond it,
a support vector machine on the frozen embedding, alone, for pairs, or beside the tuned network. The machine is
scikit-learn's; its parameters are kept as tensors, so that it is stored and read like any network. For *pairs*, the
crystal's value by a cheaper functional is one more input, and the difference to it is learnt (Ramakrishnan et al., J.
Chem. Theory Comput. 11, 2087 (2015), doi:10.1021/acs.jctc.5b00099).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from cgatlib import CgatError
from cgatlib.inputs import GraphInputs, Inputs, TargetStatistics, embed_all, in_one, mean_absolute_errors, predict
from cgatlib.model.cgat import CGAT, OutputNetwork
from cgatlib.model.config import ModelConfig
from cgatlib.values import refuse_unknown

Array = NDArray[np.float64]
TransferMode = Literal["none", "untouched", "head", "full", "kernel", "paired", "average"]
STEPLESS: tuple[TransferMode, ...] = ("untouched", "kernel", "paired")
"""Modes in which no weight is trained step by step."""
Form = Literal["network", "kernel", "paired", "average"]
"""What a model is: a network, a kernel on its embedding, one for pairs, or the mean of network and kernel."""

_COEFFICIENTS = [step / 10 for step in range(11)]  # of the tuned weights, between them and the pre-trained ones
_SHARES = np.linspace(0, 1, 11)  # of the kernel in an average
# Of the kernel machine; where there are several, the validation part chooses:
_WIDTHS = (0.1, 0.3)  # gamma times the number of inputs
_PENALTIES = (1.0, 3.0, 10.0, 30.0)  # C
_TUBE = 0.05  # epsilon, in standard deviations of the labels
_KNOWN_WEIGHTS = (3.0, 10.0, 30.0)  # of what is known beside an input of the embedding
_TRIED_ON, _TRAINED_ON = 1000, 10_000  # most crystals that a choice and the final machine are trained on
_ZERO = 1e-3  # in the unit of the known value


def form_of(mode: str) -> Form:
    """The form of what a transfer mode makes."""
    return cast(Form, mode) if mode in get_args(Form) else "network"


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
        refuse_unknown(self, "transfer")
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
        Places in `source_labels`; None for an output with random weights. `CgatError` where none can be told.
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
        source, source_statistics: the pre-trained network, of the same configuration, and its target statistics.
        train: the new training set. taken: the output that each new one starts from, as `outputs_taken` says.

    Raises:
        CgatError: mode and source do not go together, the networks differ in configuration, or no scale can be fitted.
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


class KernelHead(nn.Module):
    """sum_i a_i exp(-gamma |x - x_i|^2) + b of scaled inputs x, in the place of the output network."""

    center: Tensor
    scale: Tensor
    support: Tensor
    dual: Tensor
    gamma: Tensor
    shift: Tensor

    def __init__(self, supports: int, width: int) -> None:
        super().__init__()
        for name, shape in {"center": (width,), "scale": (width,), "support": (supports, width)}.items():
            self.register_buffer(name, torch.zeros(shape))
        for name, shape in {"dual": (supports,), "gamma": (), "shift": ()}.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(G, 2) from (G, width): the value, and 0 in the place of its log standard deviation."""
        scaled = (x - self.center) / self.scale
        apart = torch.cdist(scaled, self.support, compute_mode="donot_use_mm_for_euclid_dist")  # whatever the batch
        value = torch.exp(-self.gamma * apart.square()) @ self.dual + self.shift
        return torch.stack([value, torch.zeros_like(value)], dim=1)


class KernelNetwork(nn.Module):
    """A frozen network whose output network is a `KernelHead`."""

    def __init__(self, trunk: CGAT, head: KernelHead, paired: bool = False) -> None:
        super().__init__()
        trunk.output = nn.Identity()  # type: ignore[assignment]
        self.trunk, self.head, self.paired = trunk.requires_grad_(False), head, paired

    def embed(self, batch: Batch) -> Tensor:
        """Crystal embedding (G, embedding_width)."""
        return self.trunk.embed(batch)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2) as `KernelHead` gives it; of pairs, with ``batch.known`` (G,), the value itself in its unit."""
        x = self.embed(batch)
        if not self.paired:
            return self.head(x)
        known = batch.known.to(x.dtype)
        return self.head(with_known(x, known)) + torch.column_stack([known, torch.zeros_like(known)])


def with_known(embedding: Tensor, known: Tensor) -> Tensor:
    """Inputs (G, width + 2): embedding, known value, and whether that is zero (metals, the hull)."""
    return torch.column_stack([embedding, known, (known.abs() < _ZERO).to(known.dtype)])


class Average(nn.Module):
    """The mean of a tuned network and of a kernel on the embedding that it started from."""

    share: Tensor

    def __init__(self, full: CGAT, kernel: KernelNetwork, share: float = 0.5) -> None:
        super().__init__()
        self.full, self.kernel = full, kernel
        self.register_buffer("share", torch.tensor(share))

    def embed(self, batch: Batch) -> Tensor:
        """Crystal embedding (G, embedding_width) of the tuned network."""
        return self.full.embed(batch)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2)."""
        return torch.lerp(self.full(batch), self.kernel(batch), self.share)


Network: TypeAlias = CGAT | KernelNetwork | Average


def assembled(form: Form, config: ModelConfig, labels: int, weights: Mapping[str, Tensor]) -> Network:
    """A network of a form, for weights of which the number of support vectors is taken and nothing else."""
    if form == "network":
        return CGAT(config, labels)
    dual = weights.get("head.dual" if form != "average" else "kernel.head.dual", torch.empty(0))
    head = KernelHead(dual.numel(), config.embedding_width + 2 * (form == "paired"))
    kernel = KernelNetwork(CGAT(config), head, form == "paired")
    return Average(CGAT(config), kernel) if form == "average" else kernel


def kernel_network(
    source: CGAT, train: Inputs, validation: Inputs, statistics: TargetStatistics, paired: bool
) -> KernelNetwork:
    """A kernel on the embedding that a copy of `source` gives, and of pairs on the known values too.

    Of several scales and penalties those with the lowest validation error are taken; of more than 1,000 crystals a
    part decides on them.
    """
    (x, y), (tested, truth) = (_kernel_data(source, part, statistics, paired) for part in (train, validation))
    order = np.random.default_rng(0).permutation(len(y))

    def machine(most: int, width: float, penalty: float, known: float) -> KernelHead:
        weights = np.ones(x.shape[1])
        weights[len(weights) - 2 * paired :] = known
        return _machine(x[order[:most]], y[order[:most]], width, penalty, weights)

    def error(choice: tuple[float, float, float]) -> float:
        given = machine(_TRIED_ON, *choice)(torch.from_numpy(tested).float())[:, 0]
        return float(np.abs(given.double().numpy() - truth).mean())

    best = min(product(_WIDTHS, _PENALTIES, _KNOWN_WEIGHTS if paired else (1.0,)), key=error)
    network = KernelNetwork(copy.deepcopy(source), machine(_TRAINED_ON, *best), paired)
    return network.to(next(source.parameters()).device)


def _kernel_data(source: CGAT, data: Inputs, statistics: TargetStatistics, paired: bool) -> tuple[Array, Array]:
    """Inputs of the kernel (n, width), and what it is to give, (n,)."""
    inputs, values = embed_all(source, data).cpu().double(), statistics.normalised(data.targets)
    if paired:
        known = cast(Tensor, cast(GraphInputs, data).known)
        inputs, values = with_known(inputs, known), values - known
    return inputs.numpy(), values.numpy()


def _machine(x: Array, y: Array, width: float, penalty: float, weights: Array) -> KernelHead:
    """Trained on inputs x (n, width) and values y (n,); `weights` (width,): how much each scaled input counts."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    scaler, unit = StandardScaler().fit(x), y.std() or 1.0
    scale = scaler.scale_ / weights
    machine = SVR(gamma=width / x.shape[1], C=penalty, epsilon=_TUBE)
    machine.fit((x - scaler.mean_) / scale, (y - y.mean()) / unit)
    learnt = {
        "center": scaler.mean_,
        "scale": scale,
        "support": machine.support_vectors_,
        "dual": unit * machine.dual_coef_[0],
        "gamma": machine.gamma,
        "shift": y.mean() + unit * machine.intercept_[0],
    }
    head = KernelHead(len(machine.support_), x.shape[1])
    head.load_state_dict({name: torch.as_tensor(value, dtype=torch.float32) for name, value in learnt.items()})
    return head


def best_share(full: Tensor, kernel: Tensor, target: Tensor) -> float:
    """Share of the kernel with which the mean of two predictions (n,) has the lowest error."""
    errors = [float((torch.lerp(full, kernel, share) - target).abs().mean()) for share in _SHARES]
    return float(_SHARES[int(np.argmin(errors))])


def completed(
    network: nn.Module,
    source: nn.Module,
    config: TransferConfig,
    train: Inputs,
    validation: Inputs,
    statistics: TargetStatistics,
    weights: Sequence[float] = (),
) -> tuple[nn.Module, dict[str, float]]:
    """The steps after training: interpolation with the pre-trained weights, the kernel, the mean of network and kernel.

    Args:
        network: tuned; its weights may be changed. source: as it was before. weights: of several labels.

    Returns:
        What predicts, and the validation errors of all that could have, by name, its own last.
    """

    def error(module: nn.Module) -> float:
        maes = mean_absolute_errors(predict(module, validation, statistics), validation.targets)
        return in_one(maes, statistics, weights)

    mode, tried = config.mode, {}
    if train.targets.ndim == 1:
        tried["mean of the training labels"] = float((validation.targets - train.targets.mean()).abs().mean())
    if config.target_statistics != "target":
        tried["pre-trained"] = error(source)
    if mode not in STEPLESS:
        tried["full" if mode == "average" else mode] = error(network)
    if config.interpolate:
        tried["interpolated"] = _interpolate(network, source, error)
    if form_of(mode) == "network":
        return network, tried
    kernel = kernel_network(cast(CGAT, source), train, validation, statistics, paired=mode == "paired")
    tried["kernel" if mode == "average" else mode] = error(kernel)
    if mode != "average":
        return kernel, tried
    both = _average(cast(CGAT, network), kernel, validation, statistics)
    return both, tried | {"average": error(both)}


def _average(network: CGAT, kernel: KernelNetwork, validation: Inputs, statistics: TargetStatistics) -> Average:
    full, other = (statistics.normalised(predict(each, validation, statistics)) for each in (network, kernel))
    share = best_share(full, other, statistics.normalised(validation.targets))
    return Average(network, kernel, share).to(kernel.head.dual.device)


def _interpolate(network: nn.Module, source: nn.Module, error: Callable[[nn.Module], float]) -> float:
    """Give `network` the weights between its own and the source's that have the lowest error, and return that."""
    before, after = (copy.deepcopy(each.state_dict()) for each in (source, network))

    def between(coefficient: float) -> float:
        network.load_state_dict({name: torch.lerp(before[name], after[name], coefficient) for name in after})
        return error(network)

    return between(min(_COEFFICIENTS, key=between))
