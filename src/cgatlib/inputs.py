"""What a network is trained on: rows with a target, their order and scale, and the predictions for them."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cgatlib import CgatError
from cgatlib.graphs.packing import PackedGraphs
from cgatlib.graphs.resident import ResidentGraphs, sent
from cgatlib.splits import Indices


class Inputs(Protocol):
    """What a network is trained on."""

    @property
    def targets(self) -> Tensor:
        """(n,) in the label's unit."""
        ...

    def __len__(self) -> int: ...

    def inputs(self, rows: Indices) -> Any:
        """Argument of the network for `rows` (B,)."""
        ...


@dataclass(frozen=True)
class GraphInputs:
    """Crystals as graphs: rows of a packed store."""

    graphs: PackedGraphs | ResidentGraphs  # batches are made where they lie
    indices: Indices
    targets: Tensor  # (n,) in the label's unit

    def __len__(self) -> int:
        return len(self.indices)

    def inputs(self, rows: Indices) -> Any:
        """PyG batch of `rows`."""
        return self.graphs.batch(self.indices[rows])


@dataclass(frozen=True)
class EmbeddingInputs:
    """Crystals as embeddings that no longer change: what the output network alone is trained on."""

    embeddings: Tensor  # (n, width)
    targets: Tensor  # (n,)

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, rows: Indices) -> Tensor:
        """(B, width)."""
        return self.embeddings.index_select(0, sent(rows, self.embeddings.device))


@dataclass(frozen=True)
class TargetStatistics:
    """The network predicts (label - mean) / std.

    Raises:
        CgatError: the mean is not finite, or the standard deviation not a positive number.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise CgatError(f"a mean of {self.mean} and a standard deviation of {self.std} normalise nothing")

    @classmethod
    def of(cls, targets: Tensor) -> "TargetStatistics":
        """Mean and unbiased standard deviation of `targets` (n,).

        Raises:
            CgatError: fewer than two different values.
        """
        mean, std = float(targets.double().mean()), float(targets.double().std())
        if not std > 0:
            raise CgatError(f"the {len(targets)} training labels do not vary: they cannot be normalised")
        return cls(mean, std)


def training_rows(step: int, n: int, batch_size: int, seed: int) -> Indices:
    """Rows of the batch of `step`, (batch_size,): epochs are permutations laid end to end, so nothing is dropped.

    A function of its arguments alone: a resumed run draws what the uninterrupted one would have.
    """
    offset = np.arange(step * batch_size, (step + 1) * batch_size)
    epoch, place = np.divmod(offset, n)
    rows = np.empty_like(offset)
    for e in np.unique(epoch):
        rows[epoch == e] = _permutation(n, seed, int(e))[place[epoch == e]]
    return rows


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> Indices:
    return np.random.default_rng([seed, epoch]).permutation(n)


@torch.no_grad()
def predict(
    network: nn.Module,
    data: Inputs,
    statistics: TargetStatistics,
    batch_size: int = 512,
    rows: Indices | None = None,
) -> Tensor:
    """Predictions in the label's unit, float64, on the CPU, in single precision whatever the training's.

    Args:
        network: maps ``data.inputs(rows)`` to (B, 2). statistics: the scale of its output.
        batch_size: rows at a time; every row is scored, the last batch too. rows: (n,) which to score; all by default.

    Returns:
        (n,).
    """
    device = next(network.parameters()).device
    rows = np.arange(len(data)) if rows is None else rows
    network.eval()
    parts = [torch.empty(0, device=device)]
    for start in range(0, len(rows), batch_size):
        parts.append(network(data.inputs(rows[start : start + batch_size]).to(device))[:, 0])
    network.train()
    return torch.cat(parts).cpu().double() * statistics.std + statistics.mean
