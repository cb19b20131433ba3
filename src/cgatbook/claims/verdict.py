"""What is said of a claim of the paper, and the rules by which it is said."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from cgatbook.published import Printed
from cgatbook.stored import MissingRunsError
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.style import FUNCTIONAL_NAMES, QUANTITIES

if TYPE_CHECKING:
    from cgatbook.claims.evidence import Evidence

FIFTH = 0.2
"""What counts as a difference: from a trivial predictor, or between two things that are called similar."""


class Outcome(StrEnum):
    """What a finding says of a claim. Of several findings, the one that comes first here is the verdict."""

    FAILS = "does not hold"
    INCONSISTENT = "inconsistent"
    OPEN = "undecided"
    HOLDS = "holds"
    CONSISTENT = "consistent"
    UNINFORMATIVE = "not informative"
    IMPOSSIBLE = "cannot be tested"


MEANING: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.HOLDS: "In all cases tested, the 95 % interval of the effect lies on the side that the paper states. "
        "Whether the size of the effect is the paper's is said beside it and does not make the verdict.",
        Outcome.FAILS: "In at least one case the whole interval lies on the other side; where that follows from a "
        "straight line, on the paper's own terms.",
        Outcome.OPEN: "An interval includes no effect; or the effect follows from a straight line that the data "
        "reject, on which no claim can hold. That two things are equal can be refuted, but not shown.",
        Outcome.UNINFORMATIVE: "Neither of the errors compared is a fifth below that of a constant, whatever the "
        "interval of their difference.",
        Outcome.IMPOSSIBLE: "What would be needed is named, and the plans are searched for it, so that the verdict "
        "changes when the data come.",
        Outcome.CONSISTENT: "Computed from the paper's printed numbers alone; brackets are what rounding leaves open.",
        Outcome.INCONSISTENT: "The paper's printed numbers contradict the claim, beyond rounding.",
    }
)
"""The rules, in words."""

Side = Literal["above", "below", "equal"]
"""Where a claim says that an effect lies, seen from zero."""

Axis = Literal["share", "ratio", "number"]
"""What an effect is: relative, the logarithm of a ratio, or a number."""


@dataclass(frozen=True)
class Effect:
    """A number with its 95 % interval, and where the claim sees it; `margin` is what still counts as equal."""

    estimate: Estimate
    side: Side = "above"
    axis: Axis = "share"
    stated: Printed | None = None
    margin: float = 0.0

    def outcome(self, *, informative: bool = True, line: bool = True) -> Outcome:
        """What it says of the claim; an effect may be of errors that are not `informative`, or of no `line`."""
        if not informative:
            return Outcome.UNINFORMATIVE
        low, high, margin = self.estimate.low, self.estimate.high, self.margin
        above, below, inside = low > margin, high < -margin, -margin < low and high < margin
        sides = {"above": (below, above), "below": (above, below), "equal": (above or below, inside)}
        fails, holds = sides[self.side]
        if fails:
            return Outcome.FAILS
        return Outcome.HOLDS if holds and line else Outcome.OPEN

    def beside(self, outcome: Outcome) -> str:
        """How the paper's number lies to the interval; nothing where it states none."""
        if self.stated is None:
            return ""
        if self.estimate.low <= self.stated.high and self.stated.low <= self.estimate.high:
            return f"; the paper's {self.stated.text} lies in the interval"
        if outcome is not Outcome.HOLDS:
            return f"; {self.stated.text} in the paper"
        more = abs(self.estimate.value) > abs(self.stated.value)
        return f"; {'more' if more else 'less'} than the paper's {self.stated.text}"


@dataclass(frozen=True)
class Finding:
    """One test of a claim.

    Attributes:
        outcome: what it says. text: what was measured, with its interval. effect: the number behind the text.
        data: ``"DFT"``, ``"surrogate"``, ``"paper"`` (printed numbers) or ``"none"``. detail: crystals, seeds.
        procedure: how the networks were trained, with rate and decay. subject: label and functional.
        plan: name of plan and archive of the runs. entries: of the plan. keys: of the runs.
        circular: which input the test returns, if it does.
    """

    outcome: Outcome
    text: str
    data: str
    detail: str = ""
    procedure: str = ""
    subject: tuple[str, str] | None = None
    effect: Effect | None = None
    plan: str = ""
    entries: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    circular: str = ""


@dataclass(frozen=True)
class Verdict:
    """What all findings on a claim say together."""

    outcome: Outcome
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, *groups: Sequence[Finding]) -> "Verdict":
        """A claim about several cases holds when it holds in all, and does not when it fails in one."""
        findings = tuple(finding for group in groups for finding in group)
        return cls(min((f.outcome for f in findings), key=list(Outcome).index), findings)

    @property
    def deciding(self) -> Finding:
        """The finding that makes the verdict: its effect and interval are the verdict's."""
        return next(f for f in self.findings if f.outcome == self.outcome)


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of the paper.

    Attributes:
        id: anchor of its row. section: key of `SECTIONS`. place: in the paper. sentence: in our words, with names of
            printed numbers in braces. tested: what the test adds or takes away. about: label and functional.
        first: whether it is one of those that come first. test: what gives the verdict.
    """

    id: str
    section: str
    place: str
    sentence: str
    tested: str
    about: tuple[str, str] | None
    first: bool
    test: Callable[["Evidence"], Verdict]

    def judge(self, evidence: "Evidence") -> Verdict:
        """The verdict; where runs are missing, it says which."""
        try:
            return self.test(evidence)
        except MissingRunsError as error:
            return Verdict.of([impossible(f"The archives lack runs of {error}.")])


SECTIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "data": ("Data", "01_data"),
        "within": ("Within a property", "02_intra_property"),
        "sizes": ("Size scaling", "03_size_scaling"),
        "budget": ("Compute budget", "04_compute_budget"),
        "between": ("Between properties", "05_inter_property"),
        "network": ("Network", "methods"),
        "conclusions": ("Conclusions", "06_beyond"),
    }
)
"""Title of each section of the ledger, and the page with its figures."""


def claim(
    section: str, place: str, about: tuple[str, str] | None = None, *, first: bool = False
) -> Callable[[Callable[["Evidence"], Verdict]], Claim]:
    """Make a claim of a function: the first paragraph of its docstring is the sentence, the second what is tested.

    Args:
        section: key of `SECTIONS`. place: in the paper. about: label and functional, where others may stand in for
            them. first: whether it is one of the claims that matter most.
    """
    if section not in SECTIONS or (about and not (about[0] in QUANTITIES and about[1] in FUNCTIONAL_NAMES)):
        raise ValueError(f"unknown section or property: {section}, {about}")

    def decorate(test: Callable[["Evidence"], Verdict]) -> Claim:
        sentence, _, tested = (inspect.getdoc(test) or "").partition("\n\n")
        sentence, tested = (" ".join(text.split()) for text in (sentence, tested))
        name = f"{section}-{test.__name__.replace('_', '-')}"
        return Claim(name, section, place, sentence, tested, about, first, test)

    return decorate


def impossible(reason: str) -> Finding:
    """What would be needed is not here."""
    return Finding(Outcome.IMPOSSIBLE, reason, "none")


def share_text(e: Estimate) -> str:
    """A relative number with its interval; with a decimal where rounding would swallow that, or the sign of an end."""
    digits = 1 if e.high - e.low < 0.02 or min(abs(e.low), abs(e.high)) < 0.005 else 0
    return e.text(lambda x: f"{x:.{digits}%}".replace("inf%", "∞"))
