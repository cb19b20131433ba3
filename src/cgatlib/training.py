"""The training loop: AdamW, L1 on the normalised target, a learning rate that rises and falls.

Hyper-parameters are those of section IV B of doi:10.1039/d3dd00030c unless a configuration says otherwise. Length is
counted in optimiser steps, not epochs, so that runs with training sets of different size cost the same.
"""

import copy
import hashlib
import io
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from cgatlib import CgatError
from cgatlib.graphs.packing import PackedGraphs, sent
from cgatlib.inputs import Inputs, TargetStatistics, absolute_errors, in_one, label_shares, predict, training_rows
from cgatlib.processes import end_with
from cgatlib.values import refuse_unknown

if TYPE_CHECKING:
    from lightning.fabric import Fabric

T = TypeVar("T")
_CHECK_EVERY = 20  # steps between looks at the loss; each look waits for the device
_RISE = 0.3  # share of a one-cycle in which the rate rises, as in PyTorch's OneCycleLR

_DIGEST = hashlib.sha256().digest_size  # bytes at the end of a checkpoint, of what precedes them

_LIMITS: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("steps batch_size cycles evaluations validation_size", "at least 1", lambda x: x >= 1),
    ("lowest averaging patience", "above 0 and at most 1", lambda x: 0 < x <= 1),
    ("learning_rate clip trunk_rate", "positive", lambda x: 0 < x < math.inf),
    ("weight_decay", "at least 0", lambda x: 0 <= x < math.inf),
)


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to train.

    Args:
        steps: optimiser steps. batch_size: crystals per step (512 in the paper), or all where there are fewer.
        learning_rate: highest rate of the cycle. weight_decay: of AdamW.
        cycles: of the schedule in the whole run (390 epochs with a period of 130 make 3).
        lowest: the rate between two cycles, as a share of the highest.
        evaluations: how often the validation set is scored; the best of these weights are kept.
        validation_size: crystals of the validation part that are scored; ``None`` scores all.
        precision: ``32-true`` or ``bf16-mixed``, as Lightning Fabric names them.
        schedule: a cycle is a ``"triangular"`` rise and fall (the paper's); a ``"one-cycle"``, half a cosine up in the
            first 0.3 of it and half a cosine down; or ``"cosine"``, half a cosine down.
        averaging: the weights that are scored and kept are an exponential mean of those after each step, to which a
            new one adds this share; 1 takes the last weights themselves.
        clip: largest norm of the gradient; a longer one is shortened. ``None`` leaves it as it is.
        patience: share of `steps` without a better validation error after which training stops; ``None`` goes on.
        trunk_rate: learning rate of all layers but the output network, as a share of that of the output network.
        label_weights: of several labels, how much the mean error of each counts, in training and validation; equally
            where none are given.
    """

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1.25e-4
    weight_decay: float = 1e-6
    cycles: int = 3
    lowest: float = 0.1
    evaluations: int = 30
    validation_size: int | None = None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    schedule: Literal["triangular", "one-cycle", "cosine"] = "triangular"
    averaging: float = 1.0
    clip: float | None = None
    patience: float | None = None
    trunk_rate: float = 1.0
    label_weights: tuple[float, ...] = ()

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType(
        dict(schedule="triangular", averaging=1.0, clip=None, patience=None, trunk_rate=1.0, label_weights=())
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_weights", tuple(self.label_weights))  # a list in a plan
        for names, limit, holds in _LIMITS:
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise CgatError(f"training: {name} must be {limit}, not {value}")
        refuse_unknown(self, "training")
        if not all(0 < weight < math.inf for weight in self.label_weights):
            raise CgatError(f"training: label_weights must be positive, not {', '.join(map(str, self.label_weights))}")
        if self.evaluations > self.steps:
            raise CgatError(f"training: {self.evaluations} evaluations do not fit into {self.steps} steps")

    def factor(self, step: int) -> float:
        """Share of the highest learning rate at `step`, between `lowest` and 1."""
        phase = step * self.cycles / self.steps % 1
        if self.schedule == "triangular":
            height = 1 - abs(2 * phase - 1)
        else:
            rise = _RISE if self.schedule == "one-cycle" else 0.0
            fallen = 1 - phase / rise if phase < rise else (phase - rise) / (1 - rise)
            height = (1 + math.cos(math.pi * fallen)) / 2
        return self.lowest + (1 - self.lowest) * height

    def evaluates(self, step: int) -> bool:
        """Whether the validation set is scored after `step` steps; always after the last."""
        return step * self.evaluations // self.steps > (step - 1) * self.evaluations // self.steps

    def gives_up(self, step: int, best_step: int) -> bool:
        """Whether to stop after `step` steps, `best_step` being that of the lowest validation error."""
        return self.patience is not None and step - best_step >= self.patience * self.steps


@dataclass
class Progress:
    """Everything besides weights and optimiser state that a resumed run needs."""

    step: int = 0
    best_step: int = 0
    best_mae: float = math.inf  # as `in_one`
    best_maes: list[float] = field(default_factory=list)  # of each label in its unit
    stopped: str = ""  # by "patience" or at the end of the "budget"
    curve: list[dict[str, float]] = field(default_factory=list)
    earlier_seconds: float = field(default=0.0, compare=False)  # spent by the processes that were interrupted


def fit(
    network: nn.Module,
    train: Inputs,
    validation: Inputs,
    statistics: TargetStatistics,
    config: TrainingConfig,
    seed: int,
    checkpoint: Path,
    fabric: "Fabric | None" = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train `network` and leave the weights with the best validation MAE in it.

    Of several labels, errors are in units of each label's scale, and their mean over the labels is weighted as
    ``config.label_weights`` says; a crystal without a label says nothing of that label.

    Args:
        network: maps ``train.inputs(rows)`` to (B, 2 L); only parameters that require a gradient are trained.
        statistics: how targets are normalised. seed: of the order of the training rows.
        checkpoint: file written at each evaluation and resumed from. report: called after each evaluation.
        fabric: of `fabric_of`; one CPU process by default. With several processes each calls this function, takes its
            share of every batch and of the validation set, and returns the same.

    Raises:
        CgatError: the loss is no longer finite; the checkpoint belongs to another configuration or is damaged; or there
            are more processes than crystals in a batch.
    """
    fabric = fabric or fabric_of("cpu", 1, config.precision)
    loop = TrainingLoop(network, train, validation, statistics, config, seed, checkpoint, fabric)
    progress = loop.progress
    for step in range(progress.step, config.steps):
        if config.gives_up(progress.step, progress.best_step):
            break
        loop.step(step)
        if config.evaluates(step + 1):
            loop.evaluate(step + 1)
            report(progress)
    progress.stopped = "budget" if progress.step == config.steps else "patience"
    network.load_state_dict(loop.best)
    return progress


@dataclass(eq=False)
class TrainingLoop:
    """The state of a training run between two steps."""

    network: nn.Module
    train: Inputs
    validation: Inputs
    statistics: TargetStatistics
    config: TrainingConfig
    seed: int
    checkpoint: Path
    fabric: "Fabric"

    def __post_init__(self) -> None:
        self.start = time.perf_counter()
        self.batch_size = min(self.config.batch_size, len(self.train))
        if self.fabric.world_size > self.batch_size:
            raise CgatError(
                f"training: a batch of {self.batch_size} cannot be shared by {self.fabric.world_size} processes"
            )
        rate, decay = self.config.learning_rate, self.config.weight_decay
        self.averaged = self.network.to(self.fabric.device)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=rate, weight_decay=decay, fused=True)
        if self.config.averaging < 1:
            self.averaged = copy.deepcopy(self.network)
        self.model, self.wrapped = self.fabric.setup(self.network, self.optimizer)
        self._place_targets()
        self.progress, self.best = Progress(), copy.deepcopy(self.network.state_dict())
        self.losses: list[Tensor] = []  # of the steps since the last evaluation, left on the device
        if self.checkpoint.exists():
            self._resume()

    def _place_targets(self) -> None:
        """Targets (n, L) and what an error in each of them adds to the loss, on the device."""
        n = len(self.train)
        targets = self.statistics.normalised(self.train.targets).reshape(n, -1)
        known = ~targets.isnan()
        shares = label_shares(self.config.label_weights, targets.shape[1])
        weights = known * shares * (n / known.sum(0))  # so that the loss is the mean of the labels' mean errors
        self.targets = self.fabric.to_device(targets.where(known, 0).float())
        self.weights = self.fabric.to_device(weights.float())

    def _groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser: two where all but the output network has a `trunk_rate`."""
        together = self.config.trunk_rate == 1
        shares: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                share = 1.0 if together or name.startswith("output.") else self.config.trunk_rate
                shares.setdefault(share, []).append(parameter)
        return [{"params": parameters, "share": share} for share, parameters in shares.items()]

    def step(self, step: int) -> None:
        """One optimiser step; every process of the fabric takes its share of the batch.

        Nothing in it waits for the device, so that the next step is prepared while the device works on this one.
        """
        rows = training_rows(step, len(self.train), self.batch_size, self.seed)
        rows = rows[self.fabric.global_rank :: self.fabric.world_size]
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.config.factor(step) * group["share"]
        inputs = self.train.inputs(rows)
        if self.fabric.device.type != "cpu":
            inputs = self.fabric.to_device(inputs)
        values = self.model(inputs)[:, ::2].float()
        there = sent(rows, self.targets.device)
        errors = (values - self.targets.index_select(0, there)).abs() * self.weights.index_select(0, there)
        loss = errors.sum() / (self.batch_size / self.fabric.world_size)  # the processes' mean is the MAE
        self.fabric.backward(loss)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.wrapped.step()
        self.optimizer.zero_grad()
        if self.averaged is not self.network:
            self._average(step + 1)
        self.losses.append(loss.detach())
        looks = (step + 1) % _CHECK_EVERY == 0 or self.config.evaluates(step + 1)
        if looks and not math.isfinite(self._mean(self.losses[-1:])):
            raise CgatError(f"the training loss is no longer finite at step {step + 1}; lower the learning rate")

    @torch.no_grad()
    def _average(self, steps: int) -> None:
        """Add the weights after `steps` steps to their mean, corrected for the initial ones as Adam's means are."""
        rate = self.config.averaging / (1 - (1 - self.config.averaging) ** steps)
        for average, parameter in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            average.lerp_(parameter, min(1.0, rate))

    def _mean(self, losses: list[Tensor]) -> float:
        """Mean over steps and processes: all processes see the same and go on or stop together."""
        return float(cast(Tensor, self.fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean")))

    def _validation_maes(self) -> Tensor:
        """MAE of each label, (L,), in its unit; every process scores its share of the validation set."""
        rows = np.arange(self.fabric.global_rank, len(self.validation), self.fabric.world_size)
        prediction = predict(self.averaged, self.validation, self.statistics, rows=rows)
        errors = absolute_errors(prediction, self.validation.targets[rows])
        if self.fabric.world_size > 1:
            errors = cast(Tensor, self.fabric.all_reduce(errors, reduce_op="sum"))
        return errors[0] / errors[1]

    def evaluate(self, step: int) -> None:
        """Score the validation set, extend the learning curve, write the checkpoint."""
        loss, maes = self._mean(self.losses), self._validation_maes()
        mae = in_one(maes, self.statistics, self.config.label_weights)
        if not math.isfinite(mae):
            raise CgatError(f"the validation error is no longer finite at step {step}; lower the learning rate")
        self.losses.clear()
        progress = self.progress
        progress.step = step
        if mae < progress.best_mae:
            progress.best_mae, progress.best_maes, progress.best_step = mae, maes.tolist(), step
            self.best = copy.deepcopy(self.averaged.state_dict())
        row = {
            "step": step,
            "epoch": step * self.batch_size / len(self.train),
            "learning_rate": self.config.learning_rate * self.config.factor(step),
            "train_mae": loss if isinstance(std := self.statistics.std, tuple) else loss * std,
            "validation_mae": mae,
        }
        each = {f"validation_mae_{place}": value for place, value in enumerate(maes.tolist())} if len(maes) > 1 else {}
        progress.curve.append(row | each)
        if self.fabric.is_global_zero:
            self._save()

    def _save(self) -> None:
        state = {
            "config": repr(self.config),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress) | {"earlier_seconds": self._seconds()},
            "best": self.best,
        }
        file = io.BytesIO()
        torch.save(state, file)
        partial = self.checkpoint.with_suffix(".partial")
        partial.write_bytes(file.getvalue() + _digest(file.getvalue()))
        partial.replace(self.checkpoint)  # a kill leaves the previous checkpoint or this one, never half of one

    def _seconds(self) -> float:
        return self.progress.earlier_seconds + time.perf_counter() - self.start

    def _resume(self) -> None:
        content = self.checkpoint.read_bytes()
        content, digest = content[:-_DIGEST], content[-_DIGEST:]
        if digest != _digest(content):
            raise CgatError(f"{self.checkpoint} is damaged; remove it, and the run starts again from its first step")
        state = torch.load(io.BytesIO(content), weights_only=True, map_location=self.fabric.device)
        if state["config"] != repr(self.config):
            raise CgatError(f"{self.checkpoint} belongs to another training configuration; remove it to start again")
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress, self.best = Progress(**state["progress"]), state["best"]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def fabric_of(accelerator: str, devices: int, precision: str) -> "Fabric":
    """Devices of this machine, one process each; `CgatError` where it does not have them.

    Args:
        accelerator: ``cpu``, ``cuda`` or ``mps``; on ``cpu`` the devices are processes. devices: how many.
        precision: ``32-true`` or ``bf16-mixed``, as Lightning Fabric names them.
    """
    from lightning.fabric import Fabric  # takes seconds to import, and prediction needs none
    from lightning.fabric.plugins.environments import LightningEnvironment

    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",  # a library call cannot start the program again
            precision=precision,  # type: ignore[arg-type]
            plugins=[LightningEnvironment()],  # inside a queueing system too the processes are started here
        )
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CgatError(f"cannot train on {devices} device(s) of type {accelerator!r}: {reason}") from error


def in_every_process(fabric: "Fabric", function: Callable[["Fabric"], T]) -> T:
    """Call ``function(fabric)`` in every process of `fabric`; with one device in this one.

    Args:
        function: pickled where there are several devices. It raises a `CgatError` in all processes or in none.

    Returns:
        What it returned in the first process: no tensors, as the process is gone.
    """
    before = os.environ.get("MASTER_PORT")
    try:
        outcome = fabric.launch(partial(_caught, function, os.getpid()))
    finally:
        if before is None:
            os.environ.pop("MASTER_PORT", None)  # the next launch looks for a free port of its own
    if isinstance(outcome, CgatError):
        raise outcome
    return outcome


def _caught(function: Callable[["Fabric"], T], parent: int, fabric: "Fabric") -> T | CgatError:
    """The result or the refusal, so that the refusal too arrives in the parent process as it was raised."""
    if os.getpid() != parent:
        end_with(parent)
    try:
        return function(fabric)
    except CgatError as error:
        return error


def kept_on(device: torch.device, graphs: PackedGraphs) -> PackedGraphs:
    """The graphs in the memory of a GPU if they take no more than half of what is free there.

    Otherwise as they are: batches are made on the host and sent, each when its turn comes.
    """
    if device.type != "cuda":
        return graphs
    free, _ = torch.cuda.mem_get_info(device)
    return replace(graphs, device=str(device)) if 2 * (graphs.nodes.nbytes + graphs.edges.nbytes) <= free else graphs
