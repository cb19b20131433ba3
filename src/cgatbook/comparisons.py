"""Our numbers beside the paper's: Table 1, gains of transfer, and whether they point the same way."""

import math
from collections.abc import Mapping

import pandas as pd

from cgatlib import CgatError
from cgatlib.evaluation.comparison import compare
from cgatlib.figures.style import MODES, QUANTITIES


def gains(results: pd.DataFrame) -> pd.DataFrame:
    """Relative reduction of the test MAE by transfer, runs of a seed being paired.

    Args:
        results: `studies.results` with runs without and with transfer on the same training set.

    Returns:
        One row per functional, label, label of the source and mode: ``gain`` (1 - MAE / MAE without transfer),
        ``low`` and ``high`` (95 % interval; infinitely wide for a single seed) and ``seeds``.
    """
    place = ["functional", "label", "train_size", "seed"]
    scratch = results[results["mode"] == "none"].set_index(place)["errors"]
    rows = []
    moved = results[results["mode"] != "none"]
    groups = ["functional", "label", "source_label", "mode", "learning_rate"]
    for key, group in moved.groupby(groups, sort=False):
        own = group.set_index(place)["errors"]
        own = own[own.index.isin(scratch.index)]
        first, second = (
            [errors.rename("error").reset_index() for errors in some] for some in (own, scratch.loc[own.index])
        )
        gain = compare(first, second).reduction
        low, high = (gain.low, gain.high) if len(own) > 1 else (-math.inf, math.inf)
        rows.append(
            {**dict(zip(groups, key, strict=True)), "gain": gain.value, "low": low, "high": high, "seeds": len(own)}
        )
    return pd.DataFrame(rows)


def direction(low: float, high: float) -> str:
    """What an interval of a gain says: ``"better"``, ``"worse"`` or ``"undecided"`` when it contains zero."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "undecided"


def agreement(expected: str, found: str) -> str:
    """Whether the direction we `found` is the one the paper states."""
    if found == "undecided":
        return "undecided: the seeds scatter more than the effect"
    return "agrees" if found == expected else "does not agree"


def number(values: pd.Series, label: str) -> str:
    """Mean and standard deviation over seeds of errors in the label's unit, as the paper's unit and digits."""
    q = QUANTITIES[label]
    mean = f"{values.mean() * q.error_factor:.{q.error_digits}f}"
    return f"{mean} ± {values.std(ddof=1) * q.error_factor:.{q.error_digits}f}" if len(values) > 1 else mean


COLUMNS = ["pre-trained, own test set", *(MODES[mode].name for mode in ("none", "head", "full"))]


def table1(results: pd.DataFrame, published: pd.DataFrame, heading: str) -> tuple[pd.DataFrame, list[tuple[int, int]]]:
    """The paper's Table 1 with our rows.

    Args:
        results: `studies.results` of the pre-trained networks and of all procedures on whole training sets.
        published: ``table1.csv``.
        heading: what our numbers are called.

    Returns:
        Texts, one row per label, functional and origin, and the positions of the lowest error of each row.
    """
    rows: dict[str, dict[str, str]] = {}
    best: list[str] = []
    targets = list(dict.fromkeys(results.loc[results["mode"] != "none", "functional"]))
    for label in dict.fromkeys(results["label"]):
        what = f"{QUANTITIES[label].text} / {QUANTITIES[label].error_unit}"
        theirs = published[published["label"] == label]
        for functional in ("PBEsol", "SCAN"):
            if (theirs["functional"] == functional).any():
                rows[f"{what}, {functional}: published"], mode = _published_row(theirs, functional)
                best.append(mode)
        own = results[results["label"] == label]
        for functional in [name for name in targets if (own["functional"] == name).any()]:
            rows[f"{what}, {functional}: {heading}"], mode = _own_row(own, functional, targets, label)
            best.append(mode)
    frame = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=COLUMNS)
    return frame, [(i, COLUMNS.index(MODES[mode].name)) for i, mode in enumerate(best)]


def _own_row(own: pd.DataFrame, functional: str, targets: list[str], label: str) -> tuple[dict[str, str], str]:
    """Cells of one label and functional, and the mode with the lowest error."""
    runs = own[own["functional"] == functional]
    cells = {MODES[str(mode)].name: number(group["test_mae"], label) for mode, group in runs.groupby("mode")}
    for row in gains(runs).to_dict("records"):
        cells[MODES[row["mode"]].name] += f" ({row['gain']:.0%})"
    cells[COLUMNS[0]] = number(own.loc[~own["functional"].isin(targets), "test_mae"], label)
    return cells, str(runs.groupby("mode")["test_mae"].mean().idxmin())


def _published_row(theirs: pd.DataFrame, functional: str) -> tuple[dict[str, str], str]:
    runs = theirs[theirs["functional"] == functional]
    cells = {COLUMNS[0]: str(theirs.loc[theirs["functional"] == "PBE", "printed"].iloc[0])}
    for row in runs.to_dict("records"):
        gain = "" if pd.isna(row["gain_percent"]) else f" ({row['gain_percent']:.0f}%)"
        cells[MODES[row["mode"]].name] = f"{row['mae']:g}{gain}"
    return cells, str(runs.loc[runs["mae"].idxmin(), "mode"])


def published_directions(published: pd.DataFrame) -> dict[tuple[str, str], str]:
    """``"better"`` or ``"worse"`` by label and mode: what Table 1 (``table1.csv``) says of transfer."""
    moved = published[published["mode"] != "none"]
    helps = (moved["gain_percent"] > 0).groupby([moved["label"], moved["mode"]]).all()
    return {(str(label), str(mode)): "better" if better else "worse" for (label, mode), better in helps.items()}


def verdicts(found: pd.DataFrame, expected: str | Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Each gain beside the direction the paper states.

    Args:
        found: rows of `gains`.
        expected: ``"better"`` or ``"worse"``, what the paper says of transfer compared with none; or that by label and
            mode.
    """
    rows = {}
    for row in found.to_dict("records"):
        q, mode = QUANTITIES[row["label"]], MODES[row["mode"]].name
        origin = "" if row["source_label"] == row["label"] else f" from {QUANTITIES[row['source_label']].text}"
        rate = f", learning rate {row['learning_rate']:g}" if found["learning_rate"].nunique() > 1 else ""
        stated = expected if isinstance(expected, str) else expected[row["label"], row["mode"]]
        rows[f"{q.text} {row['functional']}{origin}: {mode}{rate}"] = {
            "paper": stated,
            "error reduction": f"{row['gain']:.1%}",
            "95 % interval": f"{row['low']:.1%} to {row['high']:.1%}",
            "seeds": str(row["seeds"]),
            "verdict": agreement(stated, direction(row["low"], row["high"])),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def in_units(results: pd.DataFrame, label: str, column: str = "test_mae") -> pd.DataFrame:
    """Results of one label in the unit that errors are shown in (meV/atom, Å³/atom).

    Args:
        results: `studies.results`. label: property. column: the error, ``"test_mae"`` or ``"validation_mae"``.

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
