"""Tables, their graphs and the runs on them in one folder: what is asked for is found there or made."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.files import locked
from cgatlib.graphs.neighbours import GRAPHS, GraphConfig
from cgatlib.graphs.store import GraphStore, build_store, store_path
from cgatlib.model.config import MODELS
from cgatlib.runs.experiment import MEANING, Experiment, Run, training_code
from cgatlib.runs.schedule import Pool, local_pool, run_in_order
from cgatlib.runs.trainer import train_run
from cgatlib.training import TrainingConfig, fabric_of, in_every_process
from cgatlib.transfer import TransferConfig

PLAIN = {"steps": 3000, "batch_size": 128, "learning_rate": 1e-3, "cycles": 1}
"""Training where nothing else is said."""


@dataclass(frozen=True)
class Runs:
    """The runs of a folder, and the means to make those that are missing::

        runs = Runs("runs")
        base = runs.train(pbe, ["e_form", "band_gap"], model="small", steps=1000)
        moved = runs.transfer(mine, base, label="band_gap")
        moved.metrics["test_mae"]
        moved.model.predict(structures)

    A run lies in the folder of its experiment's key. When other code trains it again, the run before stays as
    ``KEY-CODE``, with the first digits of the code that made it, and that code finds it there.

    Args:
        root: the folder.
        tables: by fingerprint; `train`, `transfer` and `add` register more.
        cache: folder of the graphs, ``root/.graphs`` by default.
        stored: runs to use as they are, by key, whatever code made them: of an archive or of other folders. Others can
            start from those that have weights.
        accelerator: where one run is trained: ``cpu``, ``cuda`` or ``mps``.
        devices: how many of them train it together.
        silent: show no progress.
    """

    root: Path = Path("runs")
    tables: dict[str, CrystalTable] = field(default_factory=dict, repr=False)
    cache: Path | None = None
    stored: Mapping[str, Run] = field(default_factory=dict, repr=False)
    accelerator: str = "cpu"
    devices: int = 1
    silent: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "tables", dict(self.tables))
        object.__setattr__(self, "stored", dict(self.stored))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"tables": {}}  # other processes need only the graphs, which are built by then

    def train(self, table: CrystalTable, labels: str | Sequence[str], model: str = "small", **settings: Any) -> Run:
        """Train a network from random weights; a run that exists is not repeated.

        Args:
            table: the crystals, of which a tenth each is kept for validation and for the test.
            labels: property to learn, or properties that one network learns.
            model: size of the network, a name of `cgatlib.model.config.MODELS`.
            settings: ``seed``, ``train_size``, ``split`` as in `Experiment`, and fields of `TrainingConfig`.

        Raises:
            CgatError: a label, model or setting is unknown, or the training fails.
        """
        return self.get(self.declare(table, labels, model, **settings))

    def transfer(
        self, table: CrystalTable, source: Run, label: str | Sequence[str], mode: str = "full", **settings: Any
    ) -> Run:
        """Continue a run on other crystals or another property, with its configuration and split.

        Args:
            table: the crystals, divided as those of the source.
            source: the run to start from.
            label: property to learn, or properties.
            mode: a mode of `TransferConfig`, e.g. ``full`` or ``head``.
            settings: those of `train`, and fields of `TransferConfig`.

        Raises:
            CgatError: as `train`, or the run has no weights.
        """
        return self.get(self.declare(table, label, source=source, mode=mode, **settings))

    def declare(
        self,
        table: CrystalTable,
        labels: str | Sequence[str],
        model: str = "small",
        source: Run | None = None,
        **settings: Any,
    ) -> Experiment:
        """The experiment that `train` runs, or with a source `transfer`; registers the table and the source."""
        self.add(table, *([source] if source else []))
        label, *more = [labels] if isinstance(labels, str) else labels
        for name in (label, *more):
            table.label(name)  # refuses one that it does not carry
        settings = PLAIN | settings
        settings.setdefault("evaluations", min(30, settings["steps"]))
        kinds = [TrainingConfig] if source is None else [TrainingConfig, TransferConfig]
        known = [*_OWN, *(item.name for kind in kinds for item in fields(kind))]
        for name in settings:
            if name not in known:
                raise CgatError(f"unknown setting {name!r}; known: {', '.join(known)}")
        training, *transfer = (
            kind(**{item.name: settings[item.name] for item in fields(kind) if item.name in settings}) for kind in kinds
        )
        own = {name: settings[name] for name in _OWN if name in settings}
        if source is None:
            own |= size_of(model)
        else:
            before = source.experiment
            own = {"split": before.split, **own, "model": before.model, "graph": before.graph}
            own |= {"source": before, "transfer": transfer[0]}
        what = table.fingerprint, table.functional, label
        return Experiment(*what, more_labels=tuple(more), training=training, **own)

    def add(self, *known: CrystalTable | Run) -> None:
        """Register tables, so that their graphs can be built, and runs to start from."""
        for one in known:
            if isinstance(one, Run):
                cast(dict[str, Run], self.stored).setdefault(one.experiment.key, one)
            else:
                self.tables[one.fingerprint] = one

    def find(self, experiment: Experiment) -> Run | None:
        """The finished run of an experiment, or None."""
        return self.made(experiment) or self.stored.get(experiment.key)

    def made(self, experiment: Experiment) -> Run | None:
        """The run of an experiment in `root`, made by the present code, or None."""
        places = (self.root / name for name in (experiment.key, f"{experiment.key}-{training_code()[:8]}"))
        finished = (Run(place) for place in places if (place / "provenance.json").exists())
        return next((run for run in finished if run.code == training_code() and run.experiment == experiment), None)

    def get(self, experiment: Experiment) -> Run:
        """The run of an experiment, trained now (its sources first) if it does not exist."""
        return self.get_all([experiment])[0]

    def get_all(self, experiments: Sequence[Experiment], workers: int = 1) -> list[Run]:
        """The runs of several experiments, in order; missing ones are trained, sources before what starts from them.

        One failing run does not stop the others.

        Raises:
            CgatError: names every run that failed and why.
        """
        missing, failed = self.missing(experiments), dict[str, list[str]]()
        with tqdm(total=len(missing), unit=" runs", desc="training", disable=self.silent or not missing) as bar:
            for key, reason in self.fill(missing, local_pool(workers), workers):
                bar.update()
                if reason is not None:
                    failed.setdefault(reason, []).append(key)
        if failed:
            reasons = "; ".join(f"run {', '.join(keys)}: {reason}" for reason, keys in failed.items())
            raise CgatError(f"{sum(map(len, failed.values()))} of {len(missing)} runs failed: {reasons}")
        found = [self.find(experiment) for experiment in experiments]
        if None in found:
            raise CgatError(f"run {experiments[found.index(None)].key} was trained, but {self.root} does not hold it")
        return cast(list[Run], found)

    def missing(self, experiments: Sequence[Experiment]) -> dict[str, Experiment]:
        """What has to be trained, by key, sources first.

        What a finished run once started from is not needed again. A run that others are to start from is trained again
        where its weights are not here (it is archived without them).
        """
        return {e.key: e for e in self._missing(experiments, weights=False)}

    def _missing(self, experiments: Sequence[Experiment], weights: bool) -> Iterator[Experiment]:
        for experiment in experiments:
            run = self.find(experiment)
            if run is None or (weights and run.network is None):
                if experiment.source is not None:
                    yield from self._missing([experiment.source], weights=True)
                yield experiment

    def fill(
        self, missing: Mapping[str, Experiment], pool: Pool, workers: int = 1, lost: Collection[str] = ()
    ) -> Iterator[tuple[str, str | None]]:
        """Train experiments, by key, whose sources exist or are among them; graphs are built first, in this process.

        Args:
            missing: as `missing` finds them. pool: where they are trained. workers: processes that build graphs.
            lost: keys of sources that have failed before.

        Yields:
            The key of each run that ends, and why it failed, or None.
        """
        reasons: dict[tuple[str, GraphConfig], str] = {}
        for data, graph in dict.fromkeys(need for e in missing.values() for need in self._needs(e)):
            try:
                self.graphs(data, graph, workers)
            except CgatError as error:
                reasons[data, graph] = str(error)
        failed = {key: reasons[need] for key, e in missing.items() for need in self._needs(e) if need in reasons}
        yield from failed.items()
        ready = {key: e for key, e in missing.items() if key not in failed}
        yield from run_in_order(ready, partial(_train, self), pool, {*failed, *lost})

    def _needs(self, experiment: Experiment) -> list[tuple[str, GraphConfig]]:
        """Graphs of an experiment by table and configuration: its own, and its source's if that saw test crystals."""
        needs, source = [(experiment.data, experiment.graph)], experiment.source
        if source is not None and experiment.transfer.test_crystals == "seen" and source.data in self.tables:
            needs.insert(0, (source.data, experiment.graph))
        return needs

    def has(self, table_fingerprint: str, config: GraphConfig) -> bool:
        """Whether the graphs of a table are there or can be built."""
        return table_fingerprint in self.tables or self._place(table_fingerprint, config).exists()

    def graphs(self, table_fingerprint: str, config: GraphConfig, workers: int = 1) -> GraphStore:
        """Graphs of a table, built the first time.

        Raises:
            CgatError: neither the graphs nor the table are there.
        """
        place = self._place(table_fingerprint, config)
        if place.exists():
            return GraphStore.open(place)
        if table_fingerprint not in self.tables:
            raise CgatError(
                f"no table with fingerprint {table_fingerprint} is known: the data of this run are not here"
            )
        return build_store(self.tables[table_fingerprint], place, config, workers, self.silent)

    def _place(self, table_fingerprint: str, config: GraphConfig) -> Path:
        return store_path(self.cache or self.root / ".graphs", table_fingerprint, config)


_OWN = ("seed", "train_size", "split")  # settings of the experiment itself


def size_of(model: str) -> dict[str, Any]:
    """Network and graph configuration by name, as `Experiment` takes them.

    Raises:
        CgatError: no such name; the known ones are listed.
    """
    if model not in MODELS:
        raise CgatError(f"unknown model {model!r}; known: {', '.join(MODELS)}")
    return {"model": MODELS[model], "graph": GRAPHS[model]}


def _train(runs: Runs, experiment: Experiment) -> None:
    """Train one experiment whose source exists; of several processes one does, the others wait for it."""
    if experiment.meaning != MEANING:
        raise CgatError(f"the values of run {experiment.key} have meaning {experiment.meaning}, this code's {MEANING}")
    folder = runs.root / ".partial" / f"{experiment.key}-{training_code()}"  # other code starts afresh
    with locked(folder):
        if runs.made(experiment) is not None:  # another process was faster
            return
        folder.mkdir(exist_ok=True)
        fabric = fabric_of(runs.accelerator, runs.devices, experiment.training.precision)
        silent = runs.silent or parent_process() is not None  # other runs are trained beside this one
        in_every_process(fabric, partial(train_run, runs, experiment, folder, training_code(), silent))
        final = runs.root / experiment.key
        with locked(final):
            _set_aside(final)
            folder.rename(final)


def _set_aside(folder: Path) -> None:
    """Make way for a run without losing the one that other code has made.

    Raises:
        CgatError: there is something else than a run.
    """
    if not folder.exists():
        return
    if not (folder / "provenance.json").exists():
        raise CgatError(f"{folder} exists and is not a run: it is not replaced")
    place = folder.with_name(f"{folder.name}-{Run(folder).code[:8]}")
    if place.exists():
        raise CgatError(f"{folder} and {place} were both made by code that is not this one: remove one of them")
    logging.getLogger("cgatlib").warning("%s was made by other code and is kept as %s", folder, place.name)
    folder.rename(place)
