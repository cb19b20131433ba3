"""Plans: which runs a study consists of, as a file declares them.

The entries of a plan expand to experiments. Where an entry lists several learning rates, each is tried with the first
seed, the first split and the largest size; the one with the lowest validation error is used for all of its runs, so
that the trial that wins is one of them. Test errors decide nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.cgat import MODELS
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan_file import Entry, Start, read_plan
from cgatlib.runs.sources import Source, join_sources, load_source
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig
from cgatlib.values import from_plain

T = TypeVar("T")

Rates = Callable[[str], float]
"""Learning rate of the runs of an entry, by the entry's name."""


class UndecidedError(CgatError):
    """A learning rate is asked for whose trials have not been run."""


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
        blank = replace(plan, tables={name: {"fingerprint": name, **table} for name, table in plan.tables.items()})
        for entry in plan.entries.values():
            blank._expand(entry, _first_rate(plan.entries))
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
                parts = [found[part] for part in table["join"]]
                source = join_sources(name, table, parts, labels, Path(kept))
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

    def experiments(self, name: str, store: Runs) -> list[Experiment]:
        """The experiments of one entry: by split, then size, then seed.

        Args:
            name: of the entry. store: where its trial runs are found.

        Raises:
            CgatError: there is no such entry or a table is not known. UndecidedError: a trial has not been run.
        """
        return self._expand(self._entry(name), self._rates(store))

    def trials(self, name: str, store: Runs) -> dict[float, Experiment]:
        """The experiments that decide an entry's learning rate, by that rate; none where it is given."""
        return self._trials(self._entry(name), self._rates(store))

    def rate(self, name: str, store: Runs) -> float:
        """The learning rate of an entry: given, or that of the trial with the lowest validation error.

        Raises:
            UndecidedError: a trial has not been run.
        """
        return self._rates(store)(name)

    def _rates(self, store: Runs) -> Rates:
        """The same of every entry, each looked for once."""

        @cache
        def rates(name: str) -> float:
            entry = self._entry(name)
            if entry.rate_of is not None:
                return rates(entry.rate_of)
            if len(entry.rates) < 2:
                return _only(entry)
            found = {rate: store.find(trial) for rate, trial in self._trials(entry, rates).items()}
            lacking = ", ".join(f"{rate:g}" for rate, run in found.items() if run is None)
            if lacking:
                raise UndecidedError(f"the learning rate of {name} is open: no run at {lacking} in {store.root}")
            errors = {rate: run.metrics["validation_mae"] for rate, run in found.items() if run is not None}
            return min(errors, key=lambda rate: (errors[rate], rate))

        return rates

    def outline(self, name: str, store: Runs) -> list[Experiment]:
        """The experiments of one entry, its trials included, as far as they are known.

        Where trials have not decided yet, the first learning rate stands in, so that all can be counted beforehand.
        """
        entry, first, found = self._entry(name), _first_rate(self.entries), self._rates(store)

        @cache
        def rates(other: str) -> float:
            try:
                return found(other)
            except UndecidedError:
                return first(other)

        trials = [self._trial(entry, rate, rates) for rate in entry.rates]
        return list(dict.fromkeys([*trials, *self._expand(entry, rates)]))

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
        return {rate: self._trial(entry, rate, rates) for rate in entry.rates if len(entry.rates) > 1}

    def _trial(self, entry: Entry, rate: float, rates: Rates) -> Experiment:
        size = None if None in entry.sizes else max(size for size in entry.sizes if size is not None)

        def tried(name: str) -> float:
            return rate if name == entry.name else rates(name)

        return self._one(entry, entry.seeds[0], entry.splits[0], size, tried)

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
                graph=_changed(GRAPHS[entry.model], "graph", entry.graph),
                split=SplitConfig(split, groups=entry.groups),  # type: ignore[arg-type]  # checked there
                model=_changed(MODELS[entry.model], "network", entry.network),
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
        for what, value, known in (
            ("seed", seed, parent.seeds),
            ("split", split, parent.splits),
            ("size", size, parent.sizes),
        ):
            if value not in known:
                raise CgatError(
                    f"run {name}: {parent.name}, from which it starts, has no {what} {value}; "
                    f"known: {', '.join(map(str, known))}"
                )
        return self._one(parent, seed, split, size, rates)

    def _fingerprint(self, table: str) -> str:
        if table in self.sources:
            return self.sources[table].table.fingerprint
        if "fingerprint" not in self.tables[table]:
            raise CgatError(f"table {table}: the plan does not state its fingerprint, and its data are not given")
        return str(self.tables[table]["fingerprint"])


def _only(entry: Entry) -> float:
    return entry.rates[0] if entry.rates else TrainingConfig().learning_rate  # nothing is trained without one


def _first_rate(entries: Mapping[str, Entry]) -> Rates:
    def rate(name: str) -> float:
        entry = entries[name]
        return _only(entry) if entry.rate_of is None else rate(entry.rate_of)

    return rate


def _changed(config: T, what: str, changes: Mapping[str, Any]) -> T:
    for name in changes:
        if name not in vars(config):
            raise CgatError(f"{what}: unknown field {name!r}; known: {', '.join(vars(config))}")
    return from_plain(type(config), {**vars(config), **changes}, what)
