"""Plans: which runs a study consists of, as a file declares them.

The entries of a plan expand to experiments. Where an entry lists several learning rates, each is tried with the first
seed, the first split and the largest size; the one with the lowest validation error is used for all of its runs, so
that the trial that wins is one of them. Test errors decide nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.sources import Source, join_sources, load_source
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS, GraphConfig
from cgatlib.model.config import MODELS, ModelConfig
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.plan_file import Entry, Start, read_plan
from cgatlib.runs.schedule import Pool
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import STEPLESS, TransferConfig
from cgatlib.values import from_plain

Rates = Callable[[str], float]
"""Learning rate of the runs of an entry, by the entry's name."""


class UndecidedError(CgatError):
    """A learning rate is asked for whose trials have not been run."""


@dataclass(frozen=True)
class Planned:
    """A run of a plan, under the first entry that it belongs to."""

    entry: str
    experiment: Experiment

    def __str__(self) -> str:
        e = self.experiment
        size = "" if e.train_size is None else f" size {e.train_size}"
        split = "" if e.split.seed == 0 else f" split {e.split.seed}"
        rate = "" if e.transfer.mode in STEPLESS else f" rate {e.training.learning_rate:g}"
        return f"{self.entry} seed {e.seed}{size}{split}{rate}"


@dataclass(frozen=True)
class Plan:
    """A study: tables, and entries that stand for runs on them.

    Args:
        about: what it is for. tables: their declarations, by name. entries: by name, in the order of the file.
        sources: the tables themselves, where they have been opened.
    """

    about: str
    tables: Mapping[str, Mapping[str, Any]]
    entries: Mapping[str, Entry]
    sources: Mapping[str, Source] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """The plan of a file; no data are needed.

        Raises:
            CgatError: a field, name or value of the file is unknown, missing or impossible.
        """
        plan = cls(*read_plan(path))
        replace(plan, tables={name: {"fingerprint": name, **table} for name, table in plan.tables.items()}).outline()
        return plan

    def open(self, data: Path, kept: Path) -> "Plan":
        """The same plan with its tables imported from the folder `data`, and kept in the folder `kept`.

        Raises:
            CgatError: a table cannot be imported, or its fingerprint is not the one that the plan states.
        """
        found: dict[str, Source] = {}
        for name, table in sorted(self.tables.items(), key=lambda item: "join" in item[1]):  # after what they are of
            if "join" in table:
                labels = [self.tables[part].get("labels", ()) for part in table["join"]]
                source = join_sources(name, table, [found[part] for part in table["join"]], labels, Path(kept))
            else:
                source = load_source(name, table, Path(data), Path(kept))
            stated, actual = table.get("fingerprint", source.table.fingerprint), source.table.fingerprint
            if stated != actual:
                where = Path(data) / table["file"] if "file" in table else "the joined table"
                raise CgatError(f"table {name}: the plan states the fingerprint {stated}, {where} has {actual}")
            found[name] = source
        return replace(self, sources=found)

    @property
    def opened(self) -> dict[str, CrystalTable]:
        """The opened tables by fingerprint, as `Runs.tables` has them."""
        return {source.table.fingerprint: source.table for source in self.sources.values()}

    def only(self, names: Iterable[str]) -> "Plan":
        """These entries and those that they need, in the order of the file; `CgatError` where one is unknown."""
        needed: set[str] = set()
        more = set(names)
        while more:
            needed |= more
            more = set().union(*(self._entry(name).needs for name in more)) - needed
        return replace(self, entries={name: entry for name, entry in self.entries.items() if name in needed})

    def experiments(self, name: str, store: Runs | None = None) -> list[Experiment]:
        """The experiments of one entry: by split, then size, then seed.

        Args:
            name: of the entry. store: where its trial runs are found; without it, the first learning rate stands in.

        Raises:
            CgatError: there is no such entry or a table is not known. UndecidedError: a trial has not been run.
        """
        return self._expand(self._entry(name), self._rates(store))

    def rate(self, name: str, store: Runs) -> float:
        """The learning rate of an entry: given, or the best trial's; `UndecidedError` where one has not been run."""
        return self._rates(store)(name)

    def outline(self, store: Runs | None = None) -> list[Planned]:
        """All runs of the plan, its trials included, whether they are there or not.

        Where trials have not decided yet, the first learning rate stands in, so that all can be counted beforehand.
        """
        return self.decided(store, guess=True)[0]

    def decided(self, store: Runs | None, guess: bool = False) -> tuple[list[Planned], dict[str, str]]:
        """Runs and trials whose learning rates are known, and the entries of the others, with the reason."""
        rates, found = self._rates(store, guess), dict[Experiment, Planned]()
        undecided = {}
        for name, entry in self.entries.items():
            try:
                for experiment in self._trials(entry, rates).values():
                    found.setdefault(experiment, Planned(name, experiment))
                for experiment in self._expand(entry, rates):
                    found.setdefault(experiment, Planned(name, experiment))
            except UndecidedError as error:
                undecided[name] = str(error)
        return list(found.values()), undecided

    def _rates(self, store: Runs | None, guess: bool = False) -> Rates:
        """Gives the learning rate of an entry; where its trials are missing, the first if `guess` or without store."""

        @cache
        def rates(name: str) -> float:
            entry = self._entry(name)
            if entry.rate_of is not None:
                return rates(entry.rate_of)
            first = entry.rates[0] if entry.rates else TrainingConfig().learning_rate  # nothing is trained without one
            if len(entry.rates) < 2 or store is None:
                return first
            trials = self._trials(entry, rates)
            runs = {rate: run for rate, trial in trials.items() if (run := store.find(trial))}
            if len(runs) == len(trials):
                return min(runs, key=lambda rate: (runs[rate].metrics["validation_mae"], rate))
            if guess:
                return first
            lacking = ", ".join(f"{rate:g}" for rate in trials if rate not in runs)
            raise UndecidedError(f"the learning rate of {name} is open: no run at {lacking} in {store.root}")

        return rates

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise CgatError(f"the plan has no run {name!r}; known: {', '.join(self.entries)}")
        return self.entries[name]

    def _expand(self, entry: Entry, rates: Rates) -> list[Experiment]:
        found = [
            self._one(entry, seed, split, size, rates)
            for split in entry.splits
            for size in entry.sizes
            for seed in entry.seeds
        ]
        return list(dict.fromkeys(found))

    def _trials(self, entry: Entry, rates: Rates) -> dict[float, Experiment]:
        size = None if None in entry.sizes else max(size for size in entry.sizes if size is not None)

        def trial(rate: float) -> Experiment:
            def tried(name: str) -> float:
                return rate if name == entry.name else rates(name)

            return self._one(entry, entry.seeds[0], entry.splits[0], size, tried)

        return {rate: trial(rate) for rate in entry.rates if len(entry.rates) > 1}

    def _one(self, entry: Entry, seed: int, split: int, size: int | None, rates: Rates) -> Experiment:
        source = self._source(entry.name, entry.start, seed, split, rates) if entry.start else None
        rate, data = rates(entry.name), self._fingerprint(entry.table)
        try:
            return Experiment(
                data=data,
                functional=self.tables[entry.table]["functional"],
                label=entry.label,
                train_size=size,
                seed=seed,
                source=source,
                transfer=TransferConfig(**entry.transfer),
                graph=from_plain(GraphConfig, {**vars(GRAPHS[entry.model]), **entry.graph}, "graph"),
                split=SplitConfig(split, groups=entry.groups),  # type: ignore[arg-type]  # checked there
                model=from_plain(ModelConfig, {**vars(MODELS[entry.model]), **entry.network}, "network"),
                training=TrainingConfig(learning_rate=rate, **entry.training),
                more_labels=entry.more_labels,
            )
        except CgatError as error:
            raise CgatError(f"run {entry.name}: {error}") from error

    def _source(self, name: str, start: Start, seed: int, split: int, rates: Rates) -> Experiment:
        parent = self.entries[start.run]
        if start.size is None and len(parent.sizes) > 1:
            raise CgatError(
                f"run {name}: {parent.name} has several sizes; write from: {{run: {parent.name}, size: ...}}"
            )
        seed = seed if start.seed is None else start.seed
        split = split if start.split is None else start.split
        size = parent.sizes[0] if start.size is None else start.size
        for what, value in {"seed": seed, "split": split, "size": size}.items():
            if value not in (known := getattr(parent, f"{what}s")):
                names = ", ".join(map(str, known))
                raise CgatError(
                    f"run {name}: {parent.name}, from which it starts, has no {what} {value}; known: {names}"
                )
        return self._one(parent, seed, split, size, rates)

    def _fingerprint(self, table: str) -> str:
        if table in self.sources:
            return self.sources[table].table.fingerprint
        if "fingerprint" not in self.tables[table]:
            raise CgatError(f"table {table}: the plan does not state its fingerprint, and its data are not given")
        return str(self.tables[table]["fingerprint"])


Report = Callable[[Planned, Run | str], None]
"""Told of each run that ends: itself, or why it could not be trained."""


@dataclass(frozen=True)
class Summary:
    """What became of a plan's runs.

    Attributes:
        done: trained now. reused: there before. failed: could not be trained, each with its reason.
        undecided: entries whose learning rate stays open, each with the reason, so that their runs are not known.
    """

    done: list[Planned]
    reused: list[Planned]
    failed: dict[Planned, str]
    undecided: dict[str, str]

    def counts(self) -> dict[str, Counter[str]]:
        """How many runs of each entry are ``done``, ``reused`` and ``failed``."""
        counts: dict[str, Counter[str]] = {}
        for what, runs in (("done", self.done), ("reused", self.reused), ("failed", self.failed)):
            for planned in runs:
                counts.setdefault(planned.entry, Counter())[what] += 1
        return counts


def run_plan(
    plan: Plan, store: Runs, pool: Pool, workers: int = 1, report: Report = lambda planned, outcome: None
) -> Summary:
    """Train what a plan lacks; one run that fails does not stop those that do not need it.

    Args:
        plan: opened, or with stated fingerprints. store: where runs are found and kept.
        pool: where they are trained. workers: processes that build graphs. report: told of each run that ends.
    """
    known: dict[str, Planned] = {}
    outcomes: dict[str, Run | str] = {}

    while True:
        found, undecided = plan.decided(store)
        known = {planned.experiment.key: planned for planned in found} | known  # the first entry names a run
        missing = store.missing([planned.experiment for planned in found])
        failed = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, str)}
        if not missing.keys() - failed.keys():
            break
        wanted = {key: e for key, e in missing.items() if key not in failed}
        for key, reason in store.fill(wanted, pool, workers, failed):
            lost = f"it was trained, but {store.root} has no run of it by this code"
            outcomes[key] = reason or store.made(known[key].experiment) or lost
            report(known[key], outcomes[key])
    return Summary(
        done=[known[key] for key in outcomes if key not in failed],
        reused=[planned for key, planned in known.items() if key not in outcomes],
        failed={known[key]: reason for key, reason in failed.items()},
        undecided=undecided,
    )


def doubts(plan: Plan, store: Runs) -> Iterator[str]:
    """What speaks against the runs that are there, entry by entry: a budget that was too short for some of them, or a
    learning rate that was best at the edge of those tried."""
    for name, entry in plan.entries.items():
        try:
            found = [store.find(experiment) for experiment in plan.experiments(name, store)]
            rate = plan.rate(name, store)
        except UndecidedError:
            continue
        runs = [run for run in found if run is not None]
        late = sum(not run.converged for run in runs)
        if late:
            yield f"{name}: {late} of {len(runs)} runs have not converged: their best step is in the last tenth"
        if len(entry.rates) > 1 and rate in (min(entry.rates), max(entry.rates)):
            where = "lowest" if rate == min(entry.rates) else "highest"
            yield f"{name}: the best learning rate, {rate:g}, is the {where} of those tried"
