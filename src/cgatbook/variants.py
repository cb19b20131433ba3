"""Variants of the network and rules for neighbour lists side by side: what each costs, and what it does to errors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch.utils.flop_counter import FlopCounterMode

from cgatbook.comparisons import number
from cgatlib import CgatError
from cgatlib.evaluation.comparison import compare
from cgatlib.evaluation.noise import MOVES
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


def read_rules(path: Path) -> pd.DataFrame:
    """What ``python -m benchmarks.noise`` measured: a row for each rule, property and seed.

    Returns:
        [rule, label, seed, test_mae, one column a change of `MOVES`]; changes are shares of the test MAE. ``attrs`` has
        what was measured on: ``table``, ``steps``, ``moved`` (test crystals) and the ``machine``.

    Raises:
        CgatError: the file is not there or not such a file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        rows = pd.DataFrame([{**row, **row.pop("change")} for row in content["rows"]])
        rows.attrs = {name: content[name] for name in ("table", "steps", "moved")}
        rows.attrs["machine"] = content["provenance"]["machine"]["processor"]
        return rows[["rule", "label", "seed", "test_mae", *MOVES]]
    except FileNotFoundError as error:
        raise CgatError(f"{path} does not exist; python -m benchmarks.noise writes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CgatError(f"{path} is not what python -m benchmarks.noise writes: {error}") from error


def rule_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Texts, one row a rule: for each property the test MAE, and the mean changes in percent of it.

    Args:
        rows: of `read_rules`.
    """
    tables = []
    for label, some in rows.groupby("label", sort=False):
        q, by_rule = QUANTITIES[label], some.groupby("rule", sort=False)
        columns = {f"{q.title} MAE / {q.error_unit}": by_rule["test_mae"].apply(number, label)}
        columns |= {f"{move} / %": by_rule[move].mean().map(_percent) for move in MOVES}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, axis=1).rename_axis(None)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"
