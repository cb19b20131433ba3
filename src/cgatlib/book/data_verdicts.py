"""Verdicts on claims about crystals, their labels and their graphs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cgatlib import CgatError
from cgatlib.book.printed import Printed
from cgatlib.book.stored import MissingRunsError
from cgatlib.book.verdicts import Evidence, Outcome, Verdict, beside, decide, share_text
from cgatlib.composition import element_amounts
from cgatlib.crystals import CrystalTable
from cgatlib.evaluation.metrics import GAP_THRESHOLD
from cgatlib.figures.style import FUNCTIONAL_NAMES
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, PackedGraphs, pack
from cgatlib.scaling import Estimate

_RESAMPLES = 2000


def labels_shift(
    evidence: Evidence,
    first: str,
    second: str,
    label: str,
    expected: str = "larger",
    stated: Sequence[str] = (),
    metals: bool = False,
) -> Verdict:
    """Whether a label is larger at one functional than at another, for the same crystals.

    Args:
        first, second: tables of the plan. label: of both. expected: of the first, ``"larger"`` or ``"smaller"``.
        stated: the paper's two numbers. metals: compare the shares of metals instead of the means of the labels.

    Raises:
        CgatError: the plan has no such table, or something else is expected.
        MissingRunsError: the archive has no test labels of one of them.
    """
    pairs = _paired(evidence, first, second, label)
    if metals:
        pairs = pairs.assign(**{c: (pairs[c] < GAP_THRESHOLD).astype(float) for c in ("first", "second")})
    if expected not in ("larger", "smaller"):
        raise CgatError(f"a label cannot be expected {expected!r}; known: larger, smaller")
    excess = _ratio_of_means(pairs)
    outcome = decide(excess, "better" if expected == "larger" else "worse")
    a, b = (FUNCTIONAL_NAMES[evidence.real.plan.tables[name]["functional"]] for name in (first, second))
    what, style = ("share of metals", ".0%") if metals else ("mean", ".2f")
    means = [f"{pairs[c].mean():{style}}" for c in ("first", "second")]
    paper = _excess(*(evidence.published[name] for name in stated)) if stated else None
    text = f"{what} {means[0]} ({a}) and {means[1]} ({b}), difference {share_text(excess)}"
    data = f"DFT labels; {len(pairs):,} test crystals that have both"
    return Verdict(
        outcome, text + beside(excess, paper, outcome), data, (label, evidence.real.plan.tables[second]["functional"])
    )


def _excess(over: Printed, under: Printed) -> Printed:
    ratio = over.over(under)
    return Printed(ratio.value - 1, ratio.low - 1, ratio.high - 1, f"{ratio.value - 1:.0%}")


def _paired(evidence: Evidence, first: str, second: str, label: str) -> pd.DataFrame:
    columns = {}
    for place, name in (("first", first), ("second", second)):
        columns[place] = evidence.real.archive.targets(_table(evidence, name)["fingerprint"], label)
        if columns[place].empty:
            raise MissingRunsError(f"any entry with {label} of the table {name}")
    pairs = pd.concat(columns, axis=1, join="inner")
    return pairs.assign(formula=pairs.index.map(evidence.real.archive.formulas))


def _ratio_of_means(pairs: pd.DataFrame) -> Estimate:
    """Mean of the first over that of the second, minus 1; formulas are redrawn. Infinite where the second is 0."""
    sums = pairs.groupby("formula")[["first", "second"]].sum().to_numpy()
    if not sums.any():
        return Estimate(0.0, -math.inf, math.inf)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=_RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, drawn = (np.divide(some[..., 0], some[..., 1]) - 1 for some in (sums.sum(axis=0), weights @ sums))
    return Estimate.of(float(value), drawn[~np.isnan(drawn)])


def element_share(evidence: Evidence, element: str, first: str, second: str, expected: str) -> Verdict:
    """Whether an element is in a larger share of the crystals of one table than of another.

    The tables are whole, so that there is no interval.

    Args:
        element: symbol. first, second: tables of the plan. expected: of the second, ``"larger"`` or ``"smaller"``.
    """
    shares, sizes = [], []
    for name in (first, second):
        table = _table(evidence, name)
        _, formulas = evidence.real.archive.crystals(table["fingerprint"])
        shares.append(sum(element in element_amounts(formula) for formula in formulas) / len(formulas))
        sizes.append(f"{len(formulas):,} {FUNCTIONAL_NAMES[table['functional']]}")
    holds = (shares[1] > shares[0]) == (expected == "larger")
    text = f"{element} in {shares[0]:.1%} and {shares[1]:.1%}"
    return Verdict(Outcome.HOLDS if holds else Outcome.FAILS, text, f"all {' and '.join(sizes)} crystals of the tables")


def _table(evidence: Evidence, name: str) -> Mapping[str, Any]:
    if name not in evidence.real.plan.tables:
        raise CgatError(f"the plan has no table {name!r}")
    return evidence.real.plan.tables[name]


def same_graph(evidence: Evidence, crystals: int, strain: float) -> Verdict:
    """Whether cubic crystals and the same crystals uniformly expanded have one graph.

    Args:
        crystals: cubic ones of the demo table by their Pearson symbols, evenly spread. strain: of the lattice.
    """
    table = CrystalTable.read(evidence.crystals)
    labels = table.table["prototype"].to_pylist()  # AFLOW: stoichiometry, Pearson symbol, space group, sites
    cubic = [row for row, label in enumerate(labels) if label.split("_")[1].startswith("c")]
    chosen = set(cubic[:: max(1, len(cubic) // crystals)][:crystals])
    found = [crystal for row, crystal in enumerate(table) if row in chosen]
    cells: list[Cell] = [(c.lattice, c.numbers, c.frac_coords) for c in found]
    wide: list[Cell] = [(lattice * (1 + strain), numbers, coords) for lattice, numbers, coords in cells]
    plain, expanded = (pack(some, GraphConfig())[0] for some in (cells, wide))
    equal = sum(_equal(plain, expanded, i) for i in range(len(plain)))
    text = f"{equal} of {len(plain)} graphs unchanged when all lengths grow by {strain:.0%}"
    outcome = Outcome.HOLDS if equal == len(plain) == len(expanded) else Outcome.FAILS
    return Verdict(outcome, text, "cubic crystals of the demo set, no labels")


def _equal(first: PackedGraphs, second: PackedGraphs, i: int) -> bool:
    for ptr, name in (("node_ptr", "nodes"), ("edge_ptr", "edges")):
        parts = [getattr(g, name)[slice(*getattr(g, ptr)[i : i + 2])] for g in (first, second)]
        if not np.array_equal(*parts):
            return False
    return True
