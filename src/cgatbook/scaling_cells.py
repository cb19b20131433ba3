"""Errors against size in the units in which they are shown, and what fitted lines say, as texts for tables."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cgatbook.answers import TRAININGS, title_of
from cgatbook.stored import Archives, training_of
from cgatlib import CgatError
from cgatlib.evaluation import scaling
from cgatlib.evaluation.forecast import Check, checks
from cgatlib.evaluation.scaling import ComputeBudget, Points, ScalingFit
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.sizes import curve_points, with_interval
from cgatlib.figures.style import MODES, QUANTITIES, short_count

NO_FALL = "an error does not fall"


def in_units(results: pd.DataFrame, label: str, column: str = "test_mae") -> pd.DataFrame:
    """Rows of one label of `StoredResults.table` in the unit that errors are shown in (meV/atom, Å³/atom).

    The error (``"test_mae"`` or ``"validation_mae"``) is ``mae``; of the test error ``errors`` go along, series (T,).

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


def scaling_row(points: pd.DataFrame, energy: bool) -> dict[str, str]:
    """Slopes, crossing and equivalent size, as texts with 95 % intervals; of an energy, sizes at chemical accuracy.

    `points` are rows of `in_units` without transfer and with full transfer from one pre-training set.
    """
    none, full = _two_lines(points)
    cells = {
        "slope, none": with_interval(none.slope, 3),
        "slope, full": with_interval(full.slope, 3),
        "N_equiv": size_text(scaling.equivalent_size(none, full)),
        "N_cross": size_text(scaling.crossing_size(none, full)),
    }
    if energy:
        for name, fit in (("none", none), ("full", full)):
            cells[f"n at 43 meV/atom, {name}"] = size_text(scaling.size_at(fit, scaling.CHEMICAL_ACCURACY * 1000))
    return cells


def held_out_cells(points: Points, label: str) -> dict[str, str]:
    """How a line and a line with a floor foretell the largest size, and how straight all sizes lie, as texts."""
    q, held, everything = QUANTITIES[label], scaling.hold_out_largest(points), scaling.fit_with_floor(points)
    return {
        "largest size": f"{held.size:,.0f}",
        "measured": f"{held.observed:.{q.error_digits}f} {q.error_unit}",
        "line": f"{held.line_error:+.1%}",
        "line with floor": f"{held.floor_error:+.1%}",
        "R² of the line": f"{scaling.r_squared(points, scaling.fit_power_law(points)):.3f}",
        "floor": f"{everything.floor:.{q.error_digits}f} {q.error_unit}",
    }


def balance_cells(training: ScalingFit, pretraining: ScalingFit, costs: Sequence[float]) -> dict[str, str]:
    """Where both calculations are worth the same, by the ratio of their costs, and the best split; 95 % intervals."""
    cells = {
        "β, training size": with_interval(training.slope, 3),
        "α, pre-training size": with_interval(pretraining.slope, 3),
    }
    falling = training.law.slope > 0 and pretraining.law.slope > 0
    for cost in costs:
        cells[f"c = {cost:g}"] = ratio_text(scaling.balance(training, pretraining, cost)) if falling else NO_FALL
    share = scaling.optimal_split(training, pretraining) if falling else None
    cells["best share for cheap ones"] = share.text("{:.0%}".format, " to ") if share else NO_FALL
    return cells


def ratio_text(estimate: Estimate) -> str:
    """A positive ratio with its interval, in two digits."""

    def shown(value: float) -> str:
        rounded = float(f"{value:.1e}")
        digits = max(0, 1 - math.floor(math.log10(rounded))) if 0 < rounded < math.inf else 0
        return "∞" if math.isinf(rounded) else f"{rounded:.{digits}f}"

    return estimate.text(shown, " to ")


def size_text(estimate: Estimate) -> str:
    """A number of crystals with its interval and the share of resamples without any."""

    def shown(value: float) -> str:
        return "never" if math.isinf(value) else "<1" if value < 1 else short_count(float(f"{value:.2g}"))

    never = f"; {estimate.never:.0%} of resamples never]" if estimate.never > 0 else "]"
    return estimate.text(shown, " to ").replace("]", never)


def slope_sentence(points: pd.DataFrame, title: str) -> str:
    """What transfer saves: slopes and the size at which no transfer would be as good, from rows as in `scaling_row`."""
    none, full = _two_lines(points)
    smallest, largest = points["train_size"].min(), short_count(points["train_size"].max())
    flat = f" With full transfer the slope may be zero: from {smallest} to {largest} crystals no gain is seen."
    return (
        f"{title}: the error falls with the slope {with_interval(none.slope, 3)} without and "
        f"{with_interval(full.slope, 3)} with full transfer. A network without transfer would need "
        f"{size_text(scaling.equivalent_size(none, full))} crystals to match the best transferred one, which had "
        f"{largest}." + (flat if full.slope.low <= 0 else "")
    )


def _two_lines(points: pd.DataFrame) -> tuple[ScalingFit, ScalingFit]:
    """The lines without transfer and with full transfer."""
    none, full = (scaling.bootstrap(curve_points(points[points["mode"] == mode])) for mode in ("none", "full"))
    return none, full


def grid_fits(
    points: pd.DataFrame, n_pretrain: int | None = None, n_train: int | None = None
) -> tuple[ScalingFit, ScalingFit]:
    """Fits of full transfer against training size at one pre-training size (the largest), and the other way round."""
    full = points[points["mode"] == "full"]
    training = full[full["pretrain_size"] == (n_pretrain or full["pretrain_size"].max())]
    pretraining = full[full["train_size"] == (n_train or full["train_size"].max())]
    return scaling.bootstrap(curve_points(training)), scaling.bootstrap(curve_points(pretraining, "pretrain_size"))


def starts_of(points: pd.DataFrame, ratios: Sequence[float], cost_ratio: float) -> dict[str, ComputeBudget]:
    """Starts of a budget, by their sizes as text: of those that were run the nearest to each ratio, the smallest first.

    A ratio is that of pre-training to training crystals.
    """
    pairs, starts = points.loc[points["mode"] == "full", ["pretrain_size", "train_size"]].drop_duplicates(), {}
    for ratio in ratios:
        distance = np.log(pairs["pretrain_size"] / pairs["train_size"] / ratio).abs().round(6)
        place = pairs.assign(distance=distance).sort_values(["distance", "train_size"]).iloc[0]
        n_pretrain, n_train = int(place["pretrain_size"]), int(place["train_size"])
        fits = grid_fits(points, n_pretrain, n_train)
        name = f"{short_count(n_pretrain)} + {short_count(n_train)}"
        starts[name] = ComputeBudget(*fits, n_train=n_train, n_pretrain=n_pretrain, cost_ratio=cost_ratio)
    return starts


TUNED = ("volume-r2scan-sizes-none", "volume-r2scan-sizes-full", "gap-hse-sizes-none", "gap-hse-sizes-full")
"""Curves that set how wide the interval of a forecast is, in short training: of these a check is not independent."""


def forecasts(real: Archives) -> dict[str, tuple[bool, list[Check]]]:
    """Checks of forecasts on every stored learning curve of four sizes or more, by its name in words.

    Each size is foretold from the four before it, as ``cgatlib forecast`` does, or from three on a curve of four sizes;
    with it goes whether the curve had no part in tuning.
    """
    found = {}
    for part in real.parts:
        for name, entry in part.plan.entries.items():
            if len(entry.sizes) < 4 or len(entry.splits) > 1 or not part.has(name):
                continue
            runs, trained = part.runs(name), training_of(part.runs(name)[0])
            e = runs[0].experiment
            start = f" on {e.source.train_size:,} crystals" if e.source and e.source.train_size else ""
            title = f"{title_of(runs[0])}, {MODES[e.transfer.mode].name}{start}, {TRAININGS[trained]}"
            independent = trained == "long" or name not in TUNED
            found[title] = independent, checks(runs, min(4, len(entry.sizes) - 1))
    return found


def forecast_table(found: Mapping[str, tuple[bool, Sequence[Check]]]) -> pd.DataFrame:
    """Errors of `forecasts` in percent (negative: too hopeful), and how often the measured fall was in the interval."""
    rows = {}
    for title, (independent, some) in found.items():
        line = pd.Series([100 * (c.foretold / c.mae - 1) for c in some])
        texts = {"mean": f"{line.mean():+.1f}", "largest": f"{line[line.abs().idxmax()]:+.1f}"}
        rows[title] = {**texts, "within the interval": f"{sum(c.held for c in some)} of {len(some)}"}
        rows[title]["interval"] = "independent" if independent else "tuned on this curve"
    return pd.DataFrame.from_dict(rows, orient="index")


def forecast_sentence(found: Mapping[str, tuple[bool, Sequence[Check]]]) -> str:
    """How often the measured fall lay in the 95 % interval, on curves that had no part in tuning it and on others."""
    new, tuned = ([c.held for own, some in found.values() if own == kind for c in some] for kind in (True, False))
    text = f"On learning curves that had no part in setting it, the interval held the measured fall {sum(new)} of "
    return f"{text}{len(new)} times; on those that it was tuned on, {sum(tuned)} of {len(tuned)} times."
