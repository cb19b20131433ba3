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
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cgatlib import CgatError
from cgatlib.files import code_digest, file_digest
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.model.config import ModelConfig
from cgatlib.runs.tested import errors_of
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig
from cgatlib.values import from_plain

if TYPE_CHECKING:
    from cgatlib.ensemble import Ensemble

_TRAINING_CODE = (
    *("crystals.geometry", "graphs.neighbours", "graphs.packing", "graphs.store", "model.cgat"),
    *("model.config", "model.kernels", "inputs", "splits", "training", "transfer", "runs.trainer"),
)

MEANING = 1
"""Version of what the values of an experiment mean; higher when the same values come to stand for another computation,
so that no stored run is taken for a run of the new meaning."""

NETWORK = ("weights.safetensors", "model.json")
"""Files of a run's trained network, from which other runs start."""

FILES = ("experiment.json", "metrics.json", "curve.parquet", "predictions.parquet", *NETWORK)
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
        more_labels: properties that the same network learns beside `label`; a crystal may lack some of all.
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
    more_labels: tuple[str, ...] = ()

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"meaning": 1, "more_labels": ()})

    def __post_init__(self) -> None:
        if len(set(self.labels)) < len(self.labels):
            raise CgatError(f"a label is named twice: {', '.join(self.labels)}")
        weights, names = len(self.training.label_weights), ", ".join(self.labels)
        if weights not in (0, len(self.labels)):
            raise CgatError(f"training: there are {weights} label_weights for the labels {names}")
        if self.graph.neighbours > self.model.neighbours:
            raise CgatError(
                f"graphs of {self.graph.neighbours} neighbours have shell ranks up to that number; the network's "
                f"neighbours are {self.model.neighbours}"
            )
        if (self.graph.ties == "continuous") != (self.model.ranks == "continuous"):
            raise CgatError(f"graphs with {self.graph.ties} ties do not go with a network for {self.model.ranks} ranks")
        if (self.source is None) != (self.transfer.mode == "none"):
            raise CgatError(f"transfer mode {self.transfer.mode!r} and the source run do not go together")
        if self.transfer.mode == "head" and self.training.trunk_rate != 1:
            raise CgatError("transfer mode 'head' trains the output network alone: trunk_rate does not apply")
        if self.source is not None:
            if (self.source.model, self.source.graph) != (self.model, self.graph):
                raise CgatError("a run and the run it starts from need the same model and graph configuration")
            if self.source.split != self.split and self.transfer.test_crystals == "unseen":
                raise CgatError("a run and the run it starts from need the same split, or test crystals leak")

    @property
    def labels(self) -> tuple[str, ...]:
        """All properties that are learnt."""
        return (self.label, *self.more_labels)

    def suffix(self, label: str) -> str:
        """What follows ``target`` and ``prediction`` in the names of a label's columns."""
        return "" if label == self.label else f"_{label}"

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
        """16 hex digits over every value, defaults included: the name of the run's folder.

        Values that came later do not enter it while they are what held before, so that stored runs keep their names.
        """
        values = Experiment.from_dict(self.to_dict()).to_dict()  # 1 and 1.0 are the same number
        part: Any = values
        while part is not None:
            for name in TransferConfig.LATER:
                if part["transfer"][name] == TransferConfig.EARLIER[name]:
                    del part["transfer"][name]
            part = part["source"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@cache
def training_code() -> str:
    """Fingerprint of the modules that determine a run's numbers: a run made by other code is made again."""
    return code_digest(*_TRAINING_CODE)


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    path: Path

    @cached_property
    def experiment(self) -> Experiment:
        """What was run."""
        try:
            return Experiment.from_dict(read_json(self.path / "experiment.json"))
        except CgatError as error:
            raise CgatError(f"{self.path}: {error}") from error

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``test_mae``, ``test_rmse``, ``test_mad`` (MAE of predicting the training mean), ``validation_mae`` in the
        label's unit (of several labels, those of the first, but ``validation_mae`` as the curve has it, and in
        ``labels`` those of each); ``n_train``, ``n_validation``, ``n_test``, ``best_step``, ``last_step``, ``seconds``,
        ``trained_parameters``; ``stopped``: by ``patience``, or at the end of the ``budget``, or empty where nothing
        was trained."""
        return read_json(self.path / "metrics.json")

    def scores(self, label: str) -> dict[str, Any]:
        """What the metrics say of one label."""
        return self.metrics["labels"][label] if self.experiment.more_labels else self.metrics

    @property
    def network(self) -> Path | None:
        """Folder of the trained network (`cgatlib.predictor.Predictor.load` reads it), or None without its weights."""
        return self.path if (self.path / NETWORK[0]).is_file() else None

    @property
    def model(self) -> "Ensemble":
        """The trained network, which predicts for structures (`cgatlib.load_model`).

        Raises:
            CgatError: the run is without its weights.
        """
        from cgatlib.ensemble import load_model

        if self.network is None:
            raise CgatError(f"run {self.experiment.key} has no weights")
        return load_model(self.network)

    @property
    def code(self) -> str:
        """Fingerprint of the code that made the run."""
        return str(self.provenance.get("training_code", "unknown"))

    @property
    def converged(self) -> bool:
        """Whether the budget was long enough: the best step is not in its last tenth, or patience ended the training.

        A run that trains nothing counts as converged.
        """
        steps = 0 if self.experiment.transfer.mode == "untouched" else self.experiment.training.steps
        return self.metrics.get("stopped") == "patience" or self.metrics["best_step"] <= 0.9 * steps

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code, libraries, machine, data and files of the run."""
        return read_json(self.path / "provenance.json")

    @cached_property
    def curve(self) -> pd.DataFrame:
        """Learning curve: ``step``, ``epoch``, ``learning_rate``, ``train_mae``, ``validation_mae``.

        Of several labels, the last two are weighted means in units of the labels' scales, and
        ``validation_mae_<label>`` is that of each in its unit.
        """
        return pd.read_parquet(self.path / "curve.parquet")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Test set: ``material_id``, ``formula``, ``target``, ``prediction``, in the label's unit; ``seen``, where
        pre-training may have seen it (`cgatlib.runs.tested`).

        Of several labels, target and prediction are the first's; the others have ``target_<label>`` and
        ``prediction_<label>``. A target is NaN where a crystal lacks the label.
        """
        return pd.read_parquet(self.path / "predictions.parquet")

    @cached_property
    def errors(self) -> pd.DataFrame:
        """What is kept of the test crystals, without their names and labels: `cgatlib.runs.tested`.

        Of several labels, these are the errors of the first.
        """
        label = self.experiment.label
        return errors_of(of_label(self.predictions, self.experiment, label), label)

    def problems(self) -> list[str]:
        """What is wrong with the folder: changed files, metrics that do not follow from the predictions."""
        if found := changed_files(self.path, self.provenance["files"], "the run"):
            return found
        for label in self.experiment.labels:
            tested = of_label(self.predictions, self.experiment, label)
            wrong = unlike(self.scores(label), tested["prediction"] - tested["target"], "predictions", 1e-9)
            found += [f"{label}: {problem}" if self.experiment.more_labels else problem for problem in wrong]
        return found


def of_label(predictions: pd.DataFrame, experiment: Experiment, label: str) -> pd.DataFrame:
    """`Run.predictions` for one label of the experiment, of the crystals that carry it."""
    suffixes = [experiment.suffix(other) for other in experiment.labels if other != label]
    table = predictions.drop(columns=[f"{name}{suffix}" for suffix in suffixes for name in ("target", "prediction")])
    names = {f"{name}{experiment.suffix(label)}": name for name in ("target", "prediction")}
    return table.rename(columns=names).dropna(subset="target")


def score(errors: ArrayLike) -> dict[str, float]:
    """``test_mae`` and ``test_rmse`` of errors (T,)."""
    e = np.asarray(errors, dtype=np.float64)
    return {"test_mae": float(np.abs(e).mean()), "test_rmse": float(np.sqrt((e**2).mean()))}


def unlike(stated: Mapping[str, Any], errors: ArrayLike, source: str, rtol: float) -> list[str]:
    """Stated metrics that do not follow from errors (T,), those of the `source`."""
    return [
        f"{name} is {stated[name]}, but the {source} give {value}"
        for name, value in score(errors).items()
        if not np.isclose(value, stated[name], rtol=rtol, atol=0)
    ]


def changed_files(folder: Path, digests: Mapping[str, str], after: str) -> list[str]:
    """Files, by name with their hash, that are missing or were changed."""
    lost = [f"{name} is missing" for name in digests if not (folder / name).is_file()]
    there = [name for name in digests if (folder / name).is_file()]
    return lost + [f"{name} was changed after {after}" for name in there if file_digest(folder / name) != digests[name]]


def read_json(path: Path) -> dict[str, Any]:
    """An object; `CgatError` where the file cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CgatError(f"{path} cannot be read: {error}") from error
