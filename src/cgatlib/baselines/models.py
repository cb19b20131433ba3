"""What a network has to beat: simple models with its training, validation and test crystals.

Each is a function of a `Task` and may look at the labels of the training and the validation part only. Some need a
composition at most; the others need the label of the very same crystal under the cheaper functional, that is a
calculation where a network needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.composition import composition_features, element_fractions
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.store import GraphStore
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.store import parts_of
from cgatlib.splits import Indices, Split

Array = NDArray[np.float64]

_PENALTIES = 10.0 ** np.arange(-4, 4)  # of the ridge; the validation part chooses
_TREES = 800  # at most; the validation part chooses how many are used
_PATIENCE = 30  # trees without a lower validation loss before boosting stops


@dataclass(frozen=True, eq=False)
class Task:
    """Labels and compositions of an experiment's crystals, and its parts.

    Attributes:
        experiment: whose split, training size and seed are used.
        ids, formulas: (n,) text. labels: (n,) in the label's unit, NaN where missing. parts: rows of each part.
        source: (n,) label of the same crystal under the functional transferred from, NaN where not known; or None.
    """

    experiment: Experiment
    ids: NDArray[np.str_]
    formulas: NDArray[np.str_]
    labels: Array
    parts: Split
    source: Array | None = None

    @classmethod
    def of(
        cls, experiment: Experiment, crystals: CrystalTable | GraphStore, source: Mapping[str, float] | None = None
    ) -> Task:
        """The task of an experiment.

        Args:
            experiment: a run's, or one that was never run.
            crystals: its graphs, or its table where every crystal of it has a graph.
            source: label under the functional transferred from, by material id.

        Raises:
            CgatError: the crystals are of another table, do not carry the label, or a part has none of them.
        """
        held = crystals.fingerprint if isinstance(crystals, CrystalTable) else crystals.table_fingerprint
        if held != experiment.data:
            raise CgatError(f"the crystals are of table {held}, the experiment is on table {experiment.data}")
        ids = crystals.ids
        return cls(
            experiment=experiment,
            ids=np.array(ids),
            formulas=np.array(crystals.formulas),
            labels=crystals.label(experiment.label),
            parts=parts_of(experiment, cast(GraphStore, crystals)),  # a table has the same ids, formulas and labels
            source=None if source is None else np.array([source.get(i, np.nan) for i in ids], dtype=float),
        )

    def fractions(self, rows: Indices) -> Array:
        """Element fractions of some rows, (len(rows), 103)."""
        return element_fractions(self.formulas[rows].tolist())

    def features(self, rows: Indices) -> Array:
        """Statistics of elemental attributes of some rows, (len(rows), 110)."""
        return composition_features(self.formulas[rows].tolist())

    def paired(self) -> Task:
        """The same task with the crystals alone whose source label is known.

        Raises:
            CgatError: there are no source labels, or a part has none of them.
        """
        known = ~np.isnan(_source(self))
        parts = {name: rows[known[rows]] for name, rows in vars(self.parts).items()}
        for name, rows in parts.items():
            if len(rows) == 0:
                raise CgatError(f"no crystal of the {name} part has a source label")
        return replace(self, parts=Split(**parts))


@dataclass(frozen=True)
class Fitted:
    """Predictions for the test part of a task, (n_test,), and what the validation part chose."""

    predictions: Array
    choices: Mapping[str, float | str]


def mean(task: Task) -> Fitted:
    """The mean of the training labels."""
    return Fitted(np.full(len(task.parts.test), task.labels[task.parts.train].mean()), {})


def median(task: Task) -> Fitted:
    """The median of the training labels: the constant with the smallest MAE in training."""
    return Fitted(np.full(len(task.parts.test), np.median(task.labels[task.parts.train])), {})


def ridge(task: Task) -> Fitted:
    """One number per element, weighted by its fraction: linear least squares with a penalty chosen on validation."""
    return _ridge(task, task.fractions, task.labels)


def boosting(task: Task) -> Fitted:
    """Gradient-boosted trees (Friedman, Ann. Stat. 29, 1189 (2001), doi:10.1214/aos/1013203451) on the composition.

    They see `composition_features`. Their number, and whether they minimise the absolute or the squared error, are
    chosen on validation.
    """
    return _boosting(task, task.features, task.labels)


def source_label(task: Task) -> Fitted:
    """The crystal's own label under the functional transferred from, as it is."""
    return Fitted(_source(task)[task.parts.test], {})


def source_label_ridge(task: Task) -> Fitted:
    """`source_label` plus a correction learnt from training pairs, linear in it and in the element fractions."""
    source = _source(task)
    known = source[task.parts.train]
    scaled = (source - known.mean()) / (known.std() or 1.0)
    correction = _ridge(task, lambda rows: np.column_stack([scaled[rows], task.fractions(rows)]), task.labels - source)
    return Fitted(source[task.parts.test] + correction.predictions, correction.choices)


def source_label_boosting(task: Task) -> Fitted:
    """`source_label` plus a correction by boosted trees on it and on the composition.

    Learning the difference is the Delta-learning of Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015),
    doi:10.1021/acs.jctc.5b00099.
    """
    source = _source(task)
    correction = _boosting(
        task, lambda rows: np.column_stack([source[rows], task.features(rows)]), task.labels - source
    )
    return Fitted(source[task.parts.test] + correction.predictions, correction.choices)


def _source(task: Task) -> Array:
    if task.source is None:
        raise CgatError("this baseline needs the label under the functional transferred from: give the task a `source`")
    return task.source


Inputs = Callable[[Indices], Array]


def _ridge(task: Task, inputs: Inputs, labels: Array) -> Fitted:
    """Linear least squares of labels (n,) on the inputs of rows, with the penalty of the lowest validation MAE."""
    from sklearn.linear_model import Ridge

    train, validation, test = (inputs(rows) for rows in vars(task.parts).values())
    fits = [Ridge(alpha=alpha).fit(train, labels[task.parts.train]) for alpha in _PENALTIES]
    errors = [np.abs(fit.predict(validation) - labels[task.parts.validation]).mean() for fit in fits]
    best = int(np.argmin(errors))
    return Fitted(fits[best].predict(test), {"penalty": float(_PENALTIES[best])})


def _boosting(task: Task, inputs: Inputs, labels: Array) -> Fitted:
    """Boosted trees from the inputs of rows to labels (n,): of both losses and all numbers of trees, the lowest
    validation MAE."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    train, validation, test = (inputs(rows) for rows in vars(task.parts).values())
    y, y_validation = labels[task.parts.train], labels[task.parts.validation]
    candidates = []
    for loss in ("absolute_error", "squared_error"):
        trees = HistGradientBoostingRegressor(
            loss=loss, max_iter=_TREES, early_stopping=True, n_iter_no_change=_PATIENCE, random_state=0
        ).fit(train, y, X_val=validation, y_val=y_validation)
        errors = [float(np.abs(stage - y_validation).mean()) for stage in trees.staged_predict(validation)]
        candidates.append((min(errors), int(np.argmin(errors)), loss, trees))
    _, place, loss, trees = min(candidates, key=lambda candidate: candidate[0])
    return Fitted(next(islice(trees.staged_predict(test), place, None)), {"trees": place + 1, "loss": loss})


SOURCE_LABEL = "a calculation with the functional transferred from"


@dataclass(frozen=True)
class Model:
    """A baseline: its function, and what it needs to know of a crystal it predicts.

    Args:
        learns: more than a constant. Where it does not, its errors are the labels of the table but for a constant, or
            differences of labels, so that of its errors only the mean is stored.
    """

    fit: Callable[[Task], Fitted]
    needs: str
    learns: bool = True

    @property
    def needs_source(self) -> bool:
        """Whether it predicts only crystals whose label under the other functional is known."""
        return self.needs == SOURCE_LABEL


BASELINES: Mapping[str, Model] = MappingProxyType(
    {
        "mean": Model(mean, "nothing", learns=False),
        "median": Model(median, "nothing", learns=False),
        "ridge": Model(ridge, "the composition"),
        "boosting": Model(boosting, "the composition"),
        "source label": Model(source_label, SOURCE_LABEL, learns=False),
        "source label + ridge": Model(source_label_ridge, SOURCE_LABEL),
        "source label + boosting": Model(source_label_boosting, SOURCE_LABEL),
    }
)
