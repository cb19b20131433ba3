"""From finished runs of several seeds to one model with a card: errors, uncertainty, and where it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.cards import Accuracy, Domain, EnsembleCard, Errors, Member, Uncertainty
from cgatlib.crystals.checks import PROPERTIES, SYMBOLS
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import Ensemble, load_model, read_card
from cgatlib.experiments.experiment import Experiment, Run, of_label, score
from cgatlib.experiments.runner import known_of, parts_of
from cgatlib.files import holds_only, refuse_same, replacing
from cgatlib.graphs.store import GraphStore, graph_store
from cgatlib.predictor import Predictor, save_network
from cgatlib.splits import Indices, Split

_ONE_SIGMA = 0.6827  # share of a normal distribution within one standard deviation
_WORST = 5  # elements that are named
_ENOUGH = 10  # test crystals that an element must occur in to be named
_SAME = 0.01  # of the MAE: how far stored predictions may lie from those of the stored weights


def release(
    runs: Sequence[Run], table: CrystalTable, out: Path, cache: Path, data: Mapping[str, str] | None = None
) -> Ensemble:
    """Make one model of runs that differ in nothing but their seeds, in the folder `out`.

    Args:
        runs: finished runs, of which some may have a source. table: the crystals they were trained on.
        out: folder of the model; one that holds a model is replaced. cache: folder of graph stores.
        data: ``name`` and ``licence`` of the training data, and what else is to be said of them.

    Raises:
        CgatError: the runs do not belong together or to the table, `out` holds something else than a model, or the
            stored weights do not give the stored predictions.
    """
    refuse_same(out, *(run.path for run in runs))
    with replacing(out, "a model", is_model) as part:
        _check(runs, table)
        predictors = tuple(Predictor.load(run.path) for run in runs)
        graphs = graph_store(table, runs[0].experiment.graph, cache)
        measured = _Measured(tuple(runs), predictors, table, graphs)
        described = {"name": table.source, "licence": "not stated", **(data or {}), "fingerprint": table.fingerprint}
        part.mkdir()
        members = tuple(_member(run, predictor, part) for run, predictor in zip(runs, predictors, strict=True))
        card = measured.card({name: str(value) for name, value in described.items()}, members)
        (part / "card.json").write_text(card.to_json())
    return load_model(out)


def is_model(folder: Path) -> bool:
    """Whether a folder holds a card and the networks that it names, and nothing else."""
    try:
        return holds_only(folder, "card.json", *(member.file for member in read_card(folder).members))
    except CgatError:
        return False


def _check(runs: Sequence[Run], table: CrystalTable) -> None:
    experiments = [run.experiment for run in runs]
    if len({_without_seeds(e) for e in experiments}) != 1:
        raise CgatError(
            f"{', '.join(e.key for e in experiments)} differ in more than their seeds: they are no ensemble"
        )
    seeds = [e.seed for e in experiments]
    if len(set(seeds)) < len(seeds):
        raise CgatError(f"members of an ensemble need different seeds, not {', '.join(map(str, seeds))}")
    if table.fingerprint != experiments[0].data:
        raise CgatError(
            f"the runs were trained on a table with fingerprint {experiments[0].data}; "
            f"that of {table.source or 'the table given'} is {table.fingerprint}"
        )


def _without_seeds(experiment: Experiment) -> Experiment:
    source = experiment.source
    return replace(experiment, seed=0, source=None if source is None else _without_seeds(source))


def _member(run: Run, predictor: Predictor, folder: Path) -> Member:
    member = Member("", predictor.card.statistics, run.experiment.to_dict(), run.metrics, run.provenance["code"])
    return replace(member, sha256=save_network(predictor.network, folder / member.file))


@dataclass(frozen=True)
class _Measured:
    """What a card says, computed from the runs and the table."""

    runs: tuple[Run, ...]
    predictors: tuple[Predictor, ...]
    table: CrystalTable
    graphs: GraphStore

    def card(self, data: dict[str, str], members: tuple[Member, ...]) -> EnsembleCard:
        e = self.runs[0].experiment
        accuracy = {label: self._accuracy(label) for label in e.labels}
        first = accuracy.pop(e.label)
        return EnsembleCard(
            label=e.label,
            unit=PROPERTIES[e.label].unit,
            functional=e.functional,
            data=data,
            domain=self._domain(),
            errors=first.errors,
            uncertainty=first.uncertainty,
            members=members,
            more_labels=accuracy,
        )

    @cached_property
    def _parts(self) -> list[Split]:
        """Parts of each run, with the whole of the validation part."""
        experiments = [run.experiment for run in self.runs]
        whole = [replace(e, training=replace(e.training, validation_size=None)) for e in experiments]
        return [parts_of(e, self.graphs) for e in whole]

    def _domain(self) -> Domain:
        rows = sorted({row for part in self._parts for row in part.train.tolist()})
        ids, place = self.graphs.ids, {name: i for i, name in enumerate(self.table.ids)}
        known = frozenset.intersection(*(frozenset(predictor.card.elements) for predictor in self.predictors))
        return Domain.of((self.table.crystal(place[ids[row]]) for row in rows), known)

    @cached_property
    def _outputs(self) -> dict[str, NDArray[np.float64]]:
        """What the members say of the test and of the validation crystals, (members, n, L) each."""
        members, parts = Ensemble(self.predictors), vars(self._parts[0])
        known = known_of(self.runs[0].experiment, self.graphs)
        found = {}
        for name in ("test", "validation"):
            rows = parts[name]
            outputs = members.outputs(self.graphs.graphs, rows, None if known is None else known[rows])
            found[name] = outputs.reshape(len(self.runs), len(rows), -1)
        return found

    def _accuracy(self, label: str) -> Accuracy:
        rows, target, outputs = self._tested(label)
        error = outputs.mean(axis=0) - target
        found = score(error)
        errors = Errors(
            n_test=len(target),
            mae=found["test_mae"],
            rmse=found["test_rmse"],
            mad=float(np.mean([run.scores(label)["test_mad"] for run in self.runs])),
            spread=float(outputs.std(axis=0, ddof=1).mean()) if len(outputs) > 1 else 0.0,
            worst_elements=self._worst_elements(rows, np.abs(error)),
        )
        return Accuracy(errors, self._uncertainty(label, np.abs(error), outputs) if len(self.runs) > 1 else None)

    def _labelled(self, part: str, label: str) -> tuple[Indices, NDArray[np.float64], NDArray[np.float64]]:
        """Rows (n,) of a part that carry a label, the labels (n,), and what the members say (members, n)."""
        rows = vars(self._parts[0])[part]
        values = self.graphs.label(label)[rows]
        known = ~np.isnan(values)
        place = self.runs[0].experiment.labels.index(label)
        return rows[known], values[known], self._outputs[part][:, known, place]

    def _tested(self, label: str) -> tuple[Indices, NDArray[np.float64], NDArray[np.float64]]:
        """As `_labelled` of the test part, with the stored predictions, which must be those of the members."""
        rows, target, outputs = self._labelled("test", label)
        ids, stored = [self.graphs.ids[row] for row in rows], []
        for run, output in zip(self.runs, outputs, strict=True):
            predictions = of_label(run.predictions, run.experiment, label)
            if predictions["material_id"].tolist() != ids:
                raise CgatError(f"run {run.experiment.key} was not tested on the test crystals of this table")
            stored.append(predictions["prediction"].to_numpy(np.float64))
            off = float(np.abs(output - stored[-1]).mean())
            if not off <= _SAME * run.scores(label)["test_mae"]:
                raise CgatError(f"run {run.experiment.key}: its weights do not give its predictions, by {off:.2g}")
        return rows, target, np.stack(stored)

    def _worst_elements(self, rows: Indices, error: NDArray[np.float64]) -> tuple[tuple[str, int, float], ...]:
        errors: dict[int, list[float]] = {}
        packed = self.graphs.graphs
        for row, value in zip(rows, error, strict=True):
            for z in set(packed.numbers[packed.node_ptr[row] : packed.node_ptr[row + 1]].tolist()):
                errors.setdefault(z, []).append(float(value))
        named = [(SYMBOLS[z - 1], len(v), float(np.mean(v))) for z, v in errors.items() if len(v) >= _ENOUGH]
        return tuple(sorted(named, key=lambda row: -row[2])[:_WORST])

    def _uncertainty(self, label: str, error: NDArray[np.float64], outputs: NDArray[np.float64]) -> Uncertainty:
        """From the validation crystals; what it is worth, from the test errors (T,) and outputs (members, T)."""
        _, labels, known = self._labelled("validation", label)
        ratio = np.abs(known.mean(axis=0) - labels) / np.maximum(known.std(axis=0, ddof=1), np.finfo(float).tiny)
        factor = float(np.quantile(ratio, _ONE_SIGMA))
        uncertainty = factor * outputs.std(axis=0, ddof=1)
        quarters = np.array_split(error[np.argsort(uncertainty, kind="stable")], 4)
        return Uncertainty(
            factor=factor,
            n_validation=len(labels),
            coverage=(float((error <= uncertainty).mean()), float((error <= 2 * uncertainty).mean())),
            mae_by_quarter=tuple(float(quarter.mean()) for quarter in quarters if len(quarter)),
        )
