"""One run: its crystals, the weights it starts from, its training and test, and the files it leaves."""

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cgatlib import CgatError
from cgatlib.crystals.crystal import KNOWN, PROPERTIES
from cgatlib.files import file_digest, holds_only
from cgatlib.graphs.packing import Ranges
from cgatlib.graphs.store import GraphStore
from cgatlib.inputs import (
    EmbeddingInputs,
    GraphInputs,
    Inputs,
    TargetStatistics,
    in_one,
    mean_absolute_errors,
    predict,
)
from cgatlib.model.cgat import CGAT
from cgatlib.predictor import ModelCard, Predictor
from cgatlib.runs.experiment import FILES, NETWORK, Experiment, Run, of_label, score
from cgatlib.runs.provenance import provenance
from cgatlib.runs.tested import seen_in
from cgatlib.splits import Split, groups_of, split, training_subset
from cgatlib.training import Progress, TrainingConfig, fit, kept_on
from cgatlib.transfer import STEPLESS, Network, completed, embed_all, form_of, outputs_taken, prepare, trained_part

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from cgatlib.runs.store import Runs

Array = NDArray[np.floating]


def labels_of(experiment: Experiment, graphs: GraphStore) -> NDArray[np.float64]:
    """The label of every graph, (n,), or the labels, (n, L); NaN where one is missing."""
    columns = [graphs.label(label) for label in experiment.labels]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def known_of(experiment: Experiment, graphs: GraphStore) -> NDArray[np.float64] | None:
    """The value of every graph by a cheaper functional, (n,), NaN where it is missing; None where it is not used."""
    return graphs.label(experiment.label + KNOWN) if experiment.transfer.mode == "paired" else None


def parts_of(experiment: Experiment, graphs: GraphStore) -> Split:
    """Rows of each part that carry the label (one of the labels), the training part cut to its size.

    Raises:
        CgatError: a part has no crystal with one of the labels, or the training part has too few.
    """
    known = ~np.isnan(labels_of(experiment, graphs)).reshape(len(graphs), -1)
    if (cheaper := known_of(experiment, graphs)) is not None:
        known &= ~np.isnan(cheaper)[:, None]
    whole = split(groups_of(graphs, experiment.split), experiment.split)
    labelled = Split(*(rows[known[rows].any(axis=1)] for rows in vars(whole).values()))
    train = training_subset(labelled.train, graphs.ids, experiment.train_size, experiment.seed)
    size = min(len(labelled.validation), experiment.training.validation_size or len(labelled.validation))
    validation = training_subset(labelled.validation, graphs.ids, size, experiment.split.seed)
    parts = Split(train, validation, labelled.test)
    for name, rows in vars(parts).items():
        for label, has in zip(experiment.labels, known[rows].any(axis=0), strict=True):
            if not has:
                raise CgatError(f"no crystal of the {name} part carries the label {label!r}")
    return parts


def train_run(runs: "Runs", experiment: Experiment, folder: Path, code: str, silent: bool, fabric: "Fabric") -> None:
    """Train an experiment in every process of `fabric`; the first one tests it and writes the files of its run.

    Args:
        runs: where its graphs and the run it starts from are. folder: exists; a checkpoint in it is resumed from.
        code: fingerprint of the code that trains. silent: shows no bar of steps.
    """
    start, mode = time.perf_counter(), experiment.transfer.mode
    crystals = _Crystals.of(runs, experiment)
    data = crystals.inputs(fabric.device)
    run, source = (None, None) if experiment.source is None else _source_of(runs, experiment.source)
    network, statistics = _start(experiment, source, data["train"])
    network.to(fabric.device)
    if mode == "head":
        data = {name: EmbeddingInputs(embed_all(network, part), part.targets) for name, part in data.items()}
    before = copy.deepcopy(trained_part(network, mode))
    training = _Training(experiment, data["train"], data["validation"], statistics, folder, fabric, silent)
    module, progress = training.fit(network)
    if not fabric.is_global_zero:
        return
    module, tried = training.completed(module, before, progress)
    outputs = predict(module, data["test"], statistics).float().numpy()  # in the precision that is kept
    predictions = crystals.predictions(outputs, _seen_before(runs, experiment))
    weights = 0 if mode in STEPLESS else sum(p.numel() for p in before.parameters())
    seconds = time.perf_counter() - start + progress.earlier_seconds
    metrics = crystals.metrics(predictions, progress) | ({"tried": tried} if tried else {})
    metrics |= {"trained_parameters": weights, "seconds": seconds}
    for left in folder.iterdir():  # the checkpoint, and the half of one if its writing was killed
        left.unlink()
    whole = network if form_of(mode) == "network" else cast(Network, module)
    Predictor(whole.cpu(), crystals.card(statistics, source)).save(folder)
    record = {"training_code": code, **_history(run), "seconds": seconds}
    _write(folder, experiment, metrics, progress, predictions, record)


@dataclass(frozen=True)
class _Crystals:
    """The crystals of an experiment: their graphs, labels (n,) or (n, L), and the rows of each part."""

    experiment: Experiment
    graphs: GraphStore
    labels: Array
    parts: Split

    @classmethod
    def of(cls, runs: "Runs", experiment: Experiment) -> "_Crystals":
        graphs = runs.graphs(experiment.data, experiment.graph)
        return cls(experiment, graphs, labels_of(experiment, graphs), parts_of(experiment, graphs))

    def inputs(self, device: torch.device) -> dict[str, Inputs]:
        """What each part is trained or tested on."""
        there, known = kept_on(device, self.graphs.graphs), known_of(self.experiment, self.graphs)
        columns = [torch.from_numpy(column) for column in (self.labels, known) if column is not None]
        return {
            name: GraphInputs(there, rows, *(column[torch.from_numpy(rows)] for column in columns))
            for name, rows in vars(self.parts).items()
        }

    def predictions(self, outputs: Array, before: Sequence[set[str]]) -> pd.DataFrame:
        """What `Run.predictions` holds, from outputs (T,) or (T, L); `before` are ids and formulas that were seen."""
        rows, names = self.parts.test, {"material_id": self.graphs.ids, "formula": self.graphs.formulas}
        table = pd.DataFrame({name: np.array(texts)[rows] for name, texts in names.items()})
        if before:
            table["seen"] = seen_in(table["material_id"], table["formula"], *before)
        columns = (x.reshape(len(rows), -1).T for x in (self.labels[rows], outputs))
        for label, target, prediction in zip(self.experiment.labels, *columns, strict=True):
            suffix = self.experiment.suffix(label)
            table[f"target{suffix}"], table[f"prediction{suffix}"] = target, prediction
        return table

    def metrics(self, predictions: pd.DataFrame, progress: Progress) -> dict[str, Any]:
        """What `Run.metrics` says of the errors."""
        each, columns = {}, self.labels.reshape(len(self.labels), -1).T
        for label, column, mae in zip(self.experiment.labels, columns, progress.best_maes, strict=True):
            known = {name: column[rows[~np.isnan(column[rows])]] for name, rows in vars(self.parts).items()}
            tested = of_label(predictions, self.experiment, label)
            each[label] = {
                **score(tested["prediction"] - tested["target"]),
                "test_mad": float(np.abs(known["test"] - known["train"].mean()).mean()),
                "validation_mae": mae,
                **{f"n_{name}": len(values) for name, values in known.items()},
            }
        return {
            **each[self.experiment.label],
            "validation_mae": progress.best_mae,
            **({"labels": each} if self.experiment.more_labels else {}),
            **{name: getattr(progress, name) for name in ("best_step", "stopped")},
            "last_step": progress.step,
            **{f"n_{name}": len(rows) for name, rows in vars(self.parts).items()},
        }

    def card(self, statistics: TargetStatistics, source: Predictor | None) -> ModelCard:
        """Of the trained network; its elements are those of the training part and of the source's."""
        nodes = Ranges.of(self.graphs.graphs.node_ptr, self.parts.train).rows
        elements = {*np.unique(self.graphs.graphs.numbers[nodes]).tolist(), *(source.card.elements if source else ())}
        e, form = self.experiment, form_of(self.experiment.transfer.mode)
        what = e.label, PROPERTIES[e.label].unit, e.functional
        return ModelCard(*what, statistics, e.model, e.graph, tuple(sorted(elements)), e.more_labels, form)


def _seen_before(runs: "Runs", experiment: Experiment) -> Sequence[set[str]]:
    """Ids and formulas of the pre-training, where it may have seen test crystals and its graphs are here."""
    source = experiment.source
    if source is None or experiment.transfer.test_crystals == "unseen" or not runs.has(source.data, experiment.graph):
        return ()
    graphs = runs.graphs(source.data, experiment.graph)
    rows = parts_of(source, graphs).train
    return [set(np.array(texts)[rows]) for texts in (graphs.ids, graphs.formulas)]


def _source_of(runs: "Runs", source: Experiment) -> tuple[Run, Predictor]:
    """The run that another starts from, and its network."""
    run = runs.find(source)
    if run is None or run.network is None:
        raise CgatError(f"the source run {source.key} {'does not exist' if run is None else 'has no weights'}")
    predictor = Predictor.load(run.network)
    if not isinstance(predictor.network, CGAT):
        raise CgatError(f"the source run {source.key} is a {predictor.card.form} model, from which none can start")
    return run, predictor


def _start(experiment: Experiment, source: Predictor | None, train: Inputs) -> tuple[CGAT, TargetStatistics]:
    """The network as it is before training, and its target scale."""
    torch.manual_seed(experiment.seed)
    network = CGAT(experiment.model, len(experiment.labels))
    if source is None:
        return network, prepare(network, experiment.transfer, None, None, train)
    taken, whole = outputs_taken(experiment.transfer, experiment.labels, source.card.labels), cast(CGAT, source.network)
    return network, prepare(network, experiment.transfer, whole, source.card.statistics, train, taken)


@dataclass(frozen=True)
class _Training:
    """What is learnt from, on which scale, and where."""

    experiment: Experiment
    train: Inputs
    validation: Inputs
    statistics: TargetStatistics
    folder: Path
    fabric: "Fabric"
    silent: bool

    def fit(self, network: CGAT) -> tuple[nn.Module, Progress]:
        """Train the part that the mode of transfer trains, the output network alone first where that is wanted."""
        e = self.experiment
        module = trained_part(network, e.transfer.mode)
        if e.transfer.mode in STEPLESS:
            progress = Progress()
            self._score(module, progress)
            return module, progress
        first = round(e.transfer.head_first * e.training.steps)
        if first:
            self._fit_head(network, first)
        progress = self._fit_shown(module, first)
        progress.step, progress.best_step = progress.step + first, progress.best_step + first
        for row in progress.curve:
            row["step"] += first
            row["epoch"] += first * min(e.training.batch_size, len(self.train)) / len(self.train)
        return module, progress

    def _fit_shown(self, module: nn.Module, first: int) -> Progress:
        """Train with a bar of steps, of which the `first` are done."""
        e, training = self.experiment, self._share(self.experiment.training.steps - first)
        silent = self.silent or not self.fabric.is_global_zero
        with tqdm(total=e.training.steps, unit=" steps", desc=e.key, leave=False, disable=silent) as bar:

            def report(progress: Progress) -> None:
                bar.update(progress.step - bar.n)
                bar.set_postfix(validation_mae=progress.curve[-1]["validation_mae"], refresh=False)

            learnt = self.train, self.validation, self.statistics
            checkpoint = self.folder / "checkpoint.pt"
            return fit(module, *learnt, training, e.seed, checkpoint, self.fabric, report=report)

    def _fit_head(self, network: CGAT, steps: int) -> None:
        """Train the output network alone, on the embeddings that the rest of the network gives."""
        train, validation = (
            EmbeddingInputs(embed_all(network, data), data.targets) for data in (self.train, self.validation)
        )
        training, checkpoint = replace(self._share(steps), trunk_rate=1.0), self.folder / "head.pt"
        fit(network.output, train, validation, self.statistics, training, self.experiment.seed, checkpoint, self.fabric)

    def _share(self, steps: int) -> TrainingConfig:
        """The training of the experiment in a part of its steps, with as many evaluations a step."""
        training = self.experiment.training
        return replace(training, steps=steps, evaluations=max(1, training.evaluations * steps // training.steps))

    def completed(self, module: nn.Module, before: nn.Module, progress: Progress) -> tuple[nn.Module, dict[str, float]]:
        """What predicts in the end, its validation errors in `progress`; and those of all that was tried."""
        how, weights = self.experiment.transfer, self.experiment.training.label_weights
        if how.mode == "none":
            return module, {}
        module, tried = completed(module, before, how, self.train, self.validation, self.statistics, weights)
        if how.interpolate or form_of(how.mode) != "network":
            self._score(module, progress)
        return module, tried

    def _score(self, module: nn.Module, progress: Progress) -> None:
        """Give `progress` the validation errors of a module."""
        maes = mean_absolute_errors(predict(module, self.validation, self.statistics), self.validation.targets)
        progress.best_mae = in_one(maes, self.statistics, self.experiment.training.label_weights)
        progress.best_maes = maes.tolist()


def _history(source: Run | None) -> dict[str, Any]:
    """Which run was started from, which code made it, and the digest of the weights that were taken from it."""
    if source is None:
        return {"source": None}
    taken = {"weights": file_digest(cast(Path, source.network) / "weights.safetensors")}
    if not holds_only(source.path, "experiment.json", *NETWORK):  # a member of a model has its history in the card
        taken = {"code": source.provenance["code"], "training_code": source.code, **taken}
    return {"source": source.experiment.key, "source_run": taken}


def _write(
    folder: Path,
    experiment: Experiment,
    metrics: dict[str, Any],
    progress: Progress,
    predictions: pd.DataFrame,
    record: dict[str, Any],
) -> None:
    """Write what a run has made; last where it comes from, with the hashes of its files: then it is whole."""
    (folder / "experiment.json").write_text(json.dumps(experiment.to_dict(), indent=1))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    names = {f"validation_mae_{place}": f"validation_mae_{label}" for place, label in enumerate(experiment.labels)}
    pd.DataFrame(progress.curve).rename(columns=names).to_parquet(folder / "curve.parquet", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    files = {name: file_digest(folder / name) for name in FILES}
    record = {**provenance(), **record, "data": experiment.data, "seed": experiment.seed, "files": files}
    (folder / "provenance.json").write_text(json.dumps(record, indent=1))
