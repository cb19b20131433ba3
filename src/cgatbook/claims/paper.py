"""Evidence on the paper's claims from its own printed numbers, within the rounding they are printed with."""

import math
from collections.abc import Sequence

from cgatbook.claims.verdict import Finding, Outcome
from cgatbook.published import Printed, PublishedNumbers
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES


def consistent(fits: bool, text: str, detail: str = "", circular: str = "") -> list[Finding]:
    """Whether printed numbers fit a claim."""
    outcome = Outcome.CONSISTENT if fits else Outcome.INCONSISTENT
    return [Finding(outcome, text, "paper", detail or "printed numbers", circular=circular)]


def quotient(
    paper: PublishedNumbers, over: Sequence[str], under: str, stated: str = "", low: float = 0.0, high: float = math.inf
) -> list[Finding]:
    """Whether some printed numbers, divided by another, have the ratio that is stated, or lie within bounds."""
    ratios = [paper[name].over(paper[under]) for name in over]
    limit = f"at least {low:g}" if low else f"at most {high:g}"
    if stated:
        low, high, limit = Printed.of(stated).low, Printed.of(stated).high, f"stated {stated}"
    fits = all(ratio.low <= high + 1e-12 and low <= ratio.high + 1e-12 for ratio in ratios)
    parts = [f"{r.text} = {r.value:.3g} [{r.low:.3g}, {r.high:.3g}]" for r in ratios]
    return consistent(fits, "; ".join([*parts, limit]))


def table_order(
    paper: PublishedNumbers, lower: Sequence[str], higher: str, labels: Sequence[str] = tuple(QUANTITIES)
) -> list[Finding]:
    """Whether errors of Table 1 stand in one order in every row.

    Args:
        lower: modes whose errors are smaller; ``"PBE"`` is the network on its own PBE test set. higher: the other mode.
        labels: rows to look at.
    """
    wrong, number = [], 0
    rows = paper.table1[(paper.table1["functional"] != "PBE") & (paper.table1["mode"] == "none")]
    for label, functional in rows.loc[rows["label"].isin(labels), ["label", "functional"]].itertuples(index=False):
        for mode in lower:
            small = paper[f"table1/{label}/{'PBE/none' if mode == 'PBE' else f'{functional}/{mode}'}"]
            large = paper[f"table1/{label}/{functional}/{higher}"]
            number += 1
            if small.low >= large.high:
                names = "PBE" if mode == "PBE" else MODES[mode].name, MODES[higher].name
                wrong.append(f"{place_text(label, functional)}: {names[0]} {small.text}, {names[1]} {large.text}")
    return consistent(not wrong, "; not ".join([f"{number - len(wrong)} of {number} cases of Table 1", *wrong]))


def place_text(label: str, functional: str) -> str:
    """Label and functional in words."""
    return f"{QUANTITIES[label].text} {FUNCTIONAL_NAMES[functional]}"


def rarer(paper: PublishedNumbers, element: str) -> tuple[bool, str]:
    """Whether an element is in a smaller share of the PBEsol and SCAN set than of the PBE set, and both shares."""
    totals = {"pbe": "numbers/pretraining_set", "pbesol_scan": "numbers/high_fidelity_set"}
    pbe, other = (paper[f"elements/{name}/{element}"].value / paper[total].value for name, total in totals.items())
    return other < pbe, f"{element} in {pbe:.1%} of PBE, {other:.1%} of PBEsol/SCAN"


def budget(paper: PublishedNumbers, n_pretrain: Printed, n_train: Printed, pays: str) -> list[Finding]:
    """Which calculation pays more at set sizes, ``"training"`` or ``"pre-training"``.

    On two power laws the gain per cost of a calculation of the target, relative to one of the pre-training set, is the
    ratio of the sizes divided by the one at which both pay equally.
    """
    even = paper["numbers/balanced_ratio"]
    gain = n_pretrain.value / n_train.value / even.value
    text = f"{n_pretrain.text} and {n_train.text}: SCAN reduces the error {gain:.2g} times as much per cost as PBE"
    circular = f"follows from the paper's own balance at {even.text} pre-training crystals per training crystal"
    return consistent((gain > 1) == (pays == "training"), text, circular=circular)
