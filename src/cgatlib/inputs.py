"""What a network is trained on: rows with a target, their order and scale, and the predictions for them."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cgatlib import CgatError
from cgatlib.graphs.packing import PackedGraphs
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

    graphs: PackedGraphs
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
        return self.embeddings[torch.from_numpy(rows)]


@dataclass(frozen=True)
class TargetStatistics:
    """The network predicts (label - mean) / std."""

    mean: float
    std: float

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
        permutation = np.random.default_rng([seed, int(e)]).permutation(n)
        rows[epoch == e] = permutation[place[epoch == e]]
    return rows


@torch.no_grad()
def predict(network: nn.Module, data: Inputs, statistics: TargetStatistics, batch_size: int = 512) -> Tensor:
    """Predictions (n,) in the label's unit, float64, on the CPU; every row is scored, the last batch too."""
    device = next(network.parameters()).device
    network.eval()
    parts = [
        network(data.inputs(np.arange(start, min(start + batch_size, len(data)))).to(device))[:, 0].double().cpu()
        for start in range(0, len(data), batch_size)
    ]
    network.train()
    return torch.cat(parts) * statistics.std + statistics.mean
