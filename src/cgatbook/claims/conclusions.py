"""What the paper claims of its network, and what it concludes."""

from pathlib import Path

from cgatbook.answers import TARGETS, UNLIKE
from cgatbook.claims.evidence import Evidence
from cgatbook.claims.paper import table_order
from cgatbook.claims.verdict import Finding, Outcome, Verdict, claim, impossible
from cgatbook.stored import training_of
from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import pack

CUBIC = 200  # crystals of the demo whose graphs are compared
STRAIN = 0.03


@claim("network", "Section IV.B")
def graph(e: Evidence) -> Verdict:
    """The input does not change with the volume of a cubic crystal, because edges carry ranks and not lengths."""
    equal, number = unchanged_graphs(e.crystals)
    text = f"{equal} of {number} graphs unchanged when all lengths grow by {STRAIN:.0%}"
    outcome = Outcome.HOLDS if equal == number else Outcome.FAILS
    circular = "edges carry ranks, which know no length"
    return Verdict.of([Finding(outcome, text, "none", "cubic demo crystals", circular=circular)])


def unchanged_graphs(path: Path) -> tuple[int, int]:
    """How many cubic crystals of a table keep their graph when they are expanded, and how many were tried."""
    table = CrystalTable.read(path)
    labels = table.table["prototype"].to_pylist()  # AFLOW: stoichiometry, Pearson symbol, space group, sites
    cubic = [row for row, label in enumerate(labels) if label.split("_")[1].startswith("c")]
    chosen = set(cubic[:: len(cubic) // CUBIC][:CUBIC])
    cells = [(c.lattice, c.numbers, c.frac_coords) for row, c in enumerate(table) if row in chosen]
    wide = [(lattice * (1 + STRAIN), numbers, coords) for lattice, numbers, coords in cells]
    graphs = ([pack([cell], GraphConfig())[0] for cell in some] for some in (cells, wide))
    same = [
        g.nodes.tolist() == h.nodes.tolist() and g.edges.tolist() == h.edges.tolist()
        for g, h in zip(*graphs, strict=True)
    ]
    return sum(same), len(cells)


@claim("network", "Section IV.B, Eqs. 1a to 2d")
def equations(e: Evidence) -> Verdict:
    """The equations describe the network.

    Tested is whether the printed form errs as the released code does; a difference of either sign counts against it.
    """
    return Verdict.of(e.variant("printed"))


@claim("network", "Section IV.B, Eq. 1b")
def receiver(e: Evidence) -> Verdict:
    """An atom sums over the neighbours that it lists.

    The released code sums over the atoms that list it.
    """
    return Verdict.of(e.variant("centre"))


@claim("network", "Section IV.B, Eqs. 2a to 2d")
def edges(e: Evidence) -> Verdict:
    """Edges are updated with attention.

    The released code updates them from themselves alone.
    """
    return Verdict.of(e.variant("attention"))


@claim("network", "Section IV.B")
def width(e: Evidence) -> Verdict:
    """Edges are four times as wide as atoms.

    In the released code they are as wide as atoms.
    """
    return Verdict.of(e.variant("wide"))


@claim("network", "Section IV.B")
def hypernetwork(e: Evidence) -> Verdict:
    """The hypernetwork reads the difference of an embedding and the one before.

    In the released code it reads a mixture of the initial embedding and the message.
    """
    return Verdict.of(e.variant("difference"))


@claim("network", "Section IV.B")
def neighbours(e: Evidence) -> Verdict:
    """An atom lists a fixed number of neighbours, as in the released code, which cuts the last shell.

    Tested against whole shells.
    """
    return Verdict.of(e.variant("whole_shells"))


@claim("network", "Section IV.B")
def attention(e: Evidence) -> Verdict:
    """The attention is a vector, one number for each channel."""
    if any("vector_attention" in entry.network for entry in e.variants.plan.entries.values()):
        raise CgatError("vector_attention is said to be absent, but the plan of variants has it")
    return Verdict.of([impossible("No run uses an attention with one number for all channels.")])


@claim("conclusions", "Section III", ("e_above_hull", "SCAN"), first=True)
def lower(e: Evidence) -> Verdict:
    """The final error after transfer is significantly lower than from scratch.

    Tested with runs that went on until they stopped improving; where there are none, with as many steps on the target
    as pre-training and transfer have together.
    """
    pairs = [(f"{target}-full", f"{target}-none") for target in TARGETS]
    long = [p for p in pairs if e.dft.has(*p) and training_of(e.dft.of(*p).runs(p[0])[0]) == "long"]
    return Verdict.of(*(e.better(*pair) for pair in long or [("volume-pbesol-full-long", "volume-pbesol-none-long")]))


@claim("conclusions", "Section III")
def consistency(e: Evidence) -> Verdict:
    """The improvement is consistent for different functionals and similar properties."""
    ours = [e.better(f"{target}-full", f"{target}-none") for target in ("volume-pbesol", "volume-r2scan", "gap-hse")]
    return Verdict.of(table_order(e.paper, ["full"], "none"), *ours)


@claim("conclusions", "Section III", first=True)
def similar(e: Evidence) -> Verdict:
    """Transfer helps only between physically similar properties; otherwise it may paralyse the network."""
    new_heads = (e.worse(f"{pair}-new_head", none) for pair, none in UNLIKE.items())
    return Verdict.of(e.worse("e_form-gap-full", "gap-none"), *new_heads)


@claim("conclusions", "Section III")
def fields(e: Evidence) -> Verdict:
    """Transfer should also work for universal force fields."""
    return Verdict.of(e.absent("The tables hold relaxed structures without forces.", "forces"))
