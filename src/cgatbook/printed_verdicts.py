"""Verdicts on claims that can be checked with the paper's own numbers, within the rounding they are printed with."""

from collections.abc import Sequence

from scipy import constants

from cgatbook.published import Printed
from cgatbook.reconstruction import published_lines
from cgatbook.verdicts import Evidence, Outcome, Verdict
from cgatlib import CgatError
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES, short_count

PRINTED = "printed numbers"
LINES = "lines through the printed numbers"
_LABELS = ("e_above_hull", "e_form")
_FUNCTIONALS = ("SCAN", "PBEsol")


def _verdict(consistent: bool, text: str, data: str = PRINTED) -> Verdict:
    return Verdict(Outcome.CONSISTENT if consistent else Outcome.INCONSISTENT, text, data)


def quotient(
    evidence: Evidence,
    over: str | Sequence[str],
    under: str,
    states: str | None = None,
    lowest: str | None = None,
    highest: str | None = None,
) -> Verdict:
    """Whether printed numbers have the ratio that the paper states, or one within bounds.

    Args:
        over, under: names of printed numbers, or numbers; of several over, all must fit. states: the ratio.
        lowest, highest: its bounds.
    """
    published = evidence.published
    names = [over] if isinstance(over, str) else over
    if (states is None) == (lowest is None and highest is None):
        raise CgatError("a quotient needs either the ratio that is stated or a bound")
    low, high = -float("inf"), float("inf")
    if states is not None:
        low, high = published[states].low, published[states].high
    low, high = (
        (low if lowest is None else published[lowest].value),
        (high if highest is None else published[highest].value),
    )
    parts, fits = [], []
    for name in names:
        ratio = published[name].over(published[under])
        fits.append(ratio.low <= high + 1e-12 and low <= ratio.high + 1e-12)
        parts.append(f"{ratio.text} = {ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]")
    limits = {"stated": states, "at least": lowest, "at most": highest}
    limit = ", ".join(f"{word} {published[name].text}" for word, name in limits.items() if name is not None)
    return _verdict(all(fits), f"{'; '.join(parts)}; {limit}")


def printed_gains(evidence: Evidence) -> Verdict:
    """Whether the percentages of Table 1 follow from its errors."""
    published, wrong, number = evidence.published, [], 0
    for row in published.table1[published.table1["gain_percent"] != ""].to_dict("records"):
        place = f"table1/{row['label']}/{row['functional']}"
        own, none, gain = (published[f"{place}/{end}"] for end in (row["mode"], "none", f"{row['mode']}/gain"))
        number += 1
        ratio = own.over(none)
        if not (1 - ratio.high <= gain.high and gain.low <= 1 - ratio.low):
            wrong.append(_row_text(row["label"], row["functional"]))
    text = f"{number - len(wrong)} of {number} follow within rounding (with the gap misprint corrected)"
    return _verdict(not wrong, text)


def table_order(evidence: Evidence, lower: Sequence[str], higher: str, labels: Sequence[str] = ()) -> Verdict:
    """Whether errors of Table 1 stand in one order in every row.

    Args:
        lower: modes whose errors are smaller; ``"PBE"`` is the network on its own PBE test set. higher: the other mode.
        labels: rows to look at; all by default.
    """
    published, wrong, number = evidence.published, [], 0
    rows = published.table1[(published.table1["functional"] != "PBE") & (published.table1["mode"] == "none")]
    for label, functional in rows[["label", "functional"]].itertuples(index=False):
        if labels and label not in labels:
            continue
        for mode in lower:
            small = published[f"table1/{label}/{'PBE/none' if mode == 'PBE' else f'{functional}/{mode}'}"]
            large = published[f"table1/{label}/{functional}/{higher}"]
            number += 1
            if small.low >= large.high:
                name = "PBE" if mode == "PBE" else MODES[mode].name
                wrong.append(f"{_row_text(label, functional)}: {name} {small.text}, {MODES[higher].name} {large.text}")
    return _verdict(
        not wrong, f"{number - len(wrong)} of {number} cases of Table 1" + "".join(f"; not {w}" for w in wrong)
    )


def _row_text(label: str, functional: str) -> str:
    return f"{QUANTITIES[label].text} {FUNCTIONAL_NAMES[functional]}"


def accuracy_at(evidence: Evidence, size: str, accuracy: str) -> Verdict:
    """Whether the lines with transfer are below an error at a training size, and those without transfer above it."""
    published = evidence.published
    n, bound = published[size], published[accuracy]
    parts, fits = [], []
    for label in _LABELS:
        for functional in _FUNCTIONALS:
            none, full = published_lines(published, label, functional)
            reached, needed = float(full.predict(n.value)), none.invert(bound.value)
            fits.append(reached < bound.value and needed > n.value)
            parts.append(
                f"{_row_text(label, functional)} {reached:.0f} with, at {short_count(needed)} without transfer"
            )
    return _verdict(all(fits), f"at {n.text} crystals / meV/atom: {'; '.join(parts)}; {bound.text} needed", LINES)


def budget(evidence: Evidence, sizes: Sequence[str], pays: str) -> Verdict:
    """Which calculation pays more at set sizes (pre-training, training), given the ratio at which both pay equally.

    On two power laws the gain per cost of a calculation of the target, relative to one of the pre-training set, is the
    ratio of the sizes divided by the one at which both pay equally.
    """
    published = evidence.published
    n_pretrain, n_train = (published[name] for name in sizes)
    advantage = n_pretrain.value / n_train.value / published["numbers/balanced_ratio"].value
    found = "training" if advantage > 1 else "pre-training"
    text = f"{n_pretrain.text} and {n_train.text}: SCAN reduces the error {advantage:.2g} times as much per cost as PBE"
    return _verdict(found == pays, text)


def surplus(evidence: Evidence, over: str, under: str, states: Sequence[str]) -> Verdict:
    """Whether a printed gain is larger than another by a percentage between those that the paper states."""
    a, b = evidence.published[over], evidence.published[under]
    low, high = a.over(b).low - 1, a.over(b).high - 1
    stated: list[Printed] = [evidence.published[name] for name in states]
    fits = low <= max(s.high for s in stated) and min(s.low for s in stated) <= high
    range_text = " to ".join(s.text for s in stated)
    more = f"{a.text} is larger than {b.text} by {a.value / b.value - 1:.0%} [{low:.0%}, {high:.0%}]"
    return _verdict(fits, f"{more}; stated {range_text}; {b.text} is {b.value / a.value:.0%} of {a.text}")


def most_frequent(evidence: Evidence, counted: str, first: Sequence[str], absent: Sequence[str] = ()) -> Verdict:
    """Whether these elements lead Fig. 9 in this order, and others are not in it."""
    counts = evidence.published.elements[counted].dropna().nlargest(len(first))
    everywhere = set(evidence.published.elements[counted].dropna().index)
    text = ", ".join(f"{symbol} {count:,.0f}" for symbol, count in counts.items())
    lacking = f"; none of {', '.join(absent)}" if absent and not everywhere & set(absent) else ""
    return _verdict(counts.index.tolist() == list(first) and not everywhere & set(absent), text + lacking)


def printed_share(evidence: Evidence, element: str, expected: str) -> Verdict:
    """Whether an element is in a ``"larger"`` or a ``"smaller"`` share of the PBEsol/SCAN set than of the PBE set."""
    published = evidence.published
    totals = {"pbe": "numbers/pretraining_set", "pbesol_scan": "numbers/high_fidelity_set"}
    shares = {
        name: published[f"elements/{name}/{element}"].value / published[total].value for name, total in totals.items()
    }
    text = f"{element} in {shares['pbe']:.1%} of PBE, {shares['pbesol_scan']:.1%} of PBEsol/SCAN"
    return _verdict((shares["pbesol_scan"] > shares["pbe"]) == (expected == "larger"), text)


def kilocalorie(evidence: Evidence, states: str) -> Verdict:
    """Whether the paper's chemical accuracy is 1 kcal/mol, in meV."""
    value = 1e6 * constants.calorie / constants.N_A / constants.e
    stated = evidence.published[states]
    text = f"1 kcal/mol = {value:.1f} meV; stated {stated.text}"
    return _verdict(stated.low <= value <= stated.high, text, "constants of CODATA")
