"""What a network has to beat: simple models with its training, validation and test crystals, and their results.

Each is a function of a `Task` and may look at the labels of the training and the validation part only. Some need a
composition at most; the others need the label of the very same crystal under the cheaper functional, that is a
calculation where a network needs none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cgatlib.crystals.composition import composition_features, element_fractions
from cgatlib.crystals.table import CrystalTable
from cgatlib.errors import CgatError
from cgatlib.evaluation.statistics import Array
from cgatlib.files import file_digest, replacing
from cgatlib.graphs.store import GraphStore
from cgatlib.runs.archive import TOLERANCE, kept, of_rows, read_parquet, write_table
from cgatlib.runs.experiment import Experiment, read_json, score
from cgatlib.runs.plan import Plan
from cgatlib.runs.provenance import provenance
from cgatlib.runs.tested import errors_of
from cgatlib.runs.trainer import parts_of
from cgatlib.splits import Indices, Split

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
            experiment: a run's, or one that was never run. crystals: its graphs, or its table where all have a graph.
            source: label under the functional transferred from, by material id.

        Raises:
            CgatError: the crystals are of another table, or a part has none with the label.
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
    choices: Mapping[str, float | str] = field(default_factory=dict)


def mean(task: Task) -> Fitted:
    """The mean of the training labels."""
    return Fitted(np.full(len(task.parts.test), task.labels[task.parts.train].mean()))


def median(task: Task) -> Fitted:
    """The median of the training labels: the constant with the smallest MAE in training."""
    return Fitted(np.full(len(task.parts.test), np.median(task.labels[task.parts.train])))


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
    return Fitted(_source(task)[task.parts.test])


def source_label_ridge(task: Task) -> Fitted:
    """`source_label` plus a correction learnt from training pairs, linear in it and in the element fractions."""
    return _corrected(task, task.fractions, partial(_ridge, scaled=[0]))


def source_label_boosting(task: Task) -> Fitted:
    """`source_label` plus a correction by boosted trees on it and on the composition.

    Learning the difference is the Delta-learning of Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015),
    doi:10.1021/acs.jctc.5b00099.
    """
    return _corrected(task, task.features, _boosting)


def _source(task: Task) -> Array:
    if task.source is None:
        raise CgatError("this baseline needs the label under the functional transferred from: give the task a `source`")
    return task.source


Inputs = Callable[[Indices], Array]


def _corrected(task: Task, inputs: Inputs, fit: Callable[[Task, Inputs, Array], Fitted]) -> Fitted:
    """The source label plus what a model learns of the difference from it, with the source label as first input."""
    source = _source(task)
    correction = fit(task, lambda rows: np.column_stack([source[rows], inputs(rows)]), task.labels - source)
    return Fitted(source[task.parts.test] + correction.predictions, correction.choices)


def _ridge(task: Task, inputs: Inputs, labels: Array, scaled: Sequence[int] = ()) -> Fitted:
    """Least squares of labels (n,) on inputs, some columns scaled, with the penalty of the lowest validation MAE."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, validation, test = (inputs(rows) for rows in vars(task.parts).values())
    columns = make_column_transformer((StandardScaler(), list(scaled)), remainder="passthrough")
    models = [make_pipeline(columns, Ridge(alpha=alpha)) for alpha in _PENALTIES]
    fits = [model.fit(train, labels[task.parts.train]) for model in models]
    errors = [np.abs(fit.predict(validation) - labels[task.parts.validation]).mean() for fit in fits]
    best = int(np.argmin(errors))
    return Fitted(fits[best].predict(test), {"penalty": float(_PENALTIES[best])})


def _boosting(task: Task, inputs: Inputs, labels: Array) -> Fitted:
    """Boosted trees from inputs to labels (n,): of both losses and all numbers of trees, the lowest validation MAE."""
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

    One that does not learn more than a constant has errors that are labels of the table but for a constant, or
    differences of labels: of these only the mean is stored.
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


@dataclass(frozen=True, eq=False)
class Baseline:
    """Result of a baseline.

    Crystals are fewer than the experiment's where the source label is needed; `mae` is in the label's unit; `errors`
    are as `cgatlib.runs.tested` describes them, and none where the model does not learn.
    """

    name: str
    needs: str
    functional: str
    label: str
    data: str
    train_size: int | None
    seed: int
    split: Mapping[str, Any]
    n_train: int
    n_validation: int
    n_test: int
    choices: Mapping[str, float | str]
    mae: float
    errors: pd.DataFrame


def baseline(name: str, task: Task) -> Baseline:
    """Fit one of `BASELINES` and predict the task's test part, or what of it has a source label where that is needed.

    Raises:
        CgatError: source labels are needed and a part has none.
    """
    model, e = BASELINES[name], task.experiment
    if model.needs_source:
        task = task.paired()
    fitted, test = model.fit(task), task.parts.test
    columns = {"material_id": task.ids, "formula": task.formulas, "target": task.labels}
    tested = pd.DataFrame({name: values[test] for name, values in columns.items()} | {"prediction": fitted.predictions})
    errors = errors_of(tested, e.label)
    about: dict[str, Any] = {key: getattr(e, key) for key in ("functional", "label", "data", "train_size", "seed")}
    about |= {f"n_{part}": len(rows) for part, rows in vars(task.parts).items()}
    return Baseline(
        name=name,
        needs=model.needs,
        split=asdict(e.split),
        **about,
        choices=dict(fitted.choices),
        mae=score(errors["error"])["test_mae"],
        errors=errors if model.learns else errors[:0],
    )


def all_baselines(task: Task) -> list[Baseline]:
    """Every baseline that applies: those that need source labels where the task has them."""
    return [baseline(name, task) for name, m in BASELINES.items() if task.source is not None or not m.needs_source]


def write_baselines(folder: Path, baselines: Iterable[Baseline]) -> None:
    """Write ``baselines.json`` (everything but the errors, provenance) and ``baselines.parquet`` (errors)."""
    baselines, table, listed = list(baselines), folder / "baselines.parquet", folder / "baselines.json"
    names = [item.name for item in fields(Baseline) if item.name != "errors"]
    frames = [kept(b.errors).assign(entry=np.int32(entry)) for entry, b in enumerate(baselines)]
    with replacing(table, "a table of baselines", lambda path: listed.is_file()) as part:
        write_table(part, [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames])
    record = {
        "baselines": [{name: getattr(b, name) for name in names} for b in baselines],
        "provenance": {**provenance(), "files": {table.name: file_digest(table)}},
    }
    with replacing(listed, "a list of baselines", lambda path: "baselines" in read_json(path)) as part:
        part.write_text(json.dumps(record, indent=1))


def read_baselines(folder: Path) -> list[Baseline]:
    """Read what `write_baselines` wrote.

    Raises:
        CgatError: a file is missing, or the errors are not those that were written.
    """
    record, table = read_json(folder / "baselines.json"), read_parquet(folder / "baselines.parquet")
    if file_digest(folder / "baselines.parquet") != record["provenance"]["files"]["baselines.parquet"]:
        raise CgatError(f"{folder / 'baselines.parquet'} was changed after it was written")
    entries = table["entry"].to_numpy()
    return [
        Baseline(**values, errors=of_rows(table.filter(pa.array(entries == entry))))
        for entry, values in enumerate(record["baselines"])
    ]


def baseline_problems(folder: Path) -> list[str]:
    """What is wrong with the baselines of a folder: changed files, or a MAE that does not follow from the errors."""
    if not (folder / "baselines.json").exists():
        return []
    try:
        found = read_baselines(folder)
    except CgatError as error:
        return [str(error)]
    return [
        f"baseline {number} ({b.name}): the MAE is {b.mae}, but the errors give {value}"
        for number, b in enumerate(found)
        if len(b.errors)
        and not np.isclose(value := score(b.errors["error"])["test_mae"], b.mae, rtol=TOLERANCE, atol=0)
    ]


def planned_baselines(plan: Plan, data: Path) -> Iterator[Baseline]:
    """All baselines of a plan's targets, on the crystals of each of its splits.

    A target is a label of a table that some run is transferred to, with one number of training crystals: where that is
    not the whole part, each seed has crystals of its own. ``pairs`` of a table names the columns that hold the same
    crystal's labels under the functional transferred from.

    Args:
        plan: opened. data: folder of its files.

    Raises:
        CgatError: a column of pairs does not exist.
    """
    alone = (name for name, entry in plan.entries.items() if entry.start is not None and len(entry.sizes) == 1)
    every = (experiment for name in alone for experiment in plan.experiments(name))
    targets = {(e.data, e.label, e.split, e.train_size, e.train_size and e.seed): e for e in every}
    names = {source.table.fingerprint: name for name, source in plan.sources.items()}
    for experiment in targets.values():
        yield from all_baselines(_task(plan, names[experiment.data], experiment, data))


def _task(plan: Plan, table: str, experiment: Experiment, data: Path) -> Task:
    declared = plan.tables[table]
    column = declared.get("pairs", {}).get(experiment.label)
    if column is None:
        return Task.of(experiment, plan.sources[table].table)
    file = data / declared["file"]
    if column not in pq.read_schema(file).names:
        raise CgatError(f"table {table}: {file} has no column {column!r}, which its pairs name")
    rows = pq.read_table(file, columns=["material_id", column])
    values = dict(zip(rows["material_id"].to_pylist(), rows[column].to_pylist(), strict=True))
    return Task.of(experiment, plan.sources[table].table, {i: v for i, v in values.items() if v is not None})
