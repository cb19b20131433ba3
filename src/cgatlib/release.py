"""From finished runs to one model with a card: errors, uncertainty, domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cgatlib import CgatError
from cgatlib.cards import Accuracy, Domain, EnsembleCard, Errors, Member, Uncertainty
from cgatlib.crystals.composition import element_amounts
from cgatlib.crystals.crystal import GAP_THRESHOLD
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import Ensemble, load_model, read_card
from cgatlib.evaluation.baselines import Task, boosting, mean, median
from cgatlib.files import holds_only, refuse_same, replacing
from cgatlib.graphs.store import GraphStore
from cgatlib.predictor import Predictor, save_network
from cgatlib.runs.experiment import Experiment, Run, of_label, score
from cgatlib.runs.store import Runs
from cgatlib.runs.trainer import known_of, parts_of
from cgatlib.splits import Indices, Split, training_subset
from cgatlib.uncertainty import FILE, REFERENCES, Estimator, learnt, save_estimators

Array = NDArray[np.float64]

_WORST = 5  # elements that are named
_ENOUGH = 10  # test crystals that an element must occur in to be named
_SAME = 0.01  # of the MAE: how far stored predictions may lie from those of the weights
_HALF = 0.001  # of the MAE: how much half precision may change it
_ELEMENTS = {1: "elements", 2: "binary compounds", 3: "ternary compounds", 4: "compounds of four or more elements"}


def release(
    runs: Sequence[Run],
    table: CrystalTable,
    out: Path,
    store: Runs,
    data: Mapping[str, str] | None = None,
    half: bool = False,
) -> Ensemble:
    """Make one model of runs, in the folder `out`; a label comes from the trunk with the lowest validation error.

    Args:
        runs: finished ones. table: the crystals they were trained on. store: where its graphs are.
        out: folder of the model; one that holds a model is replaced.
        data: ``name``, ``licence`` and more of the training data. half: store weights in half precision.

    Raises:
        CgatError: the runs do not belong together or to the table, a trunk is best for no label, `out` holds something
            else, the stored weights do not give the stored predictions, or half precision is too coarse.
    """
    refuse_same(out, *(run.path for run in runs))
    with replacing(out, "a model", is_model) as part:
        together = _together(runs, table)
        store.add(table)
        graphs = store.graphs(table.fingerprint, runs[0].experiment.graph)
        chosen = _chosen([_Trunk(tuple(alike), graphs, half) for alike in together])
        from_trunk = {label: trunk for trunk, labels in chosen for label in labels}
        described = {"name": table.source, "licence": "not stated", **(data or {}), "fingerprint": table.fingerprint}
        part.mkdir()
        card = EnsembleCard(
            functional=runs[0].experiment.functional,
            data={name: str(value) for name, value in described.items()},
            domain=_domain([trunk for trunk, _ in chosen], table),
            accuracy={label: from_trunk[label].accuracy(label) for label in _labels(runs)},
            members=tuple(member for trunk, labels in chosen for member in trunk.save(part, labels)),
            estimates=save_estimators([trunk.estimator(labels) for trunk, labels in chosen], part),
            half=half,
        )
        (part / "card.json").write_text(card.to_json())
    return load_model(Path(out))


def is_model(folder: Path) -> bool:
    """Whether a folder holds a card and the files that it names, and nothing else."""
    try:
        card = read_card(folder)
    except CgatError:
        return False
    names = [member.file for member in card.members]
    return holds_only(folder, "card.json", *names, *([FILE] if card.estimates else []))


def _together(runs: Sequence[Run], table: CrystalTable) -> list[list[Run]]:
    """The runs that differ in their seeds alone, in the order given."""
    first = runs[0].experiment
    alike: dict[Experiment, list[Run]] = {}
    for run in runs:
        alike.setdefault(_without_seeds(run.experiment), []).append(run)
        for name in ("data", "functional", "graph", "split"):
            if getattr(run.experiment, name) != getattr(first, name):
                raise CgatError(f"{first.key}, {run.experiment.key} differ in their {name}: they are no model together")
    for trunk in alike.values():
        seeds = [run.experiment.seed for run in trunk]
        if len(set(seeds)) < len(seeds):
            raise CgatError(f"members of an ensemble need different seeds, not {', '.join(map(str, seeds))}")
    if table.fingerprint != first.data:
        raise CgatError(
            f"the runs were trained on a table with fingerprint {first.data}; "
            f"that of {table.source or 'the table given'} is {table.fingerprint}"
        )
    return list(alike.values())


def _without_seeds(experiment: Experiment) -> Experiment:
    source = experiment.source
    return replace(experiment, seed=0, source=None if source is None else _without_seeds(source))


def _labels(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for run in runs for label in run.experiment.labels))


def _chosen(trunks: Sequence["_Trunk"]) -> list[tuple["_Trunk", tuple[str, ...]]]:
    """The labels that the model takes from each trunk."""
    taken: list[list[str]] = [[] for _ in trunks]
    for label in _labels([run for trunk in trunks for run in trunk.runs]):
        able = [place for place, trunk in enumerate(trunks) if label in trunk.runs[0].experiment.labels]
        best = able[0] if len(able) == 1 else min(able, key=lambda place: trunks[place].validation_mae(label))
        taken[best].append(label)
    for trunk, labels in zip(trunks, taken, strict=True):
        if not labels:
            keys = ", ".join(run.experiment.key for run in trunk.runs)
            raise CgatError(f"for no label are the runs {keys} better in validation than the others: leave them out")
    return [(trunk, tuple(labels)) for trunk, labels in zip(trunks, taken, strict=True)]


def _domain(trunks: Sequence["_Trunk"], table: CrystalTable) -> Domain:
    graphs = trunks[0].graphs
    rows = sorted({row for trunk in trunks for part in trunk.parts for row in part.train.tolist()})
    ids, place = graphs.ids, {name: i for i, name in enumerate(table.ids)}
    known = frozenset.intersection(*(frozenset(p.card.elements) for trunk in trunks for p in trunk.predictors))
    return Domain.of((table.crystal(place[ids[row]]) for row in rows), known)


@dataclass(frozen=True, eq=False)
class _Trunk:
    """Runs that differ in their seeds alone, and what a card says of their labels."""

    runs: tuple[Run, ...]
    graphs: GraphStore
    half: bool

    @cached_property
    def predictors(self) -> tuple[Predictor, ...]:
        """As they are stored, with all that they have learnt: others can start from any of it."""
        loaded = (Predictor.load(run.path) for run in self.runs)
        return tuple(p.in_half() if self.half else p for p in loaded)

    def save(self, folder: Path, labels: tuple[str, ...]) -> list[Member]:
        """Write the weights; what the card says of each network, of which `labels` are taken."""
        members = []
        for run, predictor in zip(self.runs, self.predictors, strict=True):
            file = f"{labels[0]}-{run.experiment.seed}.safetensors"
            digest = save_network(predictor.network, folder / file, self.half)
            what = predictor.card.statistics, run.experiment.to_dict(), run.metrics, run.provenance["code"]
            members.append(Member(file, digest, labels, *what))
        return members

    @cached_property
    def parts(self) -> list[Split]:
        """Parts of each run, with the whole of the validation part."""
        experiments = [run.experiment for run in self.runs]
        whole = [replace(e, training=replace(e.training, validation_size=None)) for e in experiments]
        return [parts_of(e, self.graphs) for e in whole]

    @cached_property
    def _outputs(self) -> dict[str, dict[str, Array]]:
        """Predictions of the members for the test and the validation crystals, (members, n) of each label."""
        members, parts = Ensemble(self.predictors), self.parts[0]
        known = known_of(self.runs[0].experiment, self.graphs)
        return {
            name: members.outputs(self.graphs.graphs, rows, None if known is None else known[rows])
            for name, rows in {"test": parts.test, "validation": parts.validation}.items()
        }

    @cached_property
    def _embeddings(self) -> dict[str, Array]:
        parts = self.parts[0]
        known = training_subset(parts.train, self.graphs.ids, min(REFERENCES, len(parts.train)), seed=0)
        embed = partial(self.predictors[0].embed_graphs, self.graphs.graphs)
        return {name: embed(rows) for name, rows in (vars(parts) | {"train": known}).items()}

    def _labelled(self, part: str, label: str) -> tuple[NDArray[np.bool_], Indices, Array]:
        """Which crystals of a part carry a label, (part,), their rows (n,) and labels (n,)."""
        rows = vars(self.parts[0])[part]
        values = self.graphs.label(label)[rows]
        known = ~np.isnan(values)
        return known, rows[known], values[known]

    def validation_mae(self, label: str) -> float:
        """MAE of the mean of the members on the validation crystals with the label."""
        known, _, target = self._labelled("validation", label)
        return float(np.abs(self._outputs["validation"][label][:, known].mean(axis=0) - target).mean())

    @cached_property
    def _learnt(self) -> dict[str, tuple[Array, float]]:
        """By label what `learnt` returns; no entry where there is too little to learn from."""
        found = {}
        for label in self.runs[0].experiment.labels:
            known, rows, target = self._labelled("validation", label)
            scale, outputs = self.predictors[0].scale(label), self._outputs["validation"][label][:, known]
            features = self._references.features(self._embeddings["validation"][known], outputs / scale)
            errors = np.abs(outputs.mean(axis=0) - target) / scale
            formulas = [self.graphs.formulas[row] for row in rows]
            if line := learnt(features, errors, formulas, len(self._references.center)):
                found[label] = line
        return found

    @cached_property
    def _references(self) -> Estimator:
        return Estimator.of(self._embeddings["train"])

    def estimator(self, labels: Sequence[str]) -> Estimator:
        """Of the errors of labels, from those on the validation crystals."""
        return replace(self._references, lines={name: self._learnt[name][0] for name in labels if name in self._learnt})

    def accuracy(self, label: str) -> Accuracy:
        """How well a label is predicted, by the weights as they are stored."""
        known, rows, target = self._labelled("test", label)
        outputs = self._outputs["test"][label][:, known]
        error = outputs.mean(axis=0) - target
        self._check(label, rows, target, outputs)
        found = score(error)
        errors = Errors(
            n_test=len(target),
            mae=found["test_mae"],
            rmse=found["test_rmse"],
            mad=float(np.mean([run.scores(label)["test_mad"] for run in self.runs])),
            spread=float(outputs.std(axis=0, ddof=1).mean()) if len(outputs) > 1 else 0.0,
            worst_elements=self._worst_elements(rows, np.abs(error)),
            baselines=self._baselines(label),
            classes=self._classes(label, rows, target, np.abs(error)),
        )
        return Accuracy(errors, self._uncertainty(label, known, np.abs(error), outputs))

    def _check(self, label: str, rows: Indices, target: Array, outputs: Array) -> None:
        """Refuse weights whose outputs (members, n) are not those of the runs."""
        ids, stored = [self.graphs.ids[row] for row in rows], []
        for run, output in zip(self.runs, outputs, strict=True):
            predictions = of_label(run.predictions, run.experiment, label)
            if predictions["material_id"].tolist() != ids:
                raise CgatError(f"run {run.experiment.key} was not tested on the test crystals of this table")
            stored.append(predictions["prediction"].to_numpy(np.float64))
            off = float(np.abs(output - stored[-1]).mean())
            if not off <= _SAME * run.scores(label)["test_mae"]:
                raise CgatError(f"run {run.experiment.key}: its weights do not give its predictions, by {off:.2g}")
        mae, before = (float(np.abs(values.mean(axis=0) - target).mean()) for values in (outputs, np.stack(stored)))
        if self.half and abs(mae - before) > _HALF * before:
            raise CgatError(f"{label}: half precision changes the test MAE from {before:.6g} to {mae:.6g}: too coarse")

    def _worst_elements(self, rows: Indices, error: Array) -> tuple[tuple[str, int, float], ...]:
        errors: dict[str, list[float]] = {}
        for row, value in zip(rows, error, strict=True):
            for symbol in element_amounts(self.graphs.formulas[row]):
                errors.setdefault(symbol, []).append(float(value))
        means = [(symbol, len(found), float(np.mean(found))) for symbol, found in errors.items()]
        return tuple(sorted((row for row in means if row[1] >= _ENOUGH), key=lambda row: -row[2])[:_WORST])

    def _baselines(self, label: str) -> dict[str, float]:
        """Test MAE of constants and of boosted trees on the composition, for the training crystals of the first run."""
        e = self.runs[0].experiment
        training = replace(e.training, validation_size=None, label_weights=())
        e = replace(e, label=label, more_labels=(), training=training)
        task = Task.of(e, self.graphs)
        truth = task.labels[task.parts.test]
        fits = {fit.__name__: fit(task).predictions for fit in (mean, median, boosting)}
        fits["zero"] = np.zeros(len(truth))
        return {name: float(np.abs(found - truth).mean()) for name, found in fits.items()}

    def _classes(self, label: str, rows: Indices, target: Array, error: Array) -> dict[str, tuple[int, float]]:
        counts = [min(len(element_amounts(self.graphs.formulas[row])), max(_ELEMENTS)) for row in rows]
        kinds = {name: np.array(counts) == count for count, name in _ELEMENTS.items()}
        if label == "band_gap":
            kinds |= {"metals": target <= GAP_THRESHOLD, "non-metals": target > GAP_THRESHOLD}
        if label == "e_above_hull":
            kinds |= {"on the hull": target <= 0, "above the hull": target > 0}
        return {name: (int(kind.sum()), float(error[kind].mean())) for name, kind in kinds.items() if kind.any()}

    def _uncertainty(self, label: str, known: NDArray[np.bool_], error: Array, outputs: Array) -> Uncertainty | None:
        """How good the estimates are on the test set: errors (n,) and outputs (members, n) of the crystals `known`."""
        if label not in self._learnt:
            return None
        scale, factor = self.predictors[0].scale(label), self._learnt[label][1]
        estimate = self.estimator([label])(label, self._embeddings["test"][known], outputs / scale)
        uncertainty = scale * factor * estimate
        quarters = np.array_split(error[np.argsort(uncertainty, kind="stable")], 4)
        rank = float(spearmanr(error, uncertainty).statistic) if len(set(uncertainty)) > 1 and len(error) > 2 else None
        return Uncertainty(
            factor=factor,
            n_validation=int(self._labelled("validation", label)[0].sum()),
            coverage=(float((error <= uncertainty).mean()), float((error <= 2 * uncertainty).mean())),
            mae_by_quarter=tuple(float(quarter.mean()) for quarter in quarters if len(quarter)),
            rank_correlation=rank,
        )
