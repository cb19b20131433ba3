"""Verdicts on claims about crystals, their labels and their graphs."""

from collections.abc import Sequence

import numpy as np

from cgatbook.published import Printed
from cgatbook.verdicts import Evidence, Outcome, Verdict, beside, decide, share_text
from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.style import FUNCTIONAL_NAMES
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, PackedGraphs, pack


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
        CgatError: the plan has no such table, the second was not compared with the first, or something else is
            expected.
    """
    if expected not in ("larger", "smaller"):
        raise CgatError(f"a label cannot be expected {expected!r}; known: larger, smaller")
    tables = [evidence.real.summary(name) for name in (first, second)]
    part = tables[1].labels.get(label)
    found = part and (part.metals if metals else part.shift)
    if not found or tables[1].reference != tables[0].fingerprint:
        raise CgatError(f"the summary of the table {second} does not compare its {label} with that of {first}")
    excess = Estimate(*found.excess)
    outcome = decide(excess, "better" if expected == "larger" else "worse")
    a, b = (FUNCTIONAL_NAMES[table.functional] for table in tables)
    what, style = ("share of metals", ".0%") if metals else ("mean", ".2f")
    means = [f"{mean:{style}}" for mean in found.means]
    paper = _excess(*(evidence.published[name] for name in stated)) if stated else None
    text = f"{what} {means[0]} ({a}) and {means[1]} ({b}), difference {share_text(excess)}"
    data = f"DFT labels; {found.crystals:,} crystals that have both"
    return Verdict(outcome, text + beside(excess, paper, outcome), data, (label, tables[1].functional))


def _excess(over: Printed, under: Printed) -> Printed:
    ratio = over.over(under)
    return Printed(ratio.value - 1, ratio.low - 1, ratio.high - 1, f"{ratio.value - 1:.0%}")


def element_share(evidence: Evidence, element: str, first: str, second: str, expected: str) -> Verdict:
    """Whether an element is in a larger share of the crystals of one table than of another.

    The tables are whole, so that there is no interval.

    Args:
        element: symbol. first, second: tables of the plan. expected: of the second, ``"larger"`` or ``"smaller"``.
    """
    tables = [evidence.real.summary(name) for name in (first, second)]
    shares = [table.elements.get(element, 0) / len(table) for table in tables]
    sizes = [f"{len(table):,} {FUNCTIONAL_NAMES[table.functional]}" for table in tables]
    holds = (shares[1] > shares[0]) == (expected == "larger")
    text = f"{element} in {shares[0]:.1%} and {shares[1]:.1%}"
    return Verdict(Outcome.HOLDS if holds else Outcome.FAILS, text, f"all {' and '.join(sizes)} crystals of the tables")


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
