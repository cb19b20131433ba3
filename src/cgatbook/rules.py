"""Rules for neighbour lists side by side: test error, and how far predictions move with a crystal's description."""

import json
from pathlib import Path

import pandas as pd

from cgatbook.comparisons import number
from cgatlib import CgatError
from cgatlib.evaluation.noise import MOVES
from cgatlib.figures.style import QUANTITIES


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
        columns = {f"{q.text} MAE / {q.error_unit}": by_rule["test_mae"].apply(number, label)}
        columns |= {f"{move} / %": by_rule[move].mean().map(_percent) for move in MOVES}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, axis=1).rename_axis(None)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"
