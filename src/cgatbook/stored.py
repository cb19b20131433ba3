"""Results of a plan: kept with the repository, or trained now; and which of several archives answers a question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml
from IPython.display import HTML

from cgatbook.pages import ORIGINS, provenance_box
from cgatlib import CgatError
from cgatlib.evaluation.baselines import Baseline, read_baselines
from cgatlib.evaluation.comparison import Comparison, Scored, Seeds, compare, over_splits
from cgatlib.evaluation.summaries import TableSummary
from cgatlib.figures.style import QUANTITIES
from cgatlib.runs.archive import RunArchive, find_runs
from cgatlib.runs.experiment import Run
from cgatlib.runs.plan import Plan, UndecidedError, run_plan
from cgatlib.runs.plan_file import load_yaml
from cgatlib.runs.schedule import local_pool
from cgatlib.runs.store import Runs


class MissingRunsError(CgatError):
    """An entry of the plan has not been run completely."""


@dataclass(frozen=True)
class Mae:
    """Mean test MAE of an entry, its standard deviation over seeds or splits, and `training_of` its runs."""

    value: float
    spread: float
    training: str = ""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Mae":
        """Of runs that differ by seed or split."""
        values = pd.Series([run.metrics["test_mae"] for run in runs])
        return cls(float(values.mean()), float(values.std(ddof=1)), training_of(runs[0]))


@dataclass(frozen=True)
class StoredResults:
    """A plan with the archive of its runs."""

    plan: Plan
    archive: Mapping[str, Run]
    folder: Path = Path()
    found: dict[str, list[Run]] = field(
        default_factory=dict, repr=False, compare=False
    )  # runs by entry, once looked up

    @classmethod
    def open(cls, plan: Path, archive: Path) -> "StoredResults":
        """Read both; `CgatError` when one is missing or damaged."""
        return cls(Plan.read(plan), RunArchive(archive), archive)

    @cached_property
    def _store(self) -> Runs:
        return Runs(self.folder, stored=self.archive)

    @property
    def origins(self) -> list[str]:
        """Where the labels come from: keys of `ORIGINS`."""
        return list(dict.fromkeys(table.get("origin", "dft") for table in self.plan.tables.values()))

    def runs(self, name: str) -> list[Run]:
        """Runs of an entry of the plan; `MissingRunsError` when one of them is not in the archive."""
        if name not in self.found:
            self.found[name] = self._runs(name)
        if not self.found[name]:
            raise MissingRunsError(name)
        return self.found[name]

    def _runs(self, name: str) -> list[Run]:
        """All runs of an entry, or none."""
        try:
            keys = [e.key for e in self.plan.experiments(name, self._store)]
        except UndecidedError:
            return []
        return [self.archive[key] for key in keys] if all(key in self.archive for key in keys) else []

    def has(self, name: str) -> bool:
        """Whether all runs of an entry are in the archive."""
        try:
            self.runs(name)
        except MissingRunsError:
            return False
        return True

    def table(self, *names: str) -> pd.DataFrame:
        """Runs of several entries, each once, one row per run.

        Returns:
            Columns ``key``, ``functional``, ``label``, ``mode``, ``source_label``, ``train_size``, ``pretrain_size`` (0
            without transfer), ``seed``, ``test_mae``, ``validation_mae`` and ``errors``, a series of absolute errors by
            the test crystal's digest and the number of its formula; errors in the label's unit.
        """
        runs = {run.experiment.key: run for name in names for run in self.runs(name)}
        return pd.DataFrame([{"key": key, **self._row(run)} for key, run in runs.items()])

    def _row(self, run: Run) -> dict[str, Any]:
        e = run.experiment
        return {
            "functional": e.functional,
            "label": e.label,
            "mode": e.transfer.mode,
            "source_label": e.source.label if e.source else "",
            "train_size": int(run.metrics["n_train"]),
            "pretrain_size": int(self.archive[e.source.key].metrics["n_train"]) if e.source else 0,
            "seed": e.seed,
            "test_mae": float(run.metrics["test_mae"]),
            "validation_mae": float(run.metrics["validation_mae"]),
            "errors": run.errors.set_index(["crystal", "group"])["error"].astype(float).abs(),
        }

    def curves(self, *names: str) -> pd.DataFrame:
        """Learning curves of several entries, one below the other.

        Returns:
            ``step``, ``epoch``, ``learning_rate``, ``validation_mae`` in the unit that errors are shown in, and
            ``functional``, ``label``, ``source_label``, ``mode``, ``seed`` (a number for every seed and split).
        """
        frames = []
        for run in (run for name in names for run in self.runs(name)):
            e = run.experiment
            part = run.curve.assign(functional=e.functional, label=e.label, mode=e.transfer.mode)
            part["source_label"] = e.source.label if e.source else ""
            part["seed"] = e.seed + 10 * e.split.seed
            frames.append(part.assign(validation_mae=part["validation_mae"] * QUANTITIES[e.label].error_factor))
        return pd.concat(frames, ignore_index=True)

    def seeds(self, name: str) -> Seeds:
        """Test errors of an entry of one split and size, one table per seed."""
        return [run.errors for run in self.runs(name)]

    def mae(self, name: str) -> Mae:
        """Test MAE of an entry, over seeds and splits."""
        return Mae.of(self.runs(name))

    def comparison(self, name: str, reference: str) -> Comparison:
        """An entry against another on the same test crystals; over the splits where there are several."""
        own, other = self.runs(name), self.runs(reference)
        splits = sorted({run.experiment.split.seed for run in own})
        if len(splits) == 1:
            first, second = (Scored.of([run.errors for run in some]) for some in (own, other))
            return compare(first, second)
        parts = [
            [[run.errors for run in some if run.experiment.split.seed == number] for some in (own, other)]
            for number in splits
        ]
        n_train = sum(int(run.metrics["n_train"]) for run in own) / len(own)
        return over_splits([(first, second) for first, second in parts], n_train)

    def summary(self, table: str) -> TableSummary:
        """What is known of a table of the plan; `CgatError` where the plan has no such table, or it has no summary."""
        if table not in self.plan.tables:
            raise CgatError(f"the plan has no table {table!r}")
        return TableSummary.read(self.folder.parent, self.plan.tables[table]["fingerprint"])

    def shown_summary(self, table: str) -> TableSummary:
        """`summary` with the labels that the table is for: volumes beside gaps are those of another functional."""
        found = self.summary(table)
        labels = self.plan.tables[table].get("labels") or found.labels
        return found.without([name for name in found.labels if name not in labels])

    @cached_property
    def baselines(self) -> list[Baseline]:
        """Simple predictors on the same splits; none where the archive has no file of them."""
        return read_baselines(self.folder) if (self.folder / "baselines.json").is_file() else []

    @property
    def sources(self) -> dict[str, tuple[str, str]]:
        """Fingerprint and functional of the plan's tables."""
        tables = self.plan.tables.items()
        return {name: (table.get("fingerprint", "not stated"), table["functional"]) for name, table in tables}

    def footer(self, started: float) -> HTML:
        """Code, machine, data and seeds of the runs."""
        return provenance_box(list(self.archive.values()), self.sources, started)


def changed_plan(path: Path, changes: Mapping[str, Any]) -> Plan:
    """The plan of a file with `changes` to its defaults; what a run states itself sets it apart from others, and stays.

    Raises:
        CgatError: the plan is wrong, a change is unknown or impossible, or no run would heed it.
    """
    plan = Plan.read(path)
    if not changes:
        return plan
    content = load_yaml(path)
    content["defaults"] = {**content.get("defaults", {}), **changes}
    try:
        for name in changes:
            if all(name in run for run in content["runs"].values()):
                raise CgatError(f"every run of the plan states its own {name}")
        with TemporaryDirectory() as folder:
            written = Path(folder) / path.name
            written.write_text(yaml.safe_dump(content, sort_keys=False))  # the order of runs is that of figures
            return Plan.read(written)
    except CgatError as error:
        raise CgatError(f"changes {changes}: {error}") from error


@dataclass(frozen=True)
class TrainedResults(StoredResults):
    """A plan whose runs are trained when they are asked for, on tables that are here."""

    archive: dict[str, Run] = field(default_factory=dict)  # what was asked for so far
    store: Runs = field(default_factory=lambda: Runs(Path()))
    workers: int = 1

    @classmethod
    def here(
        cls,
        plan: Path,
        data: Path,
        home: Path,
        stored: Path | None = None,
        workers: int = 1,
        changes: Mapping[str, Any] = {},
    ) -> "TrainedResults":
        """Import the tables of a plan; whatever their fingerprints, they may be the reader's own.

        Args:
            plan: its file. data: folder of its tables. home: where imported tables, graphs and runs are kept.
            stored: folder of archives whose runs are used as they are. workers: runs trained at a time.
            changes: to the plan's defaults, as in `changed_plan`.

        Raises:
            CgatError: a table does not state its origin or cannot be imported, or a change is impossible.
        """
        read = changed_plan(plan, changes)
        for name, table in read.tables.items():
            if table.get("origin") not in ORIGINS:
                raise CgatError(f"table {name} does not state its origin; known: {', '.join(ORIGINS)}")
        tables = {name: {k: v for k, v in t.items() if k != "fingerprint"} for name, t in read.tables.items()}
        opened = replace(read, tables=tables).open(data, home / "tables")
        known = find_runs(stored) if stored else {}
        runs = Runs(home / "runs", opened.opened, home / "graphs", known)
        return cls(opened, {}, home, store=runs, workers=workers)

    def train(self, *names: str) -> None:
        """Train what these entries lack, and what they start from.

        Raises:
            CgatError: a run has failed; each is named with its reason.
        """
        failed = run_plan(self.plan.only(names), self.store, local_pool(self.workers), self.workers).failed
        if failed:
            raise CgatError("; ".join(f"{planned}: {reason}" for planned, reason in failed.items()))

    def _runs(self, name: str) -> list[Run]:
        """Runs of an entry, trained now where they are not there."""
        self.train(name)
        found = [self.store.get(experiment) for experiment in self.plan.experiments(name, self.store)]
        sources = [run.experiment.source for run in found if run.experiment.source is not None]
        self.archive.update({run.experiment.key: run for run in [*found, *map(self.store.get, sources)]})
        return found


@dataclass(frozen=True)
class Archives:
    """Stored results of several plans with the same names of entries, the preferred one first."""

    parts: tuple[StoredResults, ...]

    @classmethod
    def open(cls, root: Path, pairs: Sequence[Sequence[str]]) -> "Archives":
        """Read pairs of plan and archive below `root`; `CgatError` when one is missing or damaged."""
        return cls(tuple(StoredResults.open(root / plan, root / archive) for plan, archive in pairs))

    def of(self, *names: str) -> StoredResults:
        """The first part that has all runs of all these entries, so that what is compared was trained alike.

        Raises:
            CgatError: no plan has one of the entries. MissingRunsError: no archive has the runs of all of them.
        """
        for name in names:
            if not any(name in part.plan.entries for part in self.parts):
                raise CgatError(f"no plan has a run {name!r}")
        for part in self.parts:
            if all(name in part.plan.entries and part.has(name) for name in names):
                return part
        raise MissingRunsError(", ".join(names))

    @property
    def runs(self) -> list[Run]:
        """Every stored run, once."""
        return list({key: run for part in self.parts for key, run in part.archive.items()}.values())

    def footer(self, started: float) -> HTML:
        """Code, machine, data and seeds of all stored runs."""
        return provenance_box(self.runs, {k: v for part in self.parts for k, v in part.sources.items()}, started)

    def has(self, *names: str) -> bool:
        """Whether one part has all runs of all these entries."""
        try:
            self.of(*names)
        except MissingRunsError:
            return False
        return True


def training_of(run: Run) -> str:
    """``"long"``: until it stopped improving; ``"short"``: a fixed number of steps; ``"none"``: not at all."""
    if run.experiment.transfer.mode == "untouched":
        return "none"
    return "short" if run.experiment.training.patience is None else "long"
