"""Test errors of kinds of run: metrics with intervals, paired comparisons, splits, leakage.

Pure functions on tables of errors; neither torch nor the crystals or their labels are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgatlib.errors import CgatError
from cgatlib.evaluation.metrics import MAE, Metric, Scored, Seeds
from cgatlib.evaluation.statistics import Array, Estimate, mean_interval, redraw_formulas, seed_factors
from cgatlib.runs.tested import SEEN


@dataclass(frozen=True)
class Comparison:
    """Two kinds of run on the same test crystals.

    Attributes:
        first, second: the metric of either.
        reduction: 1 - first / second; positive where the first has the smaller error.
        crystals: in the test set, or in those of all splits together.
    """

    first: Estimate
    second: Estimate
    reduction: Estimate
    crystals: int

    @property
    def ratio(self) -> Estimate:
        """first / second."""
        r = self.reduction
        return Estimate(1 - r.value, 1 - r.high, 1 - r.low)


def score_interval(seeds: Seeds | Scored, metric: Metric = MAE) -> Estimate:
    """A metric of one kind of run, mean over its seeds, with its 95 % interval.

    Args:
        seeds: errors, one table per seed, or in order already. metric: what to measure.

    Raises:
        CgatError: as `Scored.of`.
    """
    scored = Scored.of(seeds)
    (samples,) = _resample([scored], metric)
    return _estimate(float(metric_by_seed(scored, metric).mean()), samples, scored)


def compare(first: Seeds | Scored, second: Seeds | Scored, metric: Metric = MAE) -> Comparison:
    """Compare two kinds of run on the same test crystals.

    Where both have the same number of seeds, the i-th of one is paired with the i-th of the other, which is right
    whether or not they have anything in common; otherwise the seeds count as independent.

    Args:
        first, second: errors of one label, one table per seed, or in order already. metric: what to compare.

    Raises:
        CgatError: the test crystals differ, or as `Scored.of`.
    """
    a, b = _pair(first, second, "the first", "the second")
    x, y = (float(metric_by_seed(scored, metric).mean()) for scored in (a, b))
    xs, ys = _resample([a, b], metric)
    with np.errstate(divide="ignore", invalid="ignore"):
        reduction, reductions = float(1 - np.divide(x, y)), 1 - xs / ys
    return Comparison(
        first=_estimate(x, xs, a),
        second=_estimate(y, ys, a),
        reduction=_estimate(reduction, reductions, a),
        crystals=len(a.crystals),
    )


def over_splits(splits: Sequence[tuple[Seeds, Seeds]], n_train: float) -> Comparison:
    """Compare two kinds of run by their MAE on several splits of one small set.

    The mean over splits, each the mean over its seeds, with the interval of `mean_interval` for overlapping splits.

    Args:
        splits: for every split the seeds of the first and of the second kind. n_train: training crystals (mean).

    Raises:
        CgatError: fewer than two splits; or as `compare`, for any of them.
    """
    if len(splits) < 2:
        raise CgatError(f"an interval over splits needs at least two of them, not {len(splits)}")
    pairs = [
        _pair(*kinds, f"the first of split number {number}", f"the second of split number {number}")
        for number, kinds in enumerate(splits, start=1)
    ]
    x, y = (np.array([metric_by_seed(pair[i]).mean() for pair in pairs]) for i in range(2))
    crystals = sum(len(a.crystals) for a, _ in pairs)
    first, second, reduction = (mean_interval(values, crystals / len(pairs) / n_train) for values in (x, y, 1 - x / y))
    return Comparison(first, second, reduction, crystals)


def _pair(first: Seeds | Scored, second: Seeds | Scored, name: str, other_name: str) -> tuple[Scored, Scored]:
    a, b = Scored.of(first, name), Scored.of(second, other_name)
    a.require_same(b, name, other_name)
    return a, b


def metric_by_seed(scored: Scored, metric: Metric = MAE) -> Array:
    """The metric on the test set itself, (S,)."""
    return metric.of(scored, np.ones((1, len(scored.crystals))))[0]


def _estimate(value: float, samples: Array, scored: Scored) -> Estimate:
    """Percentile interval; a single formula leaves all open."""
    return Estimate.of(value, samples if scored.formulas > 1 else samples[:0])


def _resample(several: Sequence[Scored], metric: Metric) -> list[Array]:
    """For each of several kinds of run on one test set, the metric's mean over redrawn seeds and formulas, (R,)."""

    def values(weights: Array) -> Array:
        return np.hstack([metric.of(scored, weights) for scored in several])

    drawn = redraw_formulas(values, several[0].groups)
    ends = np.cumsum([len(scored.errors) for scored in several])[:-1]
    samples = []
    for own, scored in zip(np.split(drawn, ends, axis=1), several, strict=True):
        factors = seed_factors(metric_by_seed(scored, metric), own)[:, 0]
        samples.append(np.minimum(own.mean(axis=1) * factors, metric.highest))
    return samples


def leakage_ratio(clean: Seeds, seen: Seeds) -> dict[str, Comparison]:
    """What it is worth to have been pre-trained on the test crystals.

    Args:
        clean: errors after pre-training without the test crystals and their formulas, one table per seed.
        seen: errors on the same crystals after pre-training that may have held them, which their column ``seen`` says.

    Returns:
        By a value of `SEEN`, `Comparison` of ``seen`` (first) with ``clean`` (second); its ``ratio`` is MAE seen /
        clean. The crystals of which pre-training has seen nothing tell how far the two differ for other reasons.

    Raises:
        CgatError: the test crystals differ, or it is not known what pre-training has seen.
    """
    a, b = _pair(seen, clean, "the seen runs", "the clean runs")
    if a.seen is None:
        raise CgatError("the seen runs do not say which test crystals their pre-training has seen")
    parts = {name: a.seen == name for name in SEEN}
    return {name: compare(a.at(rows), b.at(rows)) for name, rows in parts.items() if rows.any()}
