"""Running a plan: trials before what they decide, sources before what starts from them, and an account of it all."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.plan import Plan, UndecidedError
from cgatlib.runs.schedule import Pool
from cgatlib.runs.store import Runs
from cgatlib.transfer import STEPLESS


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
class Ended:
    """A run that has just been trained, or why it could not be."""

    planned: Planned
    run: Run | None
    reason: str | None


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
    plan: Plan, store: Runs, pool: Pool, workers: int = 1, report: Callable[[Ended], None] = lambda ended: None
) -> Summary:
    """Train what a plan lacks; one run that fails does not stop those that do not need it.

    Args:
        plan: opened, or with stated fingerprints. store: where runs are found and kept.
        pool: where they are trained. workers: processes that build graphs. report: told of each run that ends.
    """
    known: dict[str, Planned] = {}
    trained: list[str] = []
    failed: dict[str, str] = {}

    def ended(key: str, reason: str | None) -> None:
        run = store.made(known[key].experiment)
        if reason is None and run is None:
            reason = f"it was trained, but {store.root} has no run of it by this code"
        if reason is None:
            trained.append(key)
        else:
            failed[key] = reason
        report(Ended(known[key], run, reason))

    while True:
        found, undecided = _decided(plan, store)
        known = found | known  # the first entry names a run
        for key, planned in found.items():
            lost = _lost_source(planned.experiment, failed)
            if lost is not None and key not in failed and store.find(planned.experiment) is None:
                ended(key, f"its source {lost} failed")
        missing = store.missing([planned.experiment for key, planned in found.items() if key not in failed])
        if not missing:
            break
        store.fill(missing, pool, workers, ended)
    reused = [planned for key, planned in known.items() if key not in failed and key not in trained]
    return Summary([known[key] for key in trained], reused, {known[k]: why for k, why in failed.items()}, undecided)


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


def outlined(plan: Plan, store: Runs) -> list[Planned]:
    """What `run_plan` would see to, found runs included; where a learning rate is open, the first stands in."""
    found: dict[Experiment, Planned] = {}
    for name in plan.entries:
        for experiment in plan.outline(name, store):
            found.setdefault(experiment, Planned(name, experiment))
    return list(found.values())


def _decided(plan: Plan, store: Runs) -> tuple[dict[str, Planned], dict[str, str]]:
    """Runs and trials whose learning rates are known, by key, and the entries of the others, with the reason."""
    found: dict[str, Planned] = {}
    undecided = {}
    for name in plan.entries:
        try:
            for get in (lambda name: plan.trials(name, store).values(), lambda name: plan.experiments(name, store)):
                for experiment in get(name):
                    found.setdefault(experiment.key, Planned(name, experiment))
        except UndecidedError as error:
            undecided[name] = str(error)
    return found, undecided


def _lost_source(experiment: Experiment, failed: dict[str, str]) -> str | None:
    """Key of a failed run that `experiment` starts from, if only through others."""
    source = experiment.source
    while source is not None:
        if source.key in failed:
            return source.key
        source = source.source
    return None
