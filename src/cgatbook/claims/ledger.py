"""The ledger: every claim with its verdict, as HTML that is complete without script.

A row is a `details` element. ``book/assets/ledger.js`` adds search and filters, ``ledger.css`` the look.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from IPython.display import HTML

from cgatbook.claims import between, conclusions, data, sizes, within
from cgatbook.claims.evidence import Evidence
from cgatbook.claims.paper import place_text
from cgatbook.claims.verdict import MEANING, SECTIONS, Axis, Claim, Effect, Finding, Outcome, Verdict
from cgatbook.pages import words
from cgatbook.published import PublishedNumbers

SOURCES = {"DFT": "DFT labels", "surrogate": "surrogate labels", "paper": "printed numbers", "none": "no labels"}
SHOWN = 1.0  # of the error: relative effects beyond are drawn at the edge
ROW = 9  # height of an interval

Judged = Sequence[tuple[Claim, Verdict]]


def all_claims() -> list[Claim]:
    """Every claim, in the order of the sections."""
    modules = (data, within, sizes, between, conclusions)
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Claim)]
    return sorted(found, key=lambda claim: list(SECTIONS).index(claim.section))


def judge(evidence: Evidence) -> Judged:
    """All claims with their verdicts."""
    return [(claim, claim.judge(evidence)) for claim in all_claims()]


def tally(judged: Judged) -> Counter[Outcome]:
    """Number of claims by verdict."""
    return Counter(verdict.outcome for _, verdict in judged)


def overview(judged: Judged) -> HTML:
    """What the verdicts mean, with the number of claims of each."""
    found = tally(judged)
    rows = "".join(
        f"<div><dt>{_chip(outcome)} <strong>{found[outcome]}</strong></dt><dd>{escape(meaning)}</dd></div>"
        for outcome, meaning in MEANING.items()
    )
    return HTML(f'<dl class="ledger-key">{rows}</dl>')


def controls(judged: Judged) -> HTML:
    """Search and filters; without script they stay hidden."""
    kinds = {
        "verdict": [(outcome.name.lower(), outcome.value) for outcome in MEANING],
        "section": [(key, title) for key, (title, _) in SECTIONS.items()],
        "data": list(SOURCES.items()),
    }
    boxes = ""
    for name, choices in kinds.items():
        options = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in choices)
        boxes += (
            f'<label>{name.capitalize()} <select name="{name}"><option value="">all</option>{options}</select></label>'
        )
    search = '<label>Search <input type="search" name="text" placeholder="words of a claim"></label>'
    every = f'<label class="every"><input type="checkbox" name="every"> show all {len(judged)}</label>'
    status = f'<output role="status">{len(judged)} of {len(judged)} claims</output>'
    return HTML(f'<form class="ledger-filter" hidden>{search}{boxes}{every}{status}</form>')


def rows(judged: Judged, paper: PublishedNumbers, section: str = "") -> HTML:
    """The claims of a section that are not among the first, or without a section those that are."""
    chosen = [(c, v) for c, v in judged if (c.section == section and not c.first if section else c.first)]
    return HTML(f'<div class="ledger">{"".join(_row(c, v, paper) for c, v in chosen)}</div>')


def _row(claim: Claim, verdict: Verdict, paper: PublishedNumbers) -> str:
    findings, outcome = verdict.findings, verdict.outcome
    cases = [f.outcome for f in findings].count(outcome)
    of = f' <span class="cases">{cases} of {len(findings)} cases</span>' if len(findings) > 1 else ""
    title, page = SECTIONS[claim.section]
    tested = f"<p>{words(claim.tested)}</p>" if claim.tested else ""
    items = "".join(f"<li>{_finding(claim, finding)}</li>" for finding in findings)
    links = (
        f'<p>Figures: <a href="{page}.html">{title}</a>. Link to this claim: <a href="#{claim.id}">{claim.id}</a>.</p>'
    )
    return (
        f'<details class="claim" id="{claim.id}" data-verdict="{outcome.name.lower()}" data-section="{claim.section}" '
        f'data-data="{" ".join(sorted({f.data for f in findings}))}"><summary>'
        f'<span class="claim-verdict">{_chip(outcome)}{of}</span>'
        f'<span class="claim-text">{words(paper.fill(claim.sentence))} <small>{escape(claim.place)}</small></span>'
        f'<span class="claim-found">{words(verdict.deciding.text)}</span>{_plot(findings)}</summary>'
        f'<div class="claim-evidence">{tested}<ul>{items}</ul>{_repeat(findings)}{links}</div></details>'
    )


def _finding(claim: Claim, f: Finding) -> str:
    """One test: outcome, what was measured, on what, how."""
    parts = [f.detail, f.procedure]
    if f.subject:
        own = place_text(*f.subject)
        parts.insert(0, own if claim.about in (None, f.subject) else f"{own} for {place_text(*claim.about)}")
    between = " against " if "; against " in f.procedure else ", "
    entries = between.join(f"<code>{escape(name)}</code>" for name in f.entries[:2])
    more = f" and {len(f.entries) - 2} more" if len(f.entries) > 2 else ""
    circular = f" <strong>An input returned:</strong> {words(f.circular)}." if f.circular else ""
    badge = f'<span class="badge-{f.data.lower()}">{SOURCES[f.data]}</span>'
    text = "; ".join(words(part) for part in parts if part)
    return f"{_chip(f.outcome)} {words(f.text)}.{circular}<br><small>{badge} {text} {entries}{more}</small>"


def _repeat(findings: Iterable[Finding]) -> str:
    """The command that makes the runs behind a claim again, and their names."""
    keys: dict[str, list[str]] = {}
    for f in findings:
        keys.setdefault(f.plan, []).extend(f.keys)
    return "".join(
        f"<p>Repeat: <code>cgatlib sweep data/plans/{plan}.yaml --data TABLES</code></p>"
        f"<details><summary>Runs in <code>data/runs/{plan}</code></summary>{', '.join(dict.fromkeys(found))}</details>"
        for plan, found in keys.items()
        if plan
    )


def _plot(findings: Sequence[Finding]) -> str:
    """Intervals of the findings below each other; the side on which the claim sees the effect is shaded."""
    drawn = [(f.effect, f) for f in findings if f.effect]
    if not drawn:
        return '<span class="claim-plot"></span>'
    first, height = drawn[0][0], ROW * len(drawn)
    parts = [(e.estimate.low, e.estimate.value, e.estimate.high, e.stated.value if e.stated else 0.0) for e, _ in drawn]
    limit = max((abs(x) for some in parts for x in some if math.isfinite(x)), default=1.0) or 1.0
    limit = min(limit, SHOWN) if first.axis == "share" else limit
    marks = "".join(_interval(e, f.outcome, limit, ROW * (i + 0.5)) for i, (e, f) in enumerate(drawn))
    sides = {"above": 'x="80" width="80"', "below": 'x="0" width="80"', "equal": 'x="78" width="4"'}
    ends = "".join(
        f'<text x="{x}" y="{height + 11}" text-anchor="{anchor}">{_tick(value, first.axis)}</text>'
        for x, anchor, value in ((0, "start", -limit), (80, "middle", 0.0), (160, "end", limit))
    )
    label = escape("; ".join(f.text for _, f in drawn))
    return (
        f'<span class="claim-plot"><svg viewBox="0 0 160 {height + 14}" role="img" aria-label="{label}">'
        f'<rect class="side" y="0" height="{height}" {sides[first.side]}/>'
        f'<path class="zero" d="M80 0V{height}"/>{marks}{ends}</svg></span>'
    )


def _interval(effect: Effect, outcome: Outcome, limit: float, y: float) -> str:
    e = effect.estimate
    low, value, high = (80 + 80 * max(-1.0, min(1.0, x / limit)) for x in (e.low, e.value, e.high))
    stated = ""
    if effect.stated and abs(effect.stated.value) <= limit:
        x = 80 + 80 * effect.stated.value / limit
        stated = f'<path class="stated" d="M{x:.1f} {y - 4}l3.5 4l-3.5 4l-3.5 -4z"/>'
    marks = f'<path d="M{low:.1f} {y}H{high:.1f}"/><circle cx="{value:.1f}" cy="{y}" r="2.6"/>'
    return f'<g class="{outcome.name.lower()}">{stated}{marks}</g>'


def _tick(value: float, axis: Axis) -> str:
    if axis == "ratio":
        return f"×{math.exp(value):.2g}"
    if value == 0:
        return "0"
    return words(f"{value:+.{0 if abs(value) >= 0.1 else 1}%}" if axis == "share" else f"{value:+.2g}")


def _chip(outcome: Outcome) -> str:
    return f'<span class="chip {outcome.name.lower()}">{outcome}</span>'
