"""The run store: asks for the result of an experiment and trains it if nobody has."""

import copy
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cgatlib import CgatError
from cgatlib.crystals.crystal import KNOWN, PROPERTIES
from cgatlib.files import file_digest, holds_only, locked
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Ranges
from cgatlib.graphs.store import GraphStore, graph_store, store_path
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
from cgatlib.runs.experiment import FILES, MEANING, NETWORK, Experiment, Run, of_label, score, training_code
from cgatlib.runs.provenance import provenance
from cgatlib.runs.schedule import Pool, Report, local_pool, run_in_order
from cgatlib.runs.tested import seen_in
from cgatlib.splits import Indices, Split, groups_of, split, training_subset
from cgatlib.training import Progress, TrainingConfig, fabric_of, fit, in_every_process, kept_on
from cgatlib.transfer import STEPLESS, Network, completed, embed_all, form_of, outputs_taken, prepare, trained_part

Array = NDArray[np.floating]
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Runs:
    """Folders of finished runs, and the means to make those that are missing.

    A run lies in the folder of its experiment's key. When other code trains it again, the run before stays as
    ``KEY-CODE``, with the first digits of the code that made it, and that code finds it there.

    Args:
        root: where runs are kept.
        tables: parquet file of each crystal table by its fingerprint.
        cache: where graph stores are kept.
        stored: runs to use as they are, by key, whatever code made them: of an archive or of other folders. Those whose
            weights are there are started from, too.
        accelerator, devices: where one run is trained, as `cgatlib.training.fabric_of` names them.
    """

    root: Path
    tables: Mapping[str, Path] = field(default_factory=dict)
    cache: Path = Path(".cgatlib/graphs")
    stored: Mapping[str, Run] = field(default_factory=dict)
    accelerator: str = "cpu"
    devices: int = 1

    def find(self, experiment: Experiment) -> Run | None:
        """The finished run of an experiment, or None."""
        return self.made(experiment) or self.stored.get(experiment.key)

    def made(self, experiment: Experiment) -> Run | None:
        """The run of an experiment in `root`, made by the present code, or None."""
        places = (Path(self.root) / name for name in (experiment.key, _aside(experiment.key, training_code())))
        finished = (Run(place) for place in places if (place / "provenance.json").exists())
        return next((run for run in finished if _code(run) == training_code() and run.experiment == experiment), None)

    def get(self, experiment: Experiment) -> Run:
        """The run of an experiment, trained now (its sources first) if it does not exist."""
        return self.get_all([experiment])[0]

    def get_all(self, experiments: Sequence[Experiment], workers: int = 1) -> list[Run]:
        """The runs of several experiments, in order; missing ones are trained, sources before what starts from them.

        One failing run does not stop the others.

        Raises:
            CgatError: names every run that failed and why.
        """
        missing = self.missing(experiments)
        with tqdm(total=len(missing), unit=" runs", desc="training", disable=not missing) as bar:
            failed = self.train(missing, local_pool(workers), workers, lambda key, reason: bar.update())
        if failed:
            keys: dict[str, list[str]] = {}
            for key, reason in failed.items():
                keys.setdefault(reason, []).append(key)
            reasons = "; ".join(f"run {', '.join(found)}: {reason}" for reason, found in keys.items())
            raise CgatError(f"{len(failed)} of {len(missing)} runs failed: {reasons}")
        found = [self.find(experiment) for experiment in experiments]
        if None in found:
            raise CgatError(f"run {experiments[found.index(None)].key} was trained, but {self.root} does not hold it")
        return cast(list[Run], found)

    def train(
        self,
        missing: Mapping[str, Experiment],
        pool: Pool,
        workers: int = 1,
        report: Report = lambda key, reason: None,
    ) -> dict[str, str]:
        """Train experiments, by key, whose sources exist or are among them; graphs are built first, in this process.

        Args:
            missing: as `missing` finds them. pool: where they are trained.
            workers: processes that build graphs. report: told of each that ends.

        Returns:
            {key: reason} of those that could not be trained.
        """
        reasons: dict[tuple[str, GraphConfig], str] = {}
        for data, graph in dict.fromkeys((e.data, e.graph) for e in missing.values()):
            try:
                self.graphs(data, graph, workers)
            except CgatError as error:
                reasons[data, graph] = str(error)
        failed = {key: reasons[e.data, e.graph] for key, e in missing.items() if (e.data, e.graph) in reasons}
        for key, reason in failed.items():
            report(key, reason)
        ready = {key: e for key, e in missing.items() if key not in failed}
        return failed | run_in_order(ready, partial(_train, self), pool, report, failed)

    def missing(self, experiments: Sequence[Experiment]) -> dict[str, Experiment]:
        """What has to be trained, by key, sources first.

        What a finished run once started from is not needed again. A run that others are to start from is trained again
        where its weights are not here (it is archived).
        """
        return {e.key: e for e in self._missing(experiments, weights=False)}

    def _missing(self, experiments: Sequence[Experiment], weights: bool) -> Iterator[Experiment]:
        for experiment in experiments:
            run = self.find(experiment)
            if run is None or (weights and run.network is None):
                if experiment.source is not None:
                    yield from self._missing([experiment.source], weights=True)
                yield experiment

    def has(self, table_fingerprint: str, config: GraphConfig) -> bool:
        """Whether the graphs of a table are there or can be built."""
        return table_fingerprint in self.tables or store_path(self.cache, table_fingerprint, config).exists()

    def graphs(self, table_fingerprint: str, config: GraphConfig, workers: int = 1) -> GraphStore:
        """Graphs of a table, built the first time.

        Raises:
            CgatError: neither the graphs nor the table are there.
        """
        path = store_path(self.cache, table_fingerprint, config)
        if path.exists():
            return GraphStore.open(path)
        if table_fingerprint not in self.tables:
            raise CgatError(
                f"no table with fingerprint {table_fingerprint} is known: the data of this run are not here"
            )
        from cgatlib.crystals.table import CrystalTable

        return graph_store(CrystalTable.open(self.tables[table_fingerprint]), config, self.cache, workers)


def _train(store: Runs, experiment: Experiment) -> None:
    """Train one experiment whose source exists; of several processes one does, the others wait for it."""
    if experiment.meaning != MEANING:
        raise CgatError(f"the values of run {experiment.key} have meaning {experiment.meaning}, this code's {MEANING}")
    folder = Path(store.root) / ".partial" / f"{experiment.key}-{training_code()}"  # other code starts afresh
    with locked(folder):
        if store.made(experiment) is not None:  # another process was faster
            return
        folder.mkdir(exist_ok=True)
        fabric = fabric_of(store.accelerator, store.devices, experiment.training.precision)
        in_every_process(fabric, _Trainer(store, experiment, folder, silent=parent_process() is not None).run)
        final = Path(store.root) / experiment.key
        with locked(final):
            _set_aside(final)
            folder.rename(final)


def _code(run: Run) -> str:
    """Fingerprint of the code that made a run."""
    return str(run.provenance.get("training_code", "unknown"))


def _aside(key: str, code: str) -> str:
    return f"{key}-{code[:8]}"


def _set_aside(folder: Path) -> None:
    """Make way for a run without losing the one that other code has made.

    Raises:
        CgatError: there is something else than a run.
    """
    if not folder.exists():
        return
    if not (folder / "provenance.json").exists():
        raise CgatError(f"{folder} exists and is not a run: it is not replaced")
    place = folder.with_name(_aside(folder.name, _code(Run(folder))))
    if place.exists():
        raise CgatError(f"{folder} and {place} were both made by code that is not this one: remove one of them")
    logging.getLogger("cgatlib").warning("%s was made by other code and is kept as %s", folder, place.name)
    folder.rename(place)


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


@dataclass(frozen=True)
class _Trainer:
    store: Runs
    experiment: Experiment
    folder: Path
    silent: bool

    def run(self, fabric: Fabric) -> None:
        """Train, in every process of the fabric; score the whole test set and write the run's files, in the first."""
        start = time.perf_counter()
        e = self.experiment
        graphs = self.store.graphs(e.data, e.graph)
        labels, parts = labels_of(e, graphs), parts_of(e, graphs)
        data = self._data(graphs, labels, parts, fabric)
        nodes = Ranges.of(graphs.graphs.node_ptr, parts.train).rows
        elements = set(np.unique(graphs.graphs.numbers[nodes]).tolist())
        network, statistics, inherited = self._start(data["train"])
        network.to(fabric.device)
        if e.transfer.mode == "head":
            data = {name: EmbeddingInputs(embed_all(network, d), d.targets) for name, d in data.items()}
        module: nn.Module = trained_part(network, e.transfer.mode)
        before = copy.deepcopy(network)
        learnt = data["train"], data["validation"], statistics
        first = self._head_first(network, *learnt, fabric)
        progress = self._fit(module, *learnt, fabric, first)
        if not fabric.is_global_zero:
            return
        module, tried = self._completed(module, trained_part(before, e.transfer.mode), *learnt, progress)
        outputs = predict(module, data["test"], statistics).float()  # in the precision that is kept
        predictions = self._predictions(graphs, parts.test, labels[parts.test], outputs.numpy())
        each = self._scores(predictions, labels, parts, progress.best_maes)
        trained = () if e.transfer.mode in STEPLESS else trained_part(network, e.transfer.mode).parameters()
        metrics = {
            **each[e.label],
            "validation_mae": progress.best_mae,
            **({"labels": each} if e.more_labels else {}),
            **({"tried": tried} if tried else {}),
            **{name: getattr(progress, name) for name in ("best_step", "stopped")},
            "last_step": progress.step,
            **{f"n_{name}": len(rows) for name, rows in vars(parts).items()},
            "trained_parameters": sum(p.numel() for p in trained),
            "seconds": time.perf_counter() - start + progress.earlier_seconds,
        }
        card = self._card(statistics, elements | inherited)
        names = {f"validation_mae_{place}": f"validation_mae_{label}" for place, label in enumerate(e.labels)}
        curve = pd.DataFrame(progress.curve).rename(columns=names)
        whole = network if card.form == "network" else cast(Network, module)
        self._write(Predictor(whole.cpu(), card), metrics, curve, predictions)

    def _data(self, graphs: GraphStore, labels: Array, parts: Split, fabric: Fabric) -> dict[str, Inputs]:
        """What each part is trained or tested on."""
        there, known = kept_on(fabric.device, graphs.graphs), known_of(self.experiment, graphs)
        columns = [torch.from_numpy(column) for column in (labels, known) if column is not None]
        return {
            name: GraphInputs(there, rows, *(column[torch.from_numpy(rows)] for column in columns))
            for name, rows in vars(parts).items()
        }

    def _predictions(self, graphs: GraphStore, rows: Indices, targets: Array, outputs: Array) -> pd.DataFrame:
        """What `Run.predictions` holds, from targets and outputs (n,) or (n, L) of `rows` (n,)."""
        names = {"material_id": np.array(graphs.ids)[rows], "formula": np.array(graphs.formulas)[rows]}
        table = pd.DataFrame({**names, **self._seen(graphs, rows)})
        columns = (x.reshape(len(rows), -1).T for x in (targets, outputs))
        for label, target, prediction in zip(self.experiment.labels, *columns, strict=True):
            suffix = self.experiment.suffix(label)
            table[f"target{suffix}"], table[f"prediction{suffix}"] = target, prediction
        return table

    def _scores(
        self, predictions: pd.DataFrame, labels: Array, parts: Split, validation_maes: Sequence[float]
    ) -> dict[str, dict[str, float]]:
        """Of every label what `Run.metrics` says of it."""
        found = {}
        columns = labels.reshape(len(labels), -1).T
        for label, column, mae in zip(self.experiment.labels, columns, validation_maes, strict=True):
            known = {name: column[rows[~np.isnan(column[rows])]] for name, rows in vars(parts).items()}
            tested = of_label(predictions, self.experiment, label)
            found[label] = {
                **score(tested["prediction"] - tested["target"]),
                "test_mad": float(np.abs(known["test"] - known["train"].mean()).mean()),
                "validation_mae": mae,
                **{f"n_{name}": len(values) for name, values in known.items()},
            }
        return found

    def _fit(
        self,
        module: nn.Module,
        train: Inputs,
        validation: Inputs,
        statistics: TargetStatistics,
        fabric: Fabric,
        first: int,
    ) -> Progress:
        """Train with a bar of steps, unless other runs are trained beside this one; the `first` of them are done."""
        e = self.experiment
        if e.transfer.mode in STEPLESS:
            maes = mean_absolute_errors(predict(module, validation, statistics), validation.targets)
            return Progress(best_mae=in_one(maes, statistics, e.training.label_weights), best_maes=maes.tolist())
        silent = self.silent or not fabric.is_global_zero
        with tqdm(total=e.training.steps, unit=" steps", desc=e.key, leave=False, disable=silent) as bar:

            def report(progress: Progress) -> None:
                bar.update(progress.step - bar.n)
                bar.set_postfix(validation_mae=progress.curve[-1]["validation_mae"], refresh=False)

            checkpoint = self.folder / _CHECKPOINT
            training = self._share(e.training.steps - first)
            progress = fit(module, train, validation, statistics, training, e.seed, checkpoint, fabric, report=report)
        if first:
            progress.step, progress.best_step = progress.step + first, progress.best_step + first
            for row in progress.curve:
                row["step"] += first
                row["epoch"] += first * min(training.batch_size, len(train)) / len(train)
        return progress

    def _share(self, steps: int) -> TrainingConfig:
        """The training of the experiment in a part of its steps, with as many evaluations a step."""
        training = self.experiment.training
        return replace(training, steps=steps, evaluations=max(1, training.evaluations * steps // training.steps))

    def _head_first(
        self, network: CGAT, train: Inputs, validation: Inputs, statistics: TargetStatistics, fabric: Fabric
    ) -> int:
        """Train the output network alone for a share of the steps; returns how many."""
        e = self.experiment
        steps = round(e.transfer.head_first * e.training.steps)
        if steps:
            part, other = (EmbeddingInputs(embed_all(network, data), data.targets) for data in (train, validation))
            training = replace(self._share(steps), trunk_rate=1.0)
            fit(network.output, part, other, statistics, training, e.seed, self.folder / "head.pt", fabric)
        return steps

    def _completed(
        self,
        module: nn.Module,
        before: nn.Module,
        train: Inputs,
        validation: Inputs,
        statistics: TargetStatistics,
        progress: Progress,
    ) -> tuple[nn.Module, dict[str, float]]:
        """What predicts in the end, its validation errors in `progress`; and those of all that was tried."""
        how, weights = self.experiment.transfer, self.experiment.training.label_weights
        if how.mode == "none":
            return module, {}
        module, tried = completed(module, before, how, train, validation, statistics, weights)
        if how.interpolate or form_of(how.mode) != "network":
            maes = mean_absolute_errors(predict(module, validation, statistics), validation.targets)
            progress.best_mae, progress.best_maes = in_one(maes, statistics, weights), maes.tolist()
        return module, tried

    def _start(self, train: Inputs) -> tuple[CGAT, TargetStatistics, set[int]]:
        """The network as it is before training, its target scale, and the elements its source was trained on."""
        e = self.experiment
        torch.manual_seed(e.seed)
        network = CGAT(e.model, len(e.labels))
        if e.source is None:
            return network, prepare(network, e.transfer, None, None, train), set()
        source = Predictor.load(self._network_of(e.source)[1])
        if not isinstance(source.network, CGAT):
            raise CgatError(f"the source run {e.source.key} is a {source.card.form} model, from which none can start")
        taken = outputs_taken(e.transfer, e.labels, source.card.labels)
        statistics = prepare(network, e.transfer, source.network, source.card.statistics, train, taken)
        return network, statistics, set(source.card.elements)

    def _network_of(self, source: Experiment) -> tuple[Run, Path]:
        run = self.store.find(source)
        if run is None or run.network is None:
            raise CgatError(f"the source run {source.key} {'does not exist' if run is None else 'has no weights'}")
        return run, run.network

    def _source_run(self, source: Experiment) -> dict[str, Any]:
        """Which code made the source, and the digest of the weights that were taken from it."""
        run, network = self._network_of(source)
        weights = file_digest(network / "weights.safetensors")
        if holds_only(run.path, "experiment.json", *NETWORK):  # a member of a model, whose card has its history
            return {"weights": weights}
        return {"code": run.provenance["code"], "training_code": _code(run), "weights": weights}

    def _seen(self, graphs: GraphStore, test: Indices) -> dict[str, list[str]]:
        """A column that says how close pre-training came to each test crystal, where it may have seen them."""
        e = self.experiment
        if e.source is None or e.transfer.test_crystals == "unseen" or not self.store.has(e.source.data, e.graph):
            return {}
        before = self.store.graphs(e.source.data, e.graph)
        known = parts_of(e.source, before).train
        names = [np.array(texts)[rows] for texts, rows in ((graphs.ids, test), (graphs.formulas, test))]
        return {"seen": seen_in(*names, *(set(np.array(texts)[known]) for texts in (before.ids, before.formulas)))}

    def _card(self, statistics: TargetStatistics, elements: set[int]) -> ModelCard:
        e = self.experiment
        what = e.label, PROPERTIES[e.label].unit, e.functional
        form = form_of(e.transfer.mode)
        return ModelCard(*what, statistics, e.model, e.graph, tuple(sorted(elements)), e.more_labels, form)

    def _write(self, predictor: Predictor, metrics: dict, curve: pd.DataFrame, predictions: pd.DataFrame) -> None:
        e, folder = self.experiment, self.folder
        for left in folder.iterdir():  # the checkpoint, and the half of one if its writing was killed
            left.unlink()
        predictor.save(folder)
        (folder / "experiment.json").write_text(json.dumps(e.to_dict(), indent=1))
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
        curve.to_parquet(folder / "curve.parquet", index=False)
        predictions.to_parquet(folder / "predictions.parquet", index=False)
        record = {
            **provenance(),
            "training_code": training_code(),
            "data": e.data,
            "source": e.source.key if e.source else None,
            **({"source_run": self._source_run(e.source)} if e.source else {}),
            "seed": e.seed,
            "seconds": metrics["seconds"],
            "files": {name: file_digest(folder / name) for name in FILES},
        }
        (folder / "provenance.json").write_text(json.dumps(record, indent=1))
