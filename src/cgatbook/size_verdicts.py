"""Verdicts on claims about the sizes of the training and the pre-training set, from stored runs."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from cgatbook.comparisons import in_units
from cgatbook.scaling_cells import size_text
from cgatbook.stored import StoredResults
from cgatbook.verdicts import (
    Evidence,
    Outcome,
    Verdict,
    data_text,
    decide,
    runs_of,
    subject_of,
)
from cgatlib.evaluation.scaling import (
    Points,
    ScalingFit,
    balance,
    bootstrap,
    crossing_size,
    equivalent_size,
    hold_out_largest,
    optimal_split,
    r_squared,
)
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.sizes import curve_points
from cgatlib.runs.experiment import Run

STRAIGHT = 0.9  # of the variance of ln MAE, below which a line says little


def straight_line(evidence: Evidence, entries: Sequence[str], against: str = "train_size") -> Verdict:
    """Whether ln MAE is a straight line in ln n: no significant curvature, and a line that explains the points.

    Args:
        entries: of the plan, whose runs make one curve. against: ``"train_size"``, or ``"pretrain_size"`` at the
            largest training size that all entries share.
    """
    points, runs = _curve(evidence.real, entries, against)
    bend, fit = curvature(points), bootstrap(points)
    explained = r_squared(points, fit.law)
    held = hold_out_largest(points)
    if not bend.low <= 0 <= bend.high:
        outcome = Outcome.FAILS
    else:
        outcome = Outcome.HOLDS if explained >= STRAIGHT else Outcome.OPEN
    text = (
        f"slope {_number(fit.slope)}, R² {explained:.2f}, curvature {_number(bend)}; a line through the smaller sizes "
        f"misses the largest by {held.line_error:+.0%}"
    )
    return Verdict(outcome, text, data_text(evidence.real, runs), subject_of(runs))


def curvature(points: Points) -> Estimate:
    """Second derivative of ln MAE in ln n with its 95 % interval (least squares, Student's t).

    Positive where the error falls more slowly at large n; infinitely wide for three points or fewer.
    """
    x, y = np.log(points.sizes), np.log(points.maes)
    basis = np.stack([np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2], axis=1)
    values, *_ = np.linalg.lstsq(basis, y, rcond=None)
    free = len(x) - 3
    if free < 1:
        return Estimate(2 * float(values[2]), -math.inf, math.inf)
    scatter = float(((y - basis @ values) ** 2).sum()) / free
    error = math.sqrt(scatter * float(np.linalg.inv(basis.T @ basis)[2, 2]))
    half = float(stats.t.ppf(0.975, free)) * error
    return Estimate(*(2 * (float(values[2]) + shift) for shift in (0.0, -half, half)))


def error_falls(evidence: Evidence, entries: Sequence[str], against: str = "train_size") -> Verdict:
    """Whether the error falls with a size: a positive slope. Arguments as in `straight_line`."""
    points, runs = _curve(evidence.real, entries, against)
    slope = bootstrap(points).slope
    return Verdict(decide(slope, "better"), f"slope {_number(slope)}", data_text(evidence.real, runs), subject_of(runs))


def slope_decreases(evidence: Evidence, entries: Sequence[str]) -> Verdict:
    """Whether the slope against training size is smaller after the largest than after the smallest pre-training."""
    grid, runs = _grid(evidence.real, entries)
    sizes = sorted(grid["pretrain_size"].unique())
    fits = [bootstrap(curve_points(grid[grid["pretrain_size"] == size])) for size in (sizes[0], sizes[-1])]
    drop = _difference(*fits)
    text = (
        f"slope {_number(fits[0].slope)} after {sizes[0]:,} pre-training crystals, {_number(fits[1].slope)} after "
        f"{sizes[-1]:,}; smaller by {_number(drop)}"
    )
    return Verdict(decide(drop, "better"), text, data_text(evidence.real, runs), subject_of(runs))


def pretraining_slope_smaller(evidence: Evidence, entries: Sequence[str], stated: Sequence[str]) -> Verdict:
    """Whether the error falls more slowly with pre-training than with training size.

    Args:
        entries: full transfer from several pre-training sizes. stated: the paper's balanced ratio of set sizes and its
            ratio of costs, whose quotient is that of the slopes.
    """
    training, pretraining, runs = _two_slopes(evidence.real, entries)
    drop = _difference(training, pretraining)
    ratio, cost = (evidence.published[name].value for name in stated)
    text = (
        f"slope {_number(pretraining.slope)} against pre-training, {_number(training.slope)} against training size, "
        f"ratio {pretraining.law.slope / training.law.slope:.2f}; {ratio / cost:.2f} follows from the paper"
    )
    return Verdict(decide(drop, "better"), text, data_text(evidence.real, runs), subject_of(runs))


def lines_meet(evidence: Evidence, none: str, full: str, stated: Sequence[str]) -> Verdict:
    """Whether training from scratch catches up with full transfer beyond the largest training set.

    Args:
        none, full: entries of several sizes. stated: the paper's crossing and its largest training size.
    """
    fits, runs, largest = _two_curves(evidence.real, none, full)
    size = crossing_size(*fits)
    times = _over(size, largest)
    if times.low > 1 and math.isfinite(times.high):
        outcome = Outcome.HOLDS
    else:
        outcome = Outcome.FAILS if times.high < 1 or times.low == math.inf else Outcome.OPEN
    crossing, reached = (evidence.published[name].value for name in stated)
    text = f"the lines meet at {size_text(size)} crystals, {_times(times)} the largest set"
    text += f"; {crossing / reached:.1f} times in the paper"
    return Verdict(outcome, text, data_text(evidence.real, runs), subject_of(runs))


def equivalent_data(evidence: Evidence, none: str, full: str, at_least: str) -> Verdict:
    """Whether training from scratch needs at least so many times the largest set to equal the best transfer."""
    fits, runs, largest = _two_curves(evidence.real, none, full)
    size = equivalent_size(*fits)
    times, bound = _over(size, largest), evidence.published[at_least].value
    more = Estimate(times.value - bound, times.low - bound, times.high - bound)
    text = f"{size_text(size)} crystals, {_times(times)} the largest set"
    return Verdict(decide(more, "better"), text, data_text(evidence.real, runs), subject_of(runs))


def balanced_at(evidence: Evidence, entries: Sequence[str], cost: str, sizes: Sequence[str], pays: str) -> Verdict:
    """Which calculation pays more at a ratio of pre-training to training crystals.

    Args:
        entries: full transfer from several pre-training sizes. cost: of a target calculation in PBE calculations.
        sizes: of the pre-training and the training set, of which only the ratio counts.
        pays: ``"training"`` or ``"pre-training"`` pays more there, or ``"both"`` equally.
    """
    training, pretraining, runs = _two_slopes(evidence.real, entries)
    if not _both_fall(training, pretraining):
        return _no_fall(evidence.real, runs)
    even = balance(training, pretraining, evidence.published[cost].value)
    ratio = evidence.published[sizes[0]].value / evidence.published[sizes[1]].value
    logs = Estimate(*(math.log(ratio) - _log(x) for x in (even.value, even.high, even.low)))
    if pays == "both":
        inside = logs.low <= 0 <= logs.high
        wide = even.low <= 1 or even.high >= ratio**2  # from equal sizes to as far on the other side
        outcome = Outcome.FAILS if not inside else Outcome.OPEN if wide else Outcome.HOLDS
    else:
        outcome = decide(logs, "better" if pays == "training" else "worse")
    text = (
        f"both pay equally at {even.value:.2g} [{even.low:.2g}, {even.high:.2g}] pre-training crystals per training "
        f"crystal; the claim is about {ratio:.2g}"
    )
    return Verdict(outcome, text, data_text(evidence.real, runs), subject_of(runs))


def best_share(evidence: Evidence, entries: Sequence[str]) -> Verdict:
    """Whether a fresh budget is best divided: a share for PBE that is neither nothing nor all."""
    training, pretraining, runs = _two_slopes(evidence.real, entries)
    if not _both_fall(training, pretraining):
        return _no_fall(evidence.real, runs)
    share = optimal_split(training, pretraining)
    outcome = Outcome.HOLDS if share.low > 0 and share.high < 1 else Outcome.OPEN
    text = f"best share for PBE {share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"
    return Verdict(outcome, text, data_text(evidence.real, runs), subject_of(runs))


def _both_fall(training: ScalingFit, pretraining: ScalingFit) -> bool:
    return training.law.slope > 0 and pretraining.law.slope > 0


def _no_fall(results: StoredResults, runs: Sequence[Run]) -> Verdict:
    return Verdict(Outcome.OPEN, "the error does not fall with both sizes", data_text(results, runs), subject_of(runs))


def _curve(results: StoredResults, entries: Sequence[str], against: str) -> tuple[Points, list[Run]]:
    """Points of one curve and the runs that they are."""
    if against == "pretrain_size":
        grid, runs = _grid(results, entries)
        largest = grid["train_size"].max()
        runs = [run for run in runs if run.metrics["n_train"] == largest]
        return curve_points(grid[grid["train_size"] == largest], against), runs
    runs = [run for some in runs_of(results, entries) for run in some]
    return curve_points(_units(results.table(*entries))), runs


def _grid(results: StoredResults, entries: Sequence[str]) -> tuple[pd.DataFrame, list[Run]]:
    """Errors at the training sizes that every pre-training size was transferred to, and their runs."""
    runs = [run for some in runs_of(results, entries) for run in some]
    frame = _units(results.table(*entries))
    shared = set.intersection(*(set(part["train_size"]) for _, part in frame.groupby("pretrain_size")))
    return frame[frame["train_size"].isin(shared)], [run for run in runs if run.metrics["n_train"] in shared]


def _units(frame: pd.DataFrame) -> pd.DataFrame:
    return in_units(frame, frame["label"].iloc[0])


def _two_slopes(results: StoredResults, entries: Sequence[str]) -> tuple[ScalingFit, ScalingFit, list[Run]]:
    """Fits against training size after the largest pre-training, and against pre-training size at the largest one."""
    grid, runs = _grid(results, entries)
    training = bootstrap(curve_points(grid[grid["pretrain_size"] == grid["pretrain_size"].max()]))
    pretraining = bootstrap(curve_points(grid[grid["train_size"] == grid["train_size"].max()], "pretrain_size"))
    return training, pretraining, runs


def _two_curves(results: StoredResults, none: str, full: str) -> tuple[list[ScalingFit], list[Run], float]:
    """Fits without and with transfer, the runs of the latter, and the largest training size."""
    _, runs = runs_of(results, (none, full))
    points = [_curve(results, [name], "train_size")[0] for name in (none, full)]
    return [bootstrap(some) for some in points], runs, float(points[0].sizes.max())


def _difference(first: ScalingFit, second: ScalingFit) -> Estimate:
    """How much larger the slope of the first is."""
    return Estimate.of(first.law.slope - second.law.slope, first.slopes - second.slopes)


def _over(size: Estimate, largest: float) -> Estimate:
    return Estimate(size.value / largest, size.low / largest, size.high / largest, size.never)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _number(e: Estimate) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def _times(e: Estimate) -> str:
    low, high = ("never" if math.isinf(x) else f"{x:.2g}" for x in (e.low, e.high))
    return f"{'never' if math.isinf(e.value) else f'{e.value:.2g}'} [{low}, {high}] times"
