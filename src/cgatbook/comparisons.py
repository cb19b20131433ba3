"""Errors of several seeds and sizes, in the unit and digits in which they are shown."""

import pandas as pd

from cgatlib import CgatError
from cgatlib.figures.style import QUANTITIES


def number(values: pd.Series, label: str) -> str:
    """Mean and standard deviation over seeds of errors in the label's unit, as the paper's unit and digits."""
    q = QUANTITIES[label]
    mean = f"{values.mean() * q.error_factor:.{q.error_digits}f}"
    return f"{mean} ± {values.std(ddof=1) * q.error_factor:.{q.error_digits}f}" if len(values) > 1 else mean


def in_units(results: pd.DataFrame, label: str, column: str = "test_mae") -> pd.DataFrame:
    """Results of one label in the unit that errors are shown in (meV/atom, Å³/atom).

    Args:
        results: `StoredResults.table`. label: property. column: the error, ``"test_mae"`` or ``"validation_mae"``.

    Returns:
        The rows with the error as ``mae``, and with ``errors``, series (T,) on the test crystals, of the test error.

    Raises:
        CgatError: two runs of a functional were tested on different crystals.
    """
    rows, factor = results[results["label"] == label], QUANTITIES[label].error_factor
    found = rows.drop(columns="errors", errors="ignore").assign(mae=rows[column] * factor)
    if "errors" not in rows or column != "test_mae":
        return found
    for functional, group in rows.groupby("functional"):
        first = group.iloc[0]
        for key, errors in zip(group["key"], group["errors"], strict=True):
            if not errors.index.equals(first["errors"].index):
                raise CgatError(f"run {key} was tested on other {functional} crystals than run {first['key']}")
    return found.assign(errors=[errors * factor for errors in rows["errors"]])
