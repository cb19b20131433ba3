"""Variants of the network side by side: what each costs, and what it does to errors and to their noise."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

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

NOISE_BOUNDS = {"0.002 Å": 0.03, "0.02 Å": 0.15, "three digits": 0.03}
"""Share of the test MAE by which predictions may change, by how the description of a crystal changes."""


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


def noise_rows(path: Path) -> pd.DataFrame:
    """What ``benchmarks/noise.py`` measured: [rule, label, seed, mae, a share of it for each move, ms a step]."""
    rows = json.loads(path.read_text())["rows"]
    return pd.DataFrame(
        {
            **{name: row[name] for name in ("rule", "label", "seed")},
            "mae": row["test_mae"],
            **row["change"],
            "ms": row["milliseconds_per_step"],
        }
        for row in rows
    )


def noise_table(moves: pd.DataFrame, released: Path) -> pd.DataFrame:
    """How far predictions move, in % of the MAE, texts: a row for each property and rule, the released model last.

    Args:
        moves: of `noise_rows`, over whose seeds the mean is taken.
        released: what ``benchmarks/noise.py --model`` measured.
    """
    short = (
        moves.drop(columns="seed")
        .groupby(["label", "rule"], sort=False)
        .mean()
        .sort_index(level="label", sort_remaining=False)
        .reset_index()
    )
    content = json.loads(released.read_text())
    found = [{"label": r["label"], "mae": r["test_mae"], **r["change"]} for r in content["rows"]]
    rows = {}
    for row in [*short.to_dict("records"), *({"rule": f"released model {content['model']}", **r} for r in found)]:
        q = QUANTITIES[row["label"]]
        rows[f"{q.title} / {q.error_unit}: {row['rule']}"] = {
            "MAE": f"{row['mae'] * q.error_factor:.{q.error_digits}f}",
            **{name: f"{100 * row[name]:.1f}" for name in content["rows"][0]["change"]},
            "ms a step": f"{row['ms']:.0f}" if "ms" in row else None,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def noise_sentence(released: Path) -> str:
    """The bounds, and which of them the released model keeps; its argument is that of `noise_table`."""
    content = json.loads(released.read_text())
    found = [
        (QUANTITIES[row["label"]].title, move, share)
        for row in content["rows"]
        for move, share in row["change"].items()
    ]
    missed = [f"{title}, {move} ({100 * share:.1f} %)" for title, move, share in found if share > NOISE_BOUNDS[move]]
    bounds = ", ".join(f"{move} {100 * bound:.0f} %" for move, bound in NOISE_BOUNDS.items())
    kept = f"Bounds were set before ({bounds} of the test MAE): the released model {content['model']} keeps "
    kept += f"{len(found) - len(missed)} of {len(found)}"
    return f"{kept} and misses {'; '.join(missed)}." if missed else f"{kept}."
