"""Rules for neighbour lists side by side: test error, and how far predictions move with a crystal's description."""

import json
from pathlib import Path

import pandas as pd

from cgatlib import CgatError
from cgatlib.book.comparisons import number
from cgatlib.evaluation.noise import MOVES
from cgatlib.figures.style import QUANTITIES


def read_rules(path: Path) -> pd.DataFrame:
    """What ``python -m benchmarks.noise`` measured: a row for each rule, property and seed.

    Returns:
        [rule, label, seed, test_mae, edges, nodes, one column a change of `MOVES`]; changes are shares of the test
        MAE. ``attrs`` has what was measured on: ``table``, ``steps``, ``moved`` and the ``machine``.

    Raises:
        CgatError: the file is not there or not such a file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        rows = pd.DataFrame([{**row, **row.pop("change")} for row in content["rows"]])
        rows.attrs = {name: content[name] for name in ("table", "steps", "moved")}
        rows.attrs["machine"] = content["provenance"]["machine"]["processor"]
        return rows[["rule", "label", "seed", "test_mae", "edges", "nodes", *MOVES]]
    except FileNotFoundError as error:
        raise CgatError(f"{path} does not exist; python -m benchmarks.noise writes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CgatError(f"{path} is not what python -m benchmarks.noise writes: {error}") from error


def rule_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Texts, one row a rule: for each property the test MAE and the mean changes, in percent of it.

    Args:
        rows: of `read_rules`.
    """
    found: dict[str, dict[str, str]] = {}
    for (rule, label), some in rows.groupby(["rule", "label"], sort=False):
        q = QUANTITIES[label]
        cells = found.setdefault(rule, {})
        cells[f"{q.text}: test MAE / {q.error_unit}"] = number(some["test_mae"], label)
        cells[f"{q.text}: moves by / %"] = " · ".join(f"{100 * some[move].mean():.1f}" for move in MOVES)
        cells["edges / node"] = f"{(some['edges'] / some['nodes']).mean():.1f}"
    table = pd.DataFrame.from_dict(found, orient="index")
    return table[[*table.columns.drop("edges / node"), "edges / node"]]
