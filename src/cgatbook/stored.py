"""Results of a plan that are kept with the repository: they are shown without the data they were made from."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import pandas as pd
from IPython.display import HTML, display

from cgatbook.pages import banner_box, code_text, note, provenance_box
from cgatbook.studies import results, sources_of
from cgatbook.tables import ORIGINS
from cgatlib import CgatError
from cgatlib.crystals.crystal import Property
from cgatlib.crystals.summary import TableSummary
from cgatlib.evaluation.baselines import Baseline, read_baselines
from cgatlib.evaluation.comparison import Comparison, compare, gap_scores, leakage_ratio, over_splits
from cgatlib.evaluation.metrics import Scored, Seeds, restrict
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES
from cgatlib.runs.archive import RunArchive
from cgatlib.runs.experiment import Run, score
from cgatlib.runs.plan import Plan, UndecidedError
from cgatlib.runs.store import Runs


class MissingRunsError(CgatError):
    """An entry of the plan has not been run completely."""


@dataclass(frozen=True)
class Mae:
    """Mean test MAE of an entry, its standard deviation over seeds or splits, and `training_of` its runs."""

    value: float
    spread: float
    training: str = ""

    def text(self, quantity: Property) -> str:
        """In the unit that errors of the quantity are shown in."""
        value, spread = (f"{x * quantity.error_factor:.{quantity.error_digits}f}" for x in (self.value, self.spread))
        return value if math.isnan(self.spread) else f"{value} ± {spread}"


@dataclass(frozen=True)
class StoredResults:
    """A plan with the archive of its runs."""

    plan: Plan
    archive: RunArchive

    @classmethod
    def open(cls, plan: Path, archive: Path) -> "StoredResults":
        """Read both; `CgatError` when one is missing or damaged."""
        return cls(Plan.read(plan), RunArchive.open(archive))

    @cached_property
    def _store(self) -> Runs:
        return Runs(self.archive.path, stored=self.archive)

    @property
    def origin(self) -> str:
        """Where the labels come from."""
        return "; ".join(dict.fromkeys(ORIGINS[table.get("origin", "dft")] for table in self.plan.tables.values()))

    @property
    def seconds(self) -> float:
        """Time of all runs together."""
        return sum(float(run.metrics["seconds"]) for run in self.archive.values())

    @cached_property
    def _found(self) -> dict[str, list[Run]]:
        return {}

    def runs(self, name: str) -> list[Run]:
        """Runs of an entry of the plan; `MissingRunsError` when one of them is not in the archive."""
        if name not in self._found:
            self._found[name] = self._runs(name)
        if not self._found[name]:
            raise MissingRunsError(name)
        return self._found[name]

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

    @contextmanager
    def where_run(self) -> Iterator[None]:
        """What needs runs that are not in the archive is left out, and the page says so."""
        try:
            yield
        except MissingRunsError as error:
            display(note(f"Not shown: the archive lacks runs of {error} of the plan."))

    def table(self, *names: str) -> pd.DataFrame:
        """`cgatbook.studies.results` of several entries, each run once."""
        found = {run.experiment.key: run for name in names for run in self.runs(name)}
        sources = [self.archive[e.key] for e in sources_of(run.experiment for run in found.values())]
        return results(found.values(), sources)

    def seeds(self, name: str) -> Seeds:
        """Test errors of an entry of one split and size, one table per seed."""
        return [run.errors for run in self.runs(name)]

    def mae(self, name: str) -> Mae:
        """Test MAE of an entry, over seeds and splits."""
        runs = self.runs(name)
        values = pd.Series([run.metrics["test_mae"] for run in runs])
        return Mae(float(values.mean()), float(values.std(ddof=1)), training_of(runs[0]))

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
        return TableSummary.read(self.archive.path.parent, self.plan.tables[table]["fingerprint"])

    def data_table(self) -> pd.DataFrame:
        """What every table of the plan holds: one row per table and label, texts."""
        rows: dict[str, dict[str, int]] = {}
        for entry in self.plan.entries.values():
            if not self.has(entry.name):
                continue
            run = max(self.runs(entry.name), key=lambda run: run.metrics["n_train"])
            name = f"{QUANTITIES[entry.label].text}, {FUNCTIONAL_NAMES[run.experiment.functional]}"
            sizes = {part: int(run.metrics[f"n_{part}"]) for part in ("train", "validation", "test")}
            if name not in rows or sizes["train"] > rows[name]["train"]:
                rows[name] = sizes
        frame = pd.DataFrame.from_dict(rows, orient="index")
        frame.columns = ["training", "validation", "test"]
        return frame.map("{:,}".format)

    @cached_property
    def baselines(self) -> list[Baseline]:
        """Simple predictors on the same splits."""
        return read_baselines(self.archive.path)

    def baseline_table(self, targets: Sequence[str]) -> pd.DataFrame:
        """MAE of the simple predictors, and of full transfer, for targets whose entries are ``TARGET-full``."""
        names = {"mean": "mean", "ridge": "linear in composition", "boosting": "boosted trees on composition"}
        paired_names = {
            "source label + ridge": "PBE value, linear",
            "source label + boosting": "PBE value, boosted trees",
        }
        rows = {}
        for target in targets:
            runs = self.runs(f"{target}-full")
            e, q = runs[0].experiment, QUANTITIES[runs[0].experiment.label]
            own = [b for b in self.baselines if (b.data, b.label) == (e.data, e.label)]
            cells = {title: _mean(own, name).text(q) for name, title in names.items()}
            cells["full transfer"] = self.mae(f"{target}-full").text(q)
            cells |= {title: _mean(own, name).text(q) for name, title in paired_names.items()}
            cells["full transfer, same crystals"] = _restricted(runs, [b for b in own if b.name in paired_names]).text(
                q
            )
            rows[f"{q.text} {FUNCTIONAL_NAMES[e.functional]} / {q.error_unit}"] = cells
        return pd.DataFrame.from_dict(rows, orient="index")

    def gap_table(self, target: str, modes: Sequence[str]) -> pd.DataFrame:
        """Gaps as a classification into metals and non-metals, one row per mode."""
        rows = {}
        for mode in modes:
            found = gap_scores(self.seeds(f"{target}-{mode}"))
            rows[MODES[mode].name] = {
                "balanced accuracy": interval_text(found.balanced_accuracy.estimate, 3),
                "ROC AUC": interval_text(found.roc_auc.estimate, 3),
                "F1": interval_text(found.f1.estimate, 3),
                f"MAE of {found.non_metals} non-metals / eV": interval_text(found.open_gap_mae.estimate, 3),
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def leak_table(self, names: Sequence[str]) -> pd.DataFrame:
        """Ratio of the MAEs of ``NAME-seen`` and NAME by what the leaky pre-training has seen, one row per entry."""
        rows = {}
        for name in names:
            e = self.runs(name)[0].experiment
            title = f"{QUANTITIES[e.label].text} {FUNCTIONAL_NAMES[e.functional]}, {MODES[e.transfer.mode].name}"
            parts = leakage_ratio(self.seeds(name), self.seeds(f"{name}-seen"))
            found = {"all": self.comparison(f"{name}-seen", name), **parts}
            rows[title] = {f"{what}": f"{interval_text(c.ratio, 2)} ({c.crystals:,})" for what, c in found.items()}
        return pd.DataFrame.from_dict(rows, orient="index")

    def banner(self, profile: str) -> HTML:
        """Where the numbers of the page come from."""
        origin = f"<strong>Stored runs; {escape(self.origin)}.</strong>"
        return banner_box(
            profile, f"{origin} {escape(self.plan.about)}: {len(self.archive)} runs, the same in every profile."
        )

    def footer(self, started: float) -> HTML:
        """Code, machine, data and seeds of the stored runs."""
        runs = list(self.archive.values())
        machines = {f"{m['processor']}, {m['cores']} cores" for m in (run.provenance["machine"] for run in runs)}
        rows = {
            "Runs": f"{len(runs)}, {self.seconds / 3600:.1f} h of training on one core each",
            "Trained by": ", ".join(sorted({code_text(run.provenance["code"]) for run in runs})),
            "Machine": "; ".join(sorted(machines)),
            "Seeds": ", ".join(str(seed) for seed in sorted({run.experiment.seed for run in runs})),
            "Data": "; ".join(
                f"{name} {table['fingerprint']} ({table['functional']})" for name, table in self.plan.tables.items()
            ),
            "Page": f"executed in {time.perf_counter() - started:.0f} s",
        }
        return provenance_box(rows)


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


def _mean(found: Sequence[Baseline], name: str) -> Mae:
    maes = pd.Series([b.mae for b in found if b.name == name])
    return Mae(float(maes.mean()), float(maes.std(ddof=1)))


def _restricted(runs: Sequence[Run], paired: Sequence[Baseline]) -> Mae:
    """MAE of runs on the crystals that the baselines of the same split have predicted."""
    crystals = {b.split["seed"]: list(b.errors["crystal"]) for b in paired}
    parts = [restrict([run.errors], crystals[run.experiment.split.seed])[0] for run in runs]
    maes = pd.Series([score(part["error"])["test_mae"] for part in parts])
    return Mae(float(maes.mean()), float(maes.std(ddof=1)))


def interval_text(estimate: Estimate, digits: int) -> str:
    """A value with its 95 % interval."""
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def reduction_text(comparison: Comparison) -> str:
    """Relative reduction of the error with its 95 % interval."""
    r = comparison.reduction
    return f"{r.value:.0%} [{r.low:.0%}, {r.high:.0%}]"
