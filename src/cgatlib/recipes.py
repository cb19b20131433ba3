"""Recipes: how a pre-trained model is tuned to crystals of a user, by name, with settings that were compared.

A recipe trains one run for each member of the pre-trained model. `Plan` states these runs; `tune` trains them in a
temporary folder and makes one model of them; the estimators are that for scikit-learn's pipelines and searches.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from cgatlib import CgatError
from cgatlib.crystals.crystal import KNOWN, PROPERTIES, Crystal, check
from cgatlib.crystals.structures import Candidate, candidates
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import Ensemble, load_model, refuse_noted, starting_points
from cgatlib.release import release
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig, groups_of, split
from cgatlib.training import TrainingConfig
from cgatlib.transfer import STEPLESS, TransferConfig

Array = NDArray[np.float64]

FEW = 20
"""Labelled crystals below which no weights are trained."""
_FEWEST_STEPS, _STEPS = 500, 2000
_EPOCHS = 20, 100  # at least as many in large tables, at most as many in small ones
_TRAINING = TrainingConfig(
    batch_size=64,
    learning_rate=5e-4,
    weight_decay=1e-4,
    cycles=1,
    lowest=0.01,
    evaluations=40,
    schedule="one-cycle",
    averaging=0.002,
    clip=5.0,
)
RECIPES: Mapping[str, TransferConfig] = MappingProxyType(
    {
        "full": TransferConfig("full", "fitted"),
        "head": TransferConfig("head", "fitted"),
        "kernel": TransferConfig("kernel"),
        "average": TransferConfig("average", "fitted"),
        "paired": TransferConfig("paired"),
    }
)
"""What each recipe takes over and trains; `TransferConfig` says what the modes are."""
BEST = "full"
"""On splits by formula of HSE gaps, SCAN gaps and r2SCAN formation energies the mean with a kernel was not better."""


def training_of(n: int) -> TrainingConfig:
    """How long and how fast the weights are trained on `n` crystals."""
    least, most = (epochs * n // _TRAINING.batch_size for epochs in _EPOCHS)
    return replace(_TRAINING, steps=max(_FEWEST_STEPS, min(_STEPS, most), least))


@dataclass(frozen=True)
class Plan:
    """The runs of a recipe on a table.

    Args:
        label: property to learn. recipe: a name of `RECIPES`; by default the best for as many crystals.
        known: whether the table has the property's values by a cheaper functional, to which the difference is learnt.
        seeds: one member for each; by default those of the members that are started from.
        train_size: crystals of the training part to use; all by default.
        transfer, training: fields of `TransferConfig` and `TrainingConfig` that differ from the recipe's.
    """

    label: str
    recipe: str | None = None
    known: bool = False
    seeds: Sequence[int] = ()
    train_size: int | None = None
    transfer: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def experiments(self, table: CrystalTable, starts: Sequence[Run]) -> list[Experiment]:
        """One for each member, from the networks of `starts` in turn.

        Raises:
            CgatError: the recipe is unknown, or the labels are not enough for it or for a test.
        """
        columns = [self.label, self.label + KNOWN] if self.known else [self.label]
        rows = np.flatnonzero(np.logical_and.reduce([~np.isnan(table.label(column)) for column in columns]))
        if not len(rows):
            what = "and a known value of it" if self.known else "(every value is NaN)"
            raise CgatError(f"none of the {len(table)} crystals has a {self.label} {what}")
        how = self._transfer(len(rows), starts[0].experiment.labels)
        seeds = self.seeds or [run.experiment.seed for run in starts]
        if how.mode in STEPLESS and len(seeds) > len(starts):
            raise CgatError(f"a {how.mode} model has one member for each network: {len(starts)}, not {len(seeds)}")
        parts, seen = _split(table.select(rows), starts[0].experiment.split)
        how = replace(how, test_crystals="seen") if seen else how
        training = training_of(self.train_size or len(rows))
        most = self.training.get("steps", training.steps)
        training = replace(training, **{"evaluations": min(training.evaluations, most), **self.training})
        data = table.fingerprint, table.functional, self.label, self.train_size
        same: dict[str, Any] = {"transfer": how, "split": parts, "training": training}
        sources = [run.experiment for run in starts]
        return [
            Experiment(*data, seed, source, model=source.model, graph=source.graph, **same)
            for seed, source in zip(seeds, cycle(sources))
        ]

    def _transfer(self, n: int, predicted: Sequence[str]) -> TransferConfig:
        recipe = "paired" if self.known else self.recipe
        if (self.known and self.recipe not in (None, "paired")) or (recipe == "paired" and not self.known):
            raise CgatError("known values and the recipe 'paired' go together, without another recipe")
        if recipe is not None and recipe not in RECIPES:
            raise CgatError(f"unknown recipe {recipe!r}; known: {', '.join(RECIPES)}")
        if n < FEW:
            recipe = recipe or "kernel"
            if recipe not in ("kernel", "paired"):
                raise CgatError(f"{n} crystals have a {self.label}: for fewer than {FEW} the recipe is kernel")
            logging.getLogger("cgatlib").warning("%d crystals are few: a kernel model, with errors hardly known", n)
        how = RECIPES[recipe or BEST]
        if how.target_statistics == "fitted" and self.label not in predicted:
            how = replace(how, target_statistics="target")  # an output for another property need not rise with this one
        return replace(how, **self.transfer)


def _split(table: CrystalTable, theirs: SplitConfig) -> tuple[SplitConfig, bool]:
    """The split of the pre-training, or where it leaves a part empty another; then test crystals may have been seen."""
    for seed in (None, *range(100)):
        config = theirs if seed is None else SplitConfig(seed, 0.6, 0.2, 0.2)
        try:
            split(groups_of(table, config), config)
        except CgatError:
            continue
        if seed is not None:
            logging.getLogger("cgatlib").warning("few formulas: the model may have seen test crystals in pre-training")
        return config, seed is not None
    raise CgatError(f"{len(set(table.formulas))} formulas are too few to train, to validate and to test")


def tune(
    model: Ensemble,
    structures: Any,
    values: Sequence[float],
    label: str,
    recipe: str | None = None,
    *,
    functional: str = "not stated",
    known: Sequence[float] | None = None,
    seed: int = 0,
    workers: int = 1,
    silent: bool = True,
    **training: Any,
) -> Ensemble:
    """A model tuned to crystals in memory, with a card (``card.tried``: validation errors of all that was tried).

    Args:
        model: one whose card says how its members were trained, of a form without a kernel.
        structures: pymatgen Structures, ASE Atoms, `Crystal` objects or paths of files.
        values: (n,) of the label, in its unit; NaN or None where one is missing. functional: that they come from.
        label: property to learn. recipe: a name of `RECIPES`; by default the best for so many crystals.
        known: (n,) values of the same property by a cheaper functional; the difference to them is learnt, and
            predictions then ask for them (``predict(structures, known={label: values})``).
        seed: of three members, those of 0 have the seeds 0, 1, 2, and of 1 the next three.
        workers: processes. silent: show no progress.
        training: fields of `TrainingConfig` that differ from the recipe's, e.g. ``steps=500``.

    Raises:
        CgatError: the recipe or label is unknown, the values are not enough, or a structure or value cannot be taken.
    """
    table = table_of(structures, values, label, functional, known)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        starts, runs = starting_points(model, root / "sources", [label]), Runs(root / "runs", silent=silent)
        runs.add(table, *starts)
        seeds = range(seed * len(starts), (seed + 1) * len(starts))
        plan = Plan(label, recipe, known is not None, seeds, training=training)
        found = runs.get_all(plan.experiments(table, starts), workers)
        return release(found, table, root / "model", runs, {"name": "crystals in memory"})


def table_of(
    structures: Any, values: Sequence[float], label: str, functional: str, known: Sequence[float] | None = None
) -> CrystalTable:
    """Crystals in memory with one label as a table; arguments and errors as of `tune`."""
    if label not in PROPERTIES:
        raise CgatError(f"unknown label {label!r}; known: {', '.join(PROPERTIES)}")
    names, found = candidates(structures, known=None if known is None else {label: known})
    if len(values) != len(found):
        raise CgatError(f"{len(values)} values of {label} were given for {len(found)} structures")
    try:
        numbers = np.asarray(values, dtype=np.float64)  # of None, NaN
    except (TypeError, ValueError) as error:
        raise CgatError(f"the values of {label} are not numbers: {error}") from error
    labelled: list[Candidate] = []
    for crystal, value in zip(found, numbers, strict=True):
        if isinstance(crystal, Crystal) and not np.isnan(value):
            crystal = replace(crystal, labels={label: float(value)} | crystal.labels)
        labelled.append(crystal)
    refuse_noted(names, (crystal if isinstance(crystal, str) else check(crystal) or "" for crystal in labelled))
    crystals = [crystal for crystal in labelled if isinstance(crystal, Crystal)]
    if len(set(names)) < len(names):  # drawn with replacement, or without names
        crystals = [replace(crystal, material_id=str(place)) for place, crystal in enumerate(crystals)]
    return CrystalTable.from_crystals(crystals, functional)


class _OfStructures(BaseEstimator):
    """Tells scikit-learn that X holds one structure a row, which it must not turn into numbers."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.no_validation = True
        return tags


class CrystalEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _OfStructures):
    """The crystal embeddings of a pre-trained model, as inputs of another estimator.

    Args:
        model: a released model (`cgatlib model list`), the folder of a model or run, or a loaded model; ``model_`` is
            the loaded one, which goes into a pickle with its weights.
    """

    def __init__(self, model: str | Path | Ensemble = "pbe") -> None:
        self.model = model

    def fit(self, X: Sequence[Any], y: Any = None) -> "CrystalEmbedding":
        """Load the model; nothing is learnt from X."""
        self.model_ = _loaded(self.model)
        return self

    def transform(self, X: Sequence[Any]) -> Array:
        """Embeddings (n, width) of the structures.

        Raises:
            CgatError: a structure cannot be judged; its place and the reason are named.
        """
        check_is_fitted(self)
        return self.model_.embed(X)

    @property
    def _n_features_out(self) -> int:
        return sum(member.card.model.embedding_width for member in self.model_.members)


class CGATRegressor(RegressorMixin, _OfStructures):
    """A pre-trained model, tuned to the property of your structures.

    A part of them is kept from the training, to choose the best step and to state errors and uncertainties.

    Args:
        model: as of `CrystalEmbedding`; it must say how it was trained, as the released ones do.
        label: property to learn, of `cgatlib.crystals.crystal.PROPERTIES`.
        recipe: of `cgatlib.recipes.RECIPES`; None takes the best that is known.
        functional: that the values come from, for the card.
        steps: of the training, as the next two; None takes what the recipe has.
        learning_rate: the highest.
        batch_size: crystals in a step.
        random_state: seed of the members.

    Attributes:
        model_: the tuned model, with its card; it goes into a pickle with its weights, and ``model_.save`` keeps it.
    """

    def __init__(
        self,
        model: str | Path | Ensemble = "pbe",
        label: str = "band_gap",
        recipe: str | None = None,
        functional: str = "not stated",
        steps: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.model = model
        self.label = label
        self.recipe = recipe
        self.functional = functional
        self.steps = steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Sequence[Any], y: ArrayLike, known: ArrayLike | None = None) -> "CGATRegressor":
        """Tune the model to values y (n,), in the label's unit; to their difference to `known` (n,), where given.

        Raises:
            CgatError: as of `tune`.
        """
        check_consistent_length(X, y, known)
        values = column_or_1d(y, dtype=np.float64, warn=True)
        if not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values))[0])
            raise CgatError(f"value {place} of y is {values[place]}: leave its structure out")
        training = {name: getattr(self, name) for name in ("steps", "learning_rate", "batch_size")}
        self.model_ = _loaded(self.model).fine_tune(
            X,
            values.tolist(),
            self.label,
            self.recipe,
            functional=self.functional,
            known=None if known is None else np.asarray(known, dtype=np.float64).tolist(),
            seed=_seed(self.random_state),
            **{name: value for name, value in training.items() if value is not None},
        )
        return self

    def predict(
        self, X: Sequence[Any], return_std: bool = False, known: ArrayLike | None = None
    ) -> Array | tuple[Array, Array]:
        """Predictions (n,) for the structures, in the label's unit, and on request their uncertainties (n,).

        Args:
            known: (n,) by the cheaper functional, where the model was tuned with such values.

        Raises:
            CgatError: a structure cannot be judged; its place and the reason are named.
        """
        check_is_fitted(self)
        found = self.model_.predict(X, known=None if known is None else {self.label: np.asarray(known).tolist()})
        refuse_noted(found["material_id"], found["note"].where(found["prediction"].isna(), ""))
        values = found["prediction"].to_numpy()
        return (values, found["uncertainty"].to_numpy()) if return_std else values

    def score(
        self, X: Sequence[Any], y: ArrayLike, sample_weight: ArrayLike | None = None, known: ArrayLike | None = None
    ) -> float:
        """R² of the predictions for X, with the values y (n,); `known` as of `predict`."""
        return float(r2_score(y, self.predict(X, known=known), sample_weight=sample_weight))


def _loaded(model: str | Path | Ensemble) -> Ensemble:
    return model if isinstance(model, Ensemble) else load_model(model)


def _seed(random_state: Any) -> int:
    """A seed from what scikit-learn takes as ``random_state``."""
    number = isinstance(random_state, int | np.integer)
    return int(random_state if number else check_random_state(random_state).randint(2**20))
