"""Experiments and their results: a run is described completely by an `Experiment`, whose hash names its folder.

A run's folder holds ``experiment.json``, ``metrics.json``, ``curve.parquet`` (learning curve), ``predictions.parquet``
(test set), ``weights.safetensors`` with ``model.json``, and ``provenance.json`` with the hashes of the others. It is
written under a temporary name and renamed, so that a killed run leaves nothing that looks finished.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cgatlib import CgatError
from cgatlib.experiments.tested import errors_of
from cgatlib.files import code_digest, file_digest
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.model.cgat import ModelConfig
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig
from cgatlib.values import from_plain

_TRAINING_CODE = (
    *("graphs.neighbours", "graphs.packing", "graphs.resident", "graphs.store", "graphs.writing"),
    *("model.attention", "model.cgat", "model.elements", "model.layers"),
    *("devices", "inputs", "splits", "training", "transfer", "experiments.runner"),
)

MEANING = 1
"""Version of what the values of an experiment mean; higher when the same values come to stand for another computation,
so that no stored run is taken for a run of the new meaning."""

FILES = (
    "experiment.json",
    "metrics.json",
    "curve.parquet",
    "predictions.parquet",
    "weights.safetensors",
    "model.json",
)
"""Files of a run besides ``provenance.json``, which holds their hashes."""


@dataclass(frozen=True)
class Experiment:
    """One training run, complete: equal experiments give equal results.

    Args:
        data: fingerprint of the crystal table. functional: of that table. label: property to learn.
        train_size: crystals of the training part to use; ``None`` takes them all.
        seed: of the initial weights, of the order of training and of the choice of the training crystals.
        source: the run whose network is transferred. transfer: how.
        graph, split, model, training: configurations. meaning: `MEANING` of the code that made the experiment.
    """

    data: str
    functional: str
    label: str
    train_size: int | None = None
    seed: int = 0
    source: "Experiment | None" = None
    transfer: TransferConfig = field(default_factory=TransferConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    meaning: int = MEANING

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"meaning": 1})

    def __post_init__(self) -> None:
        if self.graph.neighbours > self.model.neighbours:
            raise CgatError(
                f"graphs of {self.graph.neighbours} neighbours have shell ranks up to that number; the network's "
                f"neighbours are {self.model.neighbours}"
            )
        if (self.source is None) != (self.transfer.mode == "none"):
            raise CgatError(f"transfer mode {self.transfer.mode!r} and the source run do not go together")
        if self.transfer.mode == "head" and self.training.trunk_rate != 1:
            raise CgatError("transfer mode 'head' trains the output network alone: trunk_rate does not apply")
        if self.source is not None:
            if (self.source.model, self.source.graph) != (self.model, self.graph):
                raise CgatError("a run and the run it starts from need the same model and graph configuration")
            if self.source.split != self.split and self.transfer.test_crystals == "unseen":
                raise CgatError("a run and the run it starts from need the same split, or test crystals leak")

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionary of plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "Experiment":
        """Inverse of `to_dict`, also after a passage through json; the one reader of every stored experiment.

        Raises:
            CgatError: a value is unknown, missing or of another type, or values contradict each other.
        """
        try:
            return from_plain(cls, values, "experiment")
        except RecursionError as error:
            raise CgatError("experiment: more sources, one starting from the other, than can be read") from error

    @cached_property
    def key(self) -> str:
        """16 hex digits over every value, defaults included: the name of the run's folder."""
        values = Experiment.from_dict(self.to_dict()).to_dict()  # 1 and 1.0 are the same number
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@cache
def training_code() -> str:
    """Fingerprint of the modules that determine a run's numbers: a run made by other code is made again."""
    return code_digest(*_TRAINING_CODE)


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    path: Path

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CgatError(f"run {self.path.name}: {name} cannot be read: {error}") from error

    @cached_property
    def experiment(self) -> Experiment:
        """What was run."""
        try:
            return Experiment.from_dict(self._json("experiment.json"))
        except CgatError as error:
            raise CgatError(f"{self.path}: {error}") from error

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``test_mae``, ``test_rmse``, ``test_mad`` (MAE of predicting the training mean), ``validation_mae`` in the
        label's unit; ``n_train``, ``n_validation``, ``n_test``, ``best_step``, ``last_step``, ``seconds``,
        ``trained_parameters``; ``stopped``: by ``patience``, or at the end of the ``budget``, or empty where nothing
        was trained."""
        return self._json("metrics.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code, libraries, machine, data and files of the run."""
        return self._json("provenance.json")

    @cached_property
    def curve(self) -> pd.DataFrame:
        """Learning curve: ``step``, ``epoch``, ``learning_rate``, ``train_mae``, ``validation_mae``."""
        return pd.read_parquet(self.path / "curve.parquet")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Test set: ``material_id``, ``formula``, ``target``, ``prediction``, in the label's unit; ``seen``, where
        pre-training may have seen it (`cgatlib.experiments.tested`)."""
        return pd.read_parquet(self.path / "predictions.parquet")

    @cached_property
    def errors(self) -> pd.DataFrame:
        """What is kept of the test crystals, without their names and labels: `cgatlib.experiments.tested`."""
        return errors_of(self.predictions, self.experiment.label)

    def problems(self) -> list[str]:
        """What is wrong with the folder: changed files, metrics that do not follow from the predictions."""
        found = []
        for name, digest in self.provenance["files"].items():
            if not (self.path / name).exists():
                found.append(f"{name} is missing")
            elif file_digest(self.path / name) != digest:
                found.append(f"{name} was changed after the run")
        if found:
            return found
        for name, value in score(self.errors["error"]).items():
            if not np.isclose(value, self.metrics[name], rtol=1e-9):
                found.append(f"{name} is {self.metrics[name]}, but the predictions give {value}")
        return found


def score(errors: ArrayLike) -> dict[str, float]:
    """``test_mae`` and ``test_rmse`` of errors (T,)."""
    e = np.asarray(errors, dtype=np.float64)
    return {"test_mae": float(np.abs(e).mean()), "test_rmse": float(np.sqrt((e**2).mean()))}
