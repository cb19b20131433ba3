"""Variants of the network side by side: what each costs, and what it does to errors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from torch.utils.flop_counter import FlopCounterMode

from cgatbook.answers import text_of
from cgatbook.stored import StoredResults
from cgatlib.evaluation.comparison import Comparison
from cgatlib.figures.style import QUANTITIES
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, pack
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import ModelConfig
from cgatlib.runs.schedule import one_thread


def cost(model: ModelConfig, graph: GraphConfig, cells: Sequence[Cell]) -> dict[str, float]:
    """Size and arithmetic of a network on some crystals.

    ``parameters``; ``edges`` per atom; ``gflop``, 10⁹ floating-point operations of the matrix products of one training
    step per atom of the crystals.
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


def variant_table(
    results: StoredResults, costs: Mapping[str, Mapping[str, float]], text: Mapping[str, str]
) -> pd.DataFrame:
    """What each variant costs and changes, texts, one row per variant.

    Args:
        results: whose entries are the variants. costs: `cost` by entry, first what the others are compared with.
        text: what differs, by entry.
    """
    first, rows = next(iter(costs)), {}
    for name, spent in costs.items():
        q = QUANTITIES[results.runs(name)[0].experiment.label]
        rows[text[name]] = {
            "parameters": f"{spent['parameters'] / 1e6:.1f} M",
            "edges per atom": f"{spent['edges']:.0f}",
            "GFLOP per atom": f"{spent['gflop']:.2g}",
            f"test MAE / {q.error_unit}": text_of(results.mae(name), q),
            "change": "–" if name == first else change_text(results.comparison(name, first)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def change_text(found: Comparison) -> str:
    """The relative change of an error with its interval."""
    return found.ratio.text(lambda ratio: f"{ratio - 1:+.1%}")
