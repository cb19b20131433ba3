"""What a network is trained on: rows with a target, their order and scale, and the predictions for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cgatlib import CgatError
from cgatlib.graphs.packing import PackedGraphs, sent
from cgatlib.splits import Indices

if TYPE_CHECKING:
    from cgatlib.transfer import Network


class Inputs(Protocol):
    """What a network is trained on."""

    @property
    def targets(self) -> Tensor:
        """(n,) in the label's unit; of several labels (n, L), NaN where one is missing."""
        ...

    def __len__(self) -> int: ...

    def inputs(self, rows: Indices) -> Any:
        """Argument of the network for `rows` (B,)."""
        ...


@dataclass(frozen=True)
class GraphInputs:
    """Crystals as graphs: rows of a packed store."""

    graphs: PackedGraphs
    indices: Indices
    targets: Tensor  # (n,) or (n, L)
    known: Tensor | None = None  # (n,) the crystals' values by a cheaper functional, for `cgatlib.transfer`

    def __len__(self) -> int:
        return len(self.indices)

    def inputs(self, rows: Indices) -> Any:
        """PyG batch of `rows`."""
        batch = self.graphs.batch(self.indices[rows])
        if self.known is not None:
            batch.known = self.known[torch.from_numpy(rows)]
        return batch


@dataclass(frozen=True)
class EmbeddingInputs:
    """Crystals as embeddings that no longer change, for training the output network alone."""

    embeddings: Tensor  # (n, width)
    targets: Tensor  # (n,) or (n, L)

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, rows: Indices) -> Tensor:
        """(B, width)."""
        return self.embeddings.index_select(0, sent(rows, self.embeddings.device))


@dataclass(frozen=True)
class TargetStatistics:
    """The network predicts (label - mean) / std; of several labels mean and std are (L,).

    Raises:
        CgatError: a mean is not finite, or a standard deviation not a positive number.
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def __post_init__(self) -> None:
        mean, std = self._tensors
        if mean.shape != std.shape or not (mean.isfinite() & (std > 0) & std.isfinite()).all():
            raise CgatError(f"a mean of {self.mean} and a standard deviation of {self.std} normalise nothing")

    @classmethod
    def of(cls, targets: Tensor) -> "TargetStatistics":
        """Mean and unbiased standard deviation of `targets` (n,), or of what is known of each column (n, L).

        Raises:
            CgatError: fewer than two different values.
        """
        if targets.ndim == 2:
            return cls.together([cls.of(column[~column.isnan()]) for column in targets.unbind(1)])
        mean, std = float(targets.double().mean()), float(targets.double().std())
        if not std > 0:
            raise CgatError(f"the {len(targets)} training labels do not vary: they cannot be normalised")
        return cls(mean, std)

    @classmethod
    def together(cls, each: Sequence["TargetStatistics"]) -> "TargetStatistics":
        """Of several labels from those of each; inverse of `each`."""
        if len(each) == 1:
            return each[0]
        return cls(tuple(s.mean for s in each), tuple(s.std for s in each))  # type: ignore[misc]

    @property
    def each(self) -> "list[TargetStatistics]":
        """Those of every label."""
        return [TargetStatistics(*pair) for pair in zip(*(t.flatten().tolist() for t in self._tensors), strict=True)]

    @property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean, dtype=torch.float64), torch.tensor(self.std, dtype=torch.float64)

    def normalised(self, labels: Tensor) -> Tensor:
        """(label - mean) / std in double precision, of (n,) or (n, L)."""
        mean, std = self._tensors
        return (labels - mean) / std

    def restored(self, values: Tensor) -> Tensor:
        """The labels (n,) or (n, L), in double precision, from the network's values (n, L)."""
        mean, std = self._tensors
        return values.double().reshape(-1, *mean.shape) * std + mean


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
    """Predictions in the labels' units, float64, on the CPU, in single precision whatever the training's.

    Args:
        network: maps ``data.inputs(rows)`` to (B, 2 L). statistics: the scale of its output.
        batch_size: rows at a time; every row is scored, the last batch too. rows: (n,) which to score; all by default.

    Returns:
        (n,), or (n, L) of several labels.
    """
    device = next(network.parameters()).device
    rows = np.arange(len(data)) if rows is None else rows
    network.eval()
    parts = [torch.empty(0, device=device)]
    for start in range(0, len(rows), batch_size):
        parts.append(network(data.inputs(rows[start : start + batch_size]).to(device))[:, ::2])
    network.train()
    return statistics.restored(torch.cat(parts).cpu())


@torch.no_grad()
def embed_all(network: "Network", data: Inputs, batch_size: int = 512) -> Tensor:
    """Crystal embeddings (n, embedding_width): constant as long as only the output network is trained."""
    device = next(network.parameters()).device
    rows = np.split(np.arange(len(data)), range(batch_size, len(data), batch_size))
    return torch.cat([network.embed(data.inputs(part).to(device)) for part in rows])


def absolute_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum of the absolute errors of each label and how many there are, (2, L), of two tensors (n,) or (n, L).

    A target that is NaN is left out; a prediction that is NaN is not.
    """
    known = ~target.isnan()
    errors = (prediction - target.double()).abs().where(known, 0)
    return torch.stack([x.double().reshape(len(target), -1).sum(0) for x in (errors, known)])


def mean_absolute_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """MAE of each label, (L,), of two tensors as in `absolute_errors`."""
    total, count = absolute_errors(prediction, target)
    return total / count


def in_one(maes: Tensor, statistics: TargetStatistics, weights: Sequence[float]) -> float:
    """The MAE of one label in its unit, or the weighted mean of those of several, (L,), in units of their scales."""
    if len(maes) == 1:
        return float(maes)
    shares = label_shares(weights, len(maes))
    return float((shares * maes / torch.tensor(statistics.std, dtype=torch.float64)).sum())


def label_shares(weights: Sequence[float], labels: int) -> Tensor:
    """Weight of each label, (labels,), adding up to 1; equal where none are given."""
    given = torch.tensor(weights or (1.0,) * labels, dtype=torch.float64)
    return given / given.sum()
