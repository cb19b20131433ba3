"""Test errors of kinds of run: scores with intervals, paired comparisons, splits, classification, leakage.

Pure functions on tables of errors; neither torch nor the crystals or their labels are needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgatlib.errors import CgatError
from cgatlib.evaluation.metrics import BALANCED_ACCURACY, F1, MAE, OPEN_GAP_MAE, ROC_AUC, Metric, Scored, Seeds
from cgatlib.evaluation.statistics import (
    RESAMPLES,
    Array,
    Estimate,
    mean_interval,
    redraw_formulas,
    seed_factors,
)
from cgatlib.runs.tested import SEEN


@dataclass(frozen=True)
class Score:
    """A metric on a test set: mean over seeds with its interval, standard deviation over seeds (NaN for one seed)."""

    estimate: Estimate
    spread: float
    seeds: int
    crystals: int
    formulas: int


@dataclass(frozen=True)
class Comparison:
    """Two kinds of run on the same test crystals.

    Attributes:
        first, second: the metric of either.
        difference: first - second. reduction: 1 - first / second; positive where the first has the smaller error.
        seeds: of the first and of the second. crystals, formulas: in the test set, or in those of all splits together.
        splits: how many.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    reduction: Estimate
    seeds: tuple[int, int]
    crystals: int
    formulas: int
    splits: int = 1

    @property
    def ratio(self) -> Estimate:
        """first / second."""
        r = self.reduction
        return Estimate(1 - r.value, 1 - r.high, 1 - r.low, level=r.level)


def score_interval(
    seeds: Seeds | Scored, metric: Metric = MAE, *, resamples: int = RESAMPLES, rng_seed: int = 0
) -> Score:
    """A metric of one kind of run with its 95 % interval.

    Args:
        seeds: errors, one table per seed, or in order already. metric: what to measure.
        resamples, rng_seed: of the interval; equal ones give equal numbers.

    Raises:
        CgatError: as `Scored.of`.
    """
    scored = Scored.of(seeds)
    values = metric_by_seed(scored, metric)
    (samples,) = _resample([scored], metric, resamples, rng_seed)
    return Score(
        estimate=_estimate(float(values.mean()), samples, scored),
        spread=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        seeds=len(values),
        crystals=len(scored.crystals),
        formulas=scored.formulas,
    )


def compare(
    first: Seeds | Scored,
    second: Seeds | Scored,
    metric: Metric = MAE,
    *,
    resamples: int = RESAMPLES,
    rng_seed: int = 0,
    names: tuple[str, str] = ("the first", "the second"),
) -> Comparison:
    """Compare two kinds of run on the same test crystals.

    Where both have the same number of seeds, the i-th of one is paired with the i-th of the other, which is right
    whether or not they have anything in common; otherwise the seeds count as independent.

    Args:
        first, second: errors of one label, one table per seed, or in order already. names: of both, for messages.
        metric: what to compare. resamples, rng_seed: of the intervals.

    Raises:
        CgatError: the test crystals differ, or as `Scored.of`.
    """
    a, b = Scored.of(first, names[0]), Scored.of(second, names[1])
    a.require_same(b, *names)
    x, y = float(metric_by_seed(a, metric).mean()), float(metric_by_seed(b, metric).mean())
    xs, ys = _resample([a, b], metric, resamples, rng_seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        reduction, reductions = float(1 - np.divide(x, y)), 1 - xs / ys
    return Comparison(
        first=_estimate(x, xs, a),
        second=_estimate(y, ys, a),
        difference=_estimate(x - y, xs - ys, a),
        reduction=_estimate(reduction, reductions, a),
        seeds=(len(a.errors), len(b.errors)),
        crystals=len(a.crystals),
        formulas=a.formulas,
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
    pairs = []
    for number, (first, second) in enumerate(splits, start=1):
        names = f"the first of split number {number}", f"the second of split number {number}"
        a, b = Scored.of(first, names[0]), Scored.of(second, names[1])
        a.require_same(b, *names)
        pairs.append((a, b))
    x, y = (np.array([metric_by_seed(pair[i]).mean() for pair in pairs]) for i in range(2))
    crystals = sum(len(a.crystals) for a, _ in pairs)
    test_to_train = crystals / len(pairs) / n_train
    return Comparison(
        first=mean_interval(x, test_to_train),
        second=mean_interval(y, test_to_train),
        difference=mean_interval(x - y, test_to_train),
        reduction=mean_interval(1 - x / y, test_to_train),
        seeds=(sum(len(a.errors) for a, _ in pairs), sum(len(b.errors) for _, b in pairs)),
        crystals=crystals,
        formulas=sum(a.formulas for a, _ in pairs),
        splits=len(pairs),
    )


def metric_by_seed(scored: Scored, metric: Metric = MAE) -> Array:
    """The metric on the test set itself, (S,)."""
    return metric.of(scored, np.ones((1, len(scored.crystals))))[0]


def _estimate(value: float, samples: Array, scored: Scored) -> Estimate:
    """Percentile interval; a single formula leaves all open."""
    return Estimate.of(value, samples if scored.formulas > 1 else samples[:0])


def _resample(several: Sequence[Scored], metric: Metric, resamples: int, rng_seed: int) -> list[Array]:
    """For each of several kinds of run on one test set, the metric's mean over redrawn seeds and formulas, (R,)."""

    def values(weights: Array) -> Array:
        return np.hstack([metric.of(scored, weights) for scored in several])

    drawn = redraw_formulas(values, several[0].groups, resamples, rng_seed)
    ends = np.cumsum([len(scored.errors) for scored in several])[:-1]
    samples = []
    for own, scored in zip(np.split(drawn, ends, axis=1), several, strict=True):
        factors = seed_factors(metric_by_seed(scored, metric), own, rng_seed=rng_seed)[:, 0]
        samples.append(np.minimum(own.mean(axis=1) * factors, metric.highest))
    return samples


@dataclass(frozen=True)
class GapScores:
    """Predicted band gaps as a classification into metals and non-metals, and their error where there is a gap.

    A gap above `cgatlib.crystals.crystal.GAP_THRESHOLD`, true or predicted, makes a non-metal. ``roc_auc`` needs no
    threshold on the prediction. ``open_gap_mae`` (eV) is the MAE of the crystals that are non-metals.
    """

    balanced_accuracy: Score
    roc_auc: Score
    f1: Score
    open_gap_mae: Score
    metals: int
    non_metals: int


def gap_scores(seeds: Seeds) -> GapScores:
    """Score predicted band gaps as a classification, with intervals.

    Raises:
        CgatError: the errors are not of band gaps, or of metals only or non-metals only; or as `Scored.of`.
    """
    scored = Scored.of(seeds)
    non_metals = int(scored.kinds.sum())
    metals = len(scored.crystals) - non_metals
    if 0 in (metals, non_metals):
        raise CgatError(f"a classification needs both kinds of crystal: {metals} metals, {non_metals} non-metals")
    return GapScores(
        balanced_accuracy=score_interval(scored, BALANCED_ACCURACY),
        roc_auc=score_interval(scored, ROC_AUC),
        f1=score_interval(scored, F1),
        open_gap_mae=score_interval(scored, OPEN_GAP_MAE),
        metals=metals,
        non_metals=non_metals,
    )


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
    a, b = Scored.of(seen, "the seen runs"), Scored.of(clean, "the clean runs")
    a.require_same(b, "the seen runs", "the clean runs")
    if a.seen is None:
        raise CgatError("the seen runs do not say which test crystals their pre-training has seen")
    parts = {name: a.seen == name for name in SEEN}
    return {name: compare(a.at(rows), b.at(rows)) for name, rows in parts.items() if rows.any()}
