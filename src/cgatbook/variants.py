"""Variants of the network side by side: what each costs, and what it does to errors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from torch.utils.flop_counter import FlopCounterMode

from cgatbook.comparisons import number
from cgatlib.evaluation.comparison import compare
from cgatlib.figures.style import QUANTITIES
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, pack
from cgatlib.model.cgat import CGAT, ModelConfig
from cgatlib.runs.experiment import Run
from cgatlib.runs.schedule import one_thread


def cost(model: ModelConfig, graph: GraphConfig, cells: Sequence[Cell]) -> dict[str, float]:
    """Size and arithmetic of a network on some crystals.

    Args:
        model, graph: configurations. cells: crystals; each has a graph.

    Returns:
        ``parameters``; ``edges`` per atom; ``gflop``, 10⁹ floating-point operations of the matrix products of one
        training step per atom of the crystals.
    """
    graphs, _ = pack(cells, graph)
    listed, _ = pack(cells, replace(graph, quotient=False))
    network, batch = CGAT(model), graphs.batch(np.arange(len(graphs)))
    with one_thread(), FlopCounterMode(display=False) as counter:
        network(batch)[:, 0].sum().backward()
    atoms = sum(len(numbers) for _, numbers, _ in cells)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "edges": int(listed.edge_ptr[-1]) / atoms,
        "gflop": counter.get_total_flops() / atoms / 1e9,
    }


def error_change(runs: Sequence[Run], reference: Sequence[Run]) -> dict[str, float]:
    """Relative change of the test MAE against `reference`, runs of a seed being paired, with its 95 % interval."""
    first, second = ([run.errors for run in sorted(some, key=_seed)] for some in (runs, reference))
    ratio = compare(first, second).ratio
    return {"mean": ratio.value - 1, "low": ratio.low - 1, "high": ratio.high - 1}


def _seed(run: Run) -> int:
    return run.experiment.seed


def variant_table(
    variants: Mapping[str, Sequence[Run]], costs: Mapping[str, Mapping[str, float]], text: Mapping[str, str]
) -> pd.DataFrame:
    """What each variant costs and changes.

    Args:
        variants: name -> runs of several seeds; the first is what the others are compared with.
        costs: name -> `cost`. text: name -> what differs, for people.

    Returns:
        Texts, one row per variant.
    """
    reference = next(iter(variants.values()))
    rows = {}
    for name, runs in variants.items():
        label = runs[0].experiment.label
        change = error_change(runs, reference)
        rows[text[name]] = {
            "parameters": f"{costs[name]['parameters'] / 1e6:.1f} M",
            "edges per atom": f"{costs[name]['edges']:.0f}",
            "GFLOP per atom": f"{costs[name]['gflop']:.2g}",
            f"test MAE / {QUANTITIES[label].error_unit}": number(
                pd.Series([run.metrics["test_mae"] for run in runs]), label
            ),
            "change": "–" if runs is reference else change_text(change),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def change_text(change: Mapping[str, float]) -> str:
    """A relative change with its interval."""
    return f"{change['mean']:+.1%} [{change['low']:+.1%}, {change['high']:+.1%}]"
