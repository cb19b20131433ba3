"""One run: its crystals, the weights it starts from, its training and test, and the files it leaves."""

import copy
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
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
from cgatlib.splits import Indices, Split, groups_of, split, training_subset
from cgatlib.training import Progress, TrainingConfig, fit, kept_on
from cgatlib.transfer import STEPLESS, Network, completed, embed_all, form_of, outputs_taken, prepare, trained_part

if TYPE_CHECKING:
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


def train_run(runs: "Runs", experiment: Experiment, folder: Path, code: str, silent: bool, fabric: Fabric) -> None:
    """Train an experiment in every process of `fabric`; the first one tests it and writes the files of its run.

    Args:
        runs: where its graphs and the run it starts from are. folder: exists; a checkpoint in it is resumed from.
        code: fingerprint of the code that trains. silent: shows no bar of steps.
    """
    start = time.perf_counter()
    graphs = runs.graphs(experiment.data, experiment.graph)
    labels, parts = labels_of(experiment, graphs), parts_of(experiment, graphs)
    data = _inputs(experiment, graphs, labels, parts, fabric)
    source = None if experiment.source is None else _network_of(runs, experiment.source)
    network, statistics = _start(experiment, source, data["train"])
    network.to(fabric.device)
    if experiment.transfer.mode == "head":
        data = {name: EmbeddingInputs(embed_all(network, part), part.targets) for name, part in data.items()}
    before = copy.deepcopy(trained_part(network, experiment.transfer.mode))
    training = _Training(experiment, data["train"], data["validation"], statistics, folder, fabric, silent)
    module, progress = training.fit(network)
    if not fabric.is_global_zero:
        return
    module, tried = training.completed(module, before, progress)
    outputs = predict(module, data["test"], statistics).float().numpy()  # in the precision that is kept
    predictions = _predictions(experiment, graphs, parts.test, labels[parts.test], outputs)
    predictions = _with_seen(runs, experiment, predictions)
    seconds = time.perf_counter() - start + progress.earlier_seconds
    metrics = _metrics(experiment, predictions, labels, parts, progress) | ({"tried": tried} if tried else {})
    metrics |= {"trained_parameters": _trained_parameters(network, experiment), "seconds": seconds}
    predictor = _predictor(experiment, source, graphs, parts, statistics, network, module)
    _write(folder, experiment, predictor, metrics, progress, predictions)
    record = {"training_code": code, **_sources(runs, experiment), "seconds": seconds}
    _sign(folder, experiment, record)


def _inputs(
    experiment: Experiment, graphs: GraphStore, labels: Array, parts: Split, fabric: Fabric
) -> dict[str, Inputs]:
    """What each part is trained or tested on."""
    there, known = kept_on(fabric.device, graphs.graphs), known_of(experiment, graphs)
    columns = [torch.from_numpy(column) for column in (labels, known) if column is not None]
    return {
        name: GraphInputs(there, rows, *(column[torch.from_numpy(rows)] for column in columns))
        for name, rows in vars(parts).items()
    }


def _network_of(runs: "Runs", source: Experiment) -> Predictor:
    """The network of the run that another starts from."""
    predictor = Predictor.load(_place_of(runs, source)[1])
    if not isinstance(predictor.network, CGAT):
        raise CgatError(f"the source run {source.key} is a {predictor.card.form} model, from which none can start")
    return predictor


def _place_of(runs: "Runs", source: Experiment) -> tuple[Run, Path]:
    """The run that another starts from, and the folder of its network."""
    run = runs.find(source)
    if run is None or run.network is None:
        raise CgatError(f"the source run {source.key} {'does not exist' if run is None else 'has no weights'}")
    return run, run.network


def _start(experiment: Experiment, source: Predictor | None, train: Inputs) -> tuple[CGAT, TargetStatistics]:
    """The network as it is before training, and its target scale."""
    torch.manual_seed(experiment.seed)
    network = CGAT(experiment.model, len(experiment.labels))
    if source is None:
        return network, prepare(network, experiment.transfer, None, None, train)
    taken = outputs_taken(experiment.transfer, experiment.labels, source.card.labels)
    whole = cast(CGAT, source.network)
    return network, prepare(network, experiment.transfer, whole, source.card.statistics, train, taken)


@dataclass(frozen=True)
class _Training:
    """What is learnt from, on which scale, and where."""

    experiment: Experiment
    train: Inputs
    validation: Inputs
    statistics: TargetStatistics
    folder: Path
    fabric: Fabric
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
        if first:
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


def _predictions(
    experiment: Experiment, graphs: GraphStore, rows: Indices, targets: Array, outputs: Array
) -> pd.DataFrame:
    """What `Run.predictions` holds, from targets and outputs (n,) or (n, L) of `rows` (n,)."""
    table = pd.DataFrame({"material_id": np.array(graphs.ids)[rows], "formula": np.array(graphs.formulas)[rows]})
    columns = (x.reshape(len(rows), -1).T for x in (targets, outputs))
    for label, target, prediction in zip(experiment.labels, *columns, strict=True):
        suffix = experiment.suffix(label)
        table[f"target{suffix}"], table[f"prediction{suffix}"] = target, prediction
    return table


def _with_seen(runs: "Runs", experiment: Experiment, predictions: pd.DataFrame) -> pd.DataFrame:
    """Adds the column ``seen``: how close pre-training came to each test crystal, where it may have seen them."""
    source = experiment.source
    if source is None or experiment.transfer.test_crystals == "unseen" or not runs.has(source.data, experiment.graph):
        return predictions
    graphs = runs.graphs(source.data, experiment.graph)
    rows = parts_of(source, graphs).train
    before = (set(np.array(texts)[rows]) for texts in (graphs.ids, graphs.formulas))
    seen = seen_in(predictions["material_id"], predictions["formula"], *before)
    predictions.insert(2, "seen", seen)
    return predictions


def _metrics(
    experiment: Experiment, predictions: pd.DataFrame, labels: Array, parts: Split, progress: Progress
) -> dict[str, Any]:
    """What `Run.metrics` says of the errors."""
    columns = labels.reshape(len(labels), -1).T
    each = {}
    for label, column, mae in zip(experiment.labels, columns, progress.best_maes, strict=True):
        known = {name: column[rows[~np.isnan(column[rows])]] for name, rows in vars(parts).items()}
        tested = of_label(predictions, experiment, label)
        each[label] = {
            **score(tested["prediction"] - tested["target"]),
            "test_mad": float(np.abs(known["test"] - known["train"].mean()).mean()),
            "validation_mae": mae,
            **{f"n_{name}": len(values) for name, values in known.items()},
        }
    return {
        **each[experiment.label],
        "validation_mae": progress.best_mae,
        **({"labels": each} if experiment.more_labels else {}),
        **{name: getattr(progress, name) for name in ("best_step", "stopped")},
        "last_step": progress.step,
        **{f"n_{name}": len(rows) for name, rows in vars(parts).items()},
    }


def _trained_parameters(network: CGAT, experiment: Experiment) -> int:
    mode = experiment.transfer.mode
    return 0 if mode in STEPLESS else sum(p.numel() for p in trained_part(network, mode).parameters())


def _predictor(
    experiment: Experiment,
    source: Predictor | None,
    graphs: GraphStore,
    parts: Split,
    statistics: TargetStatistics,
    network: CGAT,
    module: nn.Module,
) -> Predictor:
    """The trained network with its card, whose elements are those of the training part and of the source's."""
    nodes = Ranges.of(graphs.graphs.node_ptr, parts.train).rows
    elements = set(np.unique(graphs.graphs.numbers[nodes]).tolist()) | set(source.card.elements if source else ())
    e, form = experiment, form_of(experiment.transfer.mode)
    what = e.label, PROPERTIES[e.label].unit, e.functional
    card = ModelCard(*what, statistics, e.model, e.graph, tuple(sorted(elements)), e.more_labels, form)
    whole = network if form == "network" else cast(Network, module)
    return Predictor(whole.cpu(), card)


def _write(
    folder: Path,
    experiment: Experiment,
    predictor: Predictor,
    metrics: dict[str, Any],
    progress: Progress,
    predictions: pd.DataFrame,
) -> None:
    """Write what a run has made, and remove what its training left."""
    for left in folder.iterdir():  # the checkpoint, and the half of one if its writing was killed
        left.unlink()
    predictor.save(folder)
    (folder / "experiment.json").write_text(json.dumps(experiment.to_dict(), indent=1))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    names = {f"validation_mae_{place}": f"validation_mae_{label}" for place, label in enumerate(experiment.labels)}
    pd.DataFrame(progress.curve).rename(columns=names).to_parquet(folder / "curve.parquet", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)


def _sign(folder: Path, experiment: Experiment, record: dict[str, Any]) -> None:
    """Write where the run comes from, with the hashes of its files: then it is whole."""
    own = {"data": experiment.data, "seed": experiment.seed}
    files = {name: file_digest(folder / name) for name in FILES}
    (folder / "provenance.json").write_text(json.dumps({**provenance(), **record, **own, "files": files}, indent=1))


def _sources(runs: "Runs", experiment: Experiment) -> dict[str, Any]:
    """Which run was started from, which code made it, and the digest of the weights that were taken from it."""
    if experiment.source is None:
        return {"source": None}
    run, network = _place_of(runs, experiment.source)
    taken = {"weights": file_digest(network / "weights.safetensors")}
    if not holds_only(run.path, "experiment.json", *NETWORK):  # a member of a model has its history in the card
        taken = {"code": run.provenance["code"], "training_code": run.code, **taken}
    return {"source": experiment.source.key, "source_run": taken}
