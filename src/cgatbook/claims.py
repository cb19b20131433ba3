"""The ledger of claims: every checkable sentence of the paper with the verdict that the stored results give."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml
from IPython.display import HTML

from cgatbook import data_verdicts, error_verdicts, printed_verdicts, size_verdicts
from cgatbook.published import PublishedNumbers
from cgatbook.stored import MissingRunsError
from cgatbook.verdicts import Evidence, Outcome, Verdict, subject_text
from cgatlib import CgatError
from cgatlib.figures.style import FUNCTIONAL_NAMES, QUANTITIES

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "data": "Data",
        "within": "Within a property",
        "sizes": "Size scaling",
        "budget": "Compute budget",
        "between": "Between properties",
        "network": "Network",
        "conclusions": "Conclusions",
    }
)
"""Sections of the ledger in their order."""

Test = Callable[..., Verdict]


def impossible(evidence: Evidence, reason: str, absent: Mapping[str, Any]) -> Verdict:
    """The claim needs what the plans do not have.

    Args:
        reason: why, one sentence. absent: ``label`` and perhaps ``functionals`` and ``at_least`` training crystals;
            or ``network``, a setting of the network that no entry changes.

    Raises:
        CgatError: a plan has it.
    """
    if has(evidence, **absent):
        raise CgatError(f"{absent} is said to be absent, but the plan has it: it can be tested")
    return Verdict(Outcome.IMPOSSIBLE, reason, "no data")


def has(
    evidence: Evidence,
    *,
    label: str | None = None,
    functionals: Sequence[str] = (),
    at_least: int = 1,
    network: str | None = None,
) -> bool:
    """Whether an entry of the plans has a label (of some functionals, with so many crystals), or changes a setting."""
    plans = (evidence.real.plan, evidence.variants.plan)
    entries = [entry for plan in plans for entry in plan.entries.values()]
    if network:
        return any(network in entry.network for entry in entries)
    if label is None:
        raise CgatError("what is absent must be named by label or network")
    real = evidence.real
    for entry in real.plan.entries.values():
        table = real.plan.tables[entry.table]
        if entry.label != label or (functionals and table["functional"] not in functionals):
            continue
        own = [
            r for r in real.archive.values() if (r.experiment.data, r.experiment.label) == (table["fingerprint"], label)
        ]
        if at_least <= 1 or any(run.metrics["n_train"] >= at_least for run in own):
            return True
    return False


TESTS: Mapping[str, Test] = MappingProxyType(
    {
        test.__name__: test
        for test in (
            impossible,
            error_verdicts.reduction,
            error_verdicts.larger_error,
            error_verdicts.smaller_on_metals,
            error_verdicts.beats_baseline,
            error_verdicts.reached_sooner,
            error_verdicts.variant,
            size_verdicts.straight_line,
            size_verdicts.error_falls,
            size_verdicts.slope_decreases,
            size_verdicts.pretraining_slope_smaller,
            size_verdicts.lines_meet,
            size_verdicts.equivalent_data,
            size_verdicts.balanced_at,
            size_verdicts.best_share,
            data_verdicts.labels_shift,
            data_verdicts.element_share,
            data_verdicts.same_graph,
            printed_verdicts.quotient,
            printed_verdicts.printed_gains,
            printed_verdicts.table_order,
            printed_verdicts.accuracy_at,
            printed_verdicts.budget,
            printed_verdicts.surplus,
            printed_verdicts.most_frequent,
            printed_verdicts.printed_share,
            printed_verdicts.kilocalorie,
        )
    }
)
"""Every test by its name; each takes `Evidence` and what the claim's file says."""


@dataclass(frozen=True)
class Claim:
    """A checkable sentence of the paper.

    Attributes:
        id: anchor of its row. group: key of `GROUPS`. place: in the paper. text: in our words, names of printed numbers
            in braces. about: label and functional it speaks of. checks: names of `TESTS` with their arguments.
    """

    id: str
    group: str
    place: str
    text: str
    checks: tuple[tuple[str, Mapping[str, Any]], ...]
    about: tuple[str, str] | None = None

    def judge(self, evidence: Evidence) -> list[Verdict]:
        """One verdict per check; where runs are missing, the verdict says which.

        Raises:
            CgatError: a check names an entry, number or table that does not exist; the sentence names the claim.
        """
        found = []
        for name, arguments in self.checks:
            try:
                found.append(TESTS[name](evidence, **arguments))
            except MissingRunsError as error:
                found.append(Verdict(Outcome.PENDING, f"the archive lacks runs of {error}", "no data yet"))
            except CgatError as error:
                raise CgatError(f"claim {self.id}, test {name}: {error}") from error
        return found


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file, in its order.

    Raises:
        CgatError: not YAML; an id given twice; a group, test, label or functional that does not exist; a missing field;
            arguments that do not fit the test.
    """
    try:
        rows = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise CgatError(f"{path} is not YAML: {error}") from error
    found: dict[str, Claim] = {}
    for row in rows:
        name = row.get("id", "without id")
        known = {"id", "group", "place", "claim", "about", "checks"}
        if wrong := (set(row) - known) | (known - {"about"} - set(row)):
            raise CgatError(f"{path}: claim {name}: unknown or missing {', '.join(sorted(wrong))}")
        if name in found:
            raise CgatError(f"{path}: two claims are called {name}")
        if row["group"] not in GROUPS:
            raise CgatError(f"{path}: claim {name}: unknown group {row['group']!r}; known: {', '.join(GROUPS)}")
        about = tuple(row["about"]) if "about" in row else None
        if about and not (len(about) == 2 and about[0] in QUANTITIES and about[1] in FUNCTIONAL_NAMES):
            raise CgatError(f"{path}: claim {name}: about must be a label and a functional, not {row['about']}")
        checks = tuple(_check(f"{path}: claim {name}", dict(check)) for check in row["checks"])
        if not checks:
            raise CgatError(f"{path}: claim {name} has no checks")
        found[name] = Claim(name, row["group"], row["place"], row["claim"], checks, about)
    return list(found.values())


def _check(where: str, check: dict[str, Any]) -> tuple[str, Mapping[str, Any]]:
    name = check.pop("test", None)
    if name not in TESTS:
        raise CgatError(f"{where}: unknown test {name!r}; known: {', '.join(TESTS)}")
    try:
        inspect.signature(TESTS[name]).bind(None, **check)
    except TypeError as error:
        raise CgatError(f"{where}: test {name}: {error}") from error
    return name, check


Ledger = Sequence[tuple[Claim, Sequence[Verdict]]]


def counts(ledger: Ledger) -> pd.DataFrame:
    """Number of verdicts of each kind by section, and in all; kinds that do not occur are left out."""
    rows = [(GROUPS[claim.group], verdict.outcome.value) for claim, found in ledger for verdict in found]
    frame = pd.DataFrame(rows, columns=["section", "outcome"])
    table = pd.crosstab(frame["section"], frame["outcome"])
    sections = [title for title in GROUPS.values() if title in table.index]
    outcomes = [outcome.value for outcome in Outcome if outcome.value in table.columns]
    table = table.loc[sections, outcomes]
    table.loc["all"] = table.sum()
    return table.rename_axis(index=None, columns=None).astype(str).replace("0", "–")


def ledger_table(ledger: Ledger, group: str, published: PublishedNumbers) -> HTML:
    """The claims of a section, one row per check; a claim's id is the anchor of its first row."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Claim", "Verdict", "Found", "Tested on"))
    rows = [row for claim, found in ledger if claim.group == group for row in _rows(claim, found, published)]
    return HTML(
        '<div class="cgat-table" tabindex="0"><table>'
        f"<caption>{escape(GROUPS[group])}: what the paper says, and what was found. Intervals are 95 %.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _rows(claim: Claim, found: Sequence[Verdict], published: PublishedNumbers) -> Iterable[str]:
    place = f'<small>{escape(claim.place)}. <a href="#{claim.id}">{claim.id}</a></small>'
    text = f"{escape(published.fill(claim.text))} {place}"
    first = f'<th scope="row" id="{claim.id}" rowspan="{len(found)}" style="vertical-align: top">{text}</th>'
    for number, verdict in enumerate(found):
        cells = (
            f'<strong class="outcome {verdict.outcome.name.lower()}">{verdict.outcome}</strong>',
            escape(verdict.measured),
            escape(_data(claim, verdict)),
        )
        inner = "".join(f'<td class="words" style="vertical-align: top">{cell}</td>' for cell in cells)
        yield f"<tr>{first if number == 0 else ''}{inner}</tr>"


def _data(claim: Claim, verdict: Verdict) -> str:
    """What the test was made on, and for what it stands in."""
    if verdict.subject is None:
        return verdict.data
    own = subject_text(verdict.subject)
    instead = f" for {subject_text(claim.about)}" if claim.about and claim.about != verdict.subject else ""
    return f"{own}{instead}; {verdict.data}"
