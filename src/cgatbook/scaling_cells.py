"""What fitted lines say, as texts for tables: slopes, extrapolated sizes, budgets."""

import math
from collections.abc import Sequence

import pandas as pd

from cgatlib.evaluation.scaling import (
    CHEMICAL_ACCURACY,
    ComputeBudget,
    Points,
    ScalingFit,
    balance,
    bootstrap,
    crossing_size,
    equivalent_size,
    fit_power_law,
    fit_with_floor,
    hold_out_largest,
    optimal_split,
    r_squared,
    size_at,
)
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.sizes import curve_points, with_interval
from cgatlib.figures.style import QUANTITIES, short_count

NO_FALL = "an error does not fall"


def scaling_row(points: pd.DataFrame, energy: bool) -> dict[str, str]:
    """Slopes, crossing and equivalent size of one functional and label, as texts with their 95 % intervals.

    Args:
        points: rows of `in_units` without transfer and with full transfer from one pre-training set.
        energy: whether chemical accuracy means anything for the label.
    """
    none, full = (bootstrap(curve_points(points[points["mode"] == mode])) for mode in ("none", "full"))
    cells = {
        "slope, none": with_interval(none.slope, 3),
        "slope, full": with_interval(full.slope, 3),
        "N_equiv": size_text(equivalent_size(none, full)),
        "N_cross": size_text(crossing_size(none, full)),
    }
    if energy:
        for name, fit in (("none", none), ("full", full)):
            cells[f"n at 43 meV/atom, {name}"] = size_text(size_at(fit, CHEMICAL_ACCURACY * 1000))
    return cells


def held_out_cells(points: Points, label: str) -> dict[str, str]:
    """How a line and a line with a floor foretell the largest size, and how straight all sizes lie, as texts."""
    q, held, everything = QUANTITIES[label], hold_out_largest(points), fit_with_floor(points)
    return {
        "largest size": f"{held.size:,.0f}",
        "measured": f"{held.observed:.{q.error_digits}f} {q.error_unit}",
        "line": f"{held.line_error:+.1%}",
        "line with floor": f"{held.floor_error:+.1%}",
        "R² of the line": f"{r_squared(points, fit_power_law(points)):.3f}",
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
        cells[f"c = {cost:g}"] = ratio_text(balance(training, pretraining, cost)) if falling else NO_FALL
    share = optimal_split(training, pretraining) if falling else None
    cells["best share for cheap ones"] = (
        f"{share.value:.0%} [{share.low:.0%} to {share.high:.0%}]" if share else NO_FALL
    )
    return cells


def ratio_text(estimate: Estimate) -> str:
    """A positive ratio with its interval, in two digits."""
    texts = []
    for value in (estimate.value, estimate.low, estimate.high):
        rounded = float(f"{value:.1e}")
        digits = max(0, 1 - math.floor(math.log10(rounded))) if 0 < rounded < math.inf else 0
        texts.append("∞" if math.isinf(rounded) else f"{rounded:.{digits}f}")
    return f"{texts[0]} [{texts[1]} to {texts[2]}]"


def size_text(estimate: Estimate) -> str:
    """A number of crystals with its interval and the share of resamples without any."""
    texts = []
    for value in (estimate.value, estimate.low, estimate.high):
        rounded = math.inf if math.isinf(value) else float(f"{value:.2g}")
        texts.append("never" if math.isinf(value) else "<1" if value < 1 else short_count(rounded))
    never = f"; {estimate.never:.0%} of resamples never" if estimate.never > 0 else ""
    return f"{texts[0]} [{texts[1]} to {texts[2]}{never}]"


def nearest_start(points: pd.DataFrame, ratio: float) -> tuple[int, int]:
    """Sizes (pre-training, training) among full-transfer runs whose ratio is nearest to `ratio`, smallest first."""
    pairs = points.loc[points["mode"] == "full", ["pretrain_size", "train_size"]].drop_duplicates()
    distance = (pairs["pretrain_size"] / pairs["train_size"] / ratio).map(lambda r: abs(math.log(r)))
    best = pairs.assign(distance=distance.round(6)).sort_values(["distance", "train_size"]).iloc[0]
    return int(best["pretrain_size"]), int(best["train_size"])


def slope_sentence(points: pd.DataFrame, title: str) -> str:
    """What transfer saves: slopes and the size at which no transfer would be as good, from rows as in `scaling_row`."""
    cells = scaling_row(points, False)
    largest = short_count(points["train_size"].max())
    return (
        f"{title}: the error falls with the slope {cells['slope, none']} without and {cells['slope, full']} with full "
        f"transfer. A network without transfer would need {cells['N_equiv']} crystals to match the best transferred "
        f"one, which had {largest}."
    )


def grid_fits(points: pd.DataFrame) -> tuple[ScalingFit, ScalingFit]:
    """Fits against training size from the whole pre-training set, and against pre-training size on the whole set."""
    full = points[points["mode"] == "full"]
    training = full[full["pretrain_size"] == full["pretrain_size"].max()]
    pretraining = full[full["train_size"] == full["train_size"].max()]
    return bootstrap(curve_points(training)), bootstrap(curve_points(pretraining, "pretrain_size"))


def starts_of(points: pd.DataFrame, ratios: Sequence[float], cost_ratio: float) -> dict[str, ComputeBudget]:
    """Starts of a budget whose sizes have the nearest ratios among those that were run, by their sizes as text."""
    full, starts = points[points["mode"] == "full"], {}
    for ratio in ratios:
        n_pre, n_train = nearest_start(points, ratio)
        starts[f"{short_count(n_pre)} + {short_count(n_train)}"] = ComputeBudget(
            training=bootstrap(curve_points(full[full["pretrain_size"] == n_pre])),
            pretraining=bootstrap(curve_points(full[full["train_size"] == n_train], "pretrain_size")),
            n_train=n_train,
            n_pretrain=n_pre,
            cost_ratio=cost_ratio,
        )
    return starts
