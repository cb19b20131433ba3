"""What a verdict on a claim of the paper is, and what the tests that give one share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cgatbook.published import Printed, PublishedNumbers
from cgatbook.stored import MissingRunsError, StoredResults
from cgatlib import CgatError
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.style import FUNCTIONAL_NAMES, QUANTITIES
from cgatlib.model.cgat import MODELS
from cgatlib.runs.experiment import Run


class Outcome(StrEnum):
    """What a test says of a claim; the last two are about the paper's own numbers."""

    HOLDS = "holds here"
    FAILS = "does not hold here"
    OPEN = "undecided here"
    PENDING = "not yet tested"
    IMPOSSIBLE = "cannot be tested with this data"
    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True)
class Verdict:
    """Outcome of a test of a claim.

    Attributes:
        measured: what was found, with its interval. data: on what, with the origin of the labels.
        subject: label and functional that were tested, which may stand in for those of the claim.
    """

    outcome: Outcome
    measured: str
    data: str
    subject: tuple[str, str] | None = None


@dataclass(frozen=True)
class Evidence:
    """What claims are tested with: runs on DFT data, runs of the network's variants, printed numbers, demo crystals."""

    real: StoredResults
    variants: StoredResults
    published: PublishedNumbers
    crystals: Path


_NARROW = 0.02  # of a relative number: its interval would be lost in rounding

ONE_WAY = {"better": 1, "worse": -1, "same": 0}
"""What a claim may expect of an error against the one it is compared with."""


def decide(effect: Estimate, expected: str) -> Outcome:
    """Outcome for an effect that is positive where it is ``better``; ``same`` cannot be shown, only refuted.

    Raises:
        CgatError: something else is expected.
    """
    if expected not in ONE_WAY:
        raise CgatError(f"a claim cannot expect {expected!r}; known: {', '.join(ONE_WAY)}")
    if effect.low <= 0 <= effect.high:
        return Outcome.OPEN
    return Outcome.HOLDS if ONE_WAY[expected] == math.copysign(1, effect.low) else Outcome.FAILS


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """A claim about several cases holds when it holds in all, and fails when it fails in one."""
    for outcome in (Outcome.FAILS, Outcome.OPEN):
        if outcome in outcomes:
            return outcome
    return Outcome.HOLDS


def share_text(e: Estimate) -> str:
    """A relative number with its interval; with a decimal where that is narrow."""
    digits = 1 if e.high - e.low < _NARROW else 0
    value, low, high = (f"{x:.{digits}%}".replace("inf%", "∞") for x in (e.value, e.low, e.high))
    return f"{value} [{low}, {high}]"


def beside(effect: Estimate, stated: Printed | None, outcome: Outcome) -> str:
    """How the paper's number lies to the interval of ours; nothing where it states none."""
    if stated is None:
        return ""
    if effect.low <= stated.high and stated.low <= effect.high:
        return f"; the paper's {stated.text} lies in the interval"
    if outcome is not Outcome.HOLDS:
        return f"; {stated.text} in the paper"
    size = "larger" if abs(effect.value) > abs(stated.value) else "smaller"
    return f"; direction as in the paper, effect {size} than its {stated.text}"


def runs_of(results: StoredResults, names: Sequence[str]) -> list[list[Run]]:
    """The runs of several entries.

    Raises:
        CgatError: the plan has no such entry. MissingRunsError: the archive lacks runs; it names all such entries.
    """
    for name in names:
        if name not in results.plan.entries:
            raise CgatError(f"the plan has no run {name!r}")
    missing = [name for name in names if not results.has(name)]
    if missing:
        raise MissingRunsError(", ".join(missing))
    return [results.runs(name) for name in names]


def subject_of(runs: Sequence[Run]) -> tuple[str, str]:
    """Label and functional of an entry's runs."""
    return runs[0].experiment.label, runs[0].experiment.functional


def subject_text(subject: tuple[str, str]) -> str:
    """Label and functional in words."""
    label, functional = subject
    return f"{QUANTITIES[label].text} {FUNCTIONAL_NAMES[functional]}"


def data_text(results: StoredResults, runs: Sequence[Run]) -> str:
    """Origin of the labels, crystals, seeds or splits of an entry's runs; the network where it is not the smallest."""
    table = next(t for t in results.plan.tables.values() if t["fingerprint"] == runs[0].experiment.data)
    origin = {"dft": "DFT labels", "surrogate": "surrogate labels"}[table.get("origin", "dft")]
    ranges = {part: sorted({int(run.metrics[f"n_{part}"]) for run in runs}) for part in ("train", "test")}
    train, test = (" to ".join(f"{n:,}" for n in dict.fromkeys((ns[0], ns[-1]))) for ns in ranges.values())
    several = {run.experiment.split.seed for run in runs}
    repeats = f"{len(several)} splits" if len(several) > 1 else f"{len({run.experiment.seed for run in runs})} seeds"
    times = runs[0].experiment.model.atom_width / MODELS["tiny"].atom_width
    network = f"; network {times:g} times as wide" if times > 1 else ""
    return f"{origin}; {train} training, {test} test crystals, {repeats}{network}"
