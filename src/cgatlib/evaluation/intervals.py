"""How certain a test error and a difference of two test errors are.

Two things are uncertain: which compositions the test set happens to hold, and which seeds were run. Compositions are
resampled with replacement, all polymorphs of a formula together (Field and Welsh, J. R. Stat. Soc. B 69, 369 (2007),
doi:10.1111/j.1467-9868.2007.00593.x). Seeds are too few for that: three of them drawn with replacement understate
their own scatter. Their mean is multiplied in every resample by a draw from Student's t distribution with
(seeds - 1) degrees of freedom instead, so that the interval is the usual one of a mean where the seeds dominate. Of the
variance between seeds, the part that is there because the test crystals are few is taken off first (the interaction of
a two-way analysis of variance): the resampled formulas hold it already. A single seed says nothing about other seeds;
its interval is that of the test set alone.

The intervals rely on large numbers of formulas: with sixty of them and errors of a long-tailed distribution those of a
MAE hold the true one in about 90 % of simulated test sets, with some hundreds in 95 to 97 %.

All draws depend on the number of formulas and of seeds only. Two kinds of run that share test set and seeds are
therefore resampled in pairs, and what they have in common cancels in their difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cgatlib import CgatError
from cgatlib.evaluation.metrics import MAE, Metric
from cgatlib.evaluation.scored import Array, Scored, Seeds
from cgatlib.scaling.powerlaws import Estimate

_BLOCK = 4_000_000  # weights held at a time
_FARTHEST = 20.0  # two seeds draw exponents without bound; e^20 is as good as any


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


def score_interval(seeds: Seeds, metric: Metric = MAE, *, resamples: int = 2000, rng_seed: int = 0) -> Score:
    """A metric of one kind of run with its 95 % interval.

    Args:
        seeds: errors, one table per seed. metric: what to measure.
        resamples, rng_seed: of the interval; equal ones give equal numbers.

    Raises:
        CgatError: as `Scored.of`.
    """
    return score_of(Scored.of(seeds), metric, resamples, rng_seed)


def score_of(scored: Scored, metric: Metric = MAE, resamples: int = 2000, rng_seed: int = 0) -> Score:
    """`score_interval` of errors that are in order already."""
    values = metric_by_seed(scored, metric)
    (samples,) = _resample([scored], metric, resamples, rng_seed)
    return Score(
        estimate=_estimate(float(values.mean()), samples, scored),
        spread=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        seeds=len(values),
        crystals=len(scored.crystals),
        formulas=scored.formulas,
    )


def paired_difference(
    first: Seeds, second: Seeds, metric: Metric = MAE, *, resamples: int = 2000, rng_seed: int = 0
) -> Comparison:
    """Compare two kinds of run on the same test crystals.

    Where both have the same number of seeds, the i-th of one is paired with the i-th of the other, which is right
    whether or not they have anything in common; otherwise the seeds count as independent.

    Args:
        first, second: errors of one label, one table per seed.
        metric: what to compare. resamples, rng_seed: of the intervals.

    Raises:
        CgatError: the test crystals differ, or as `Scored.of`.
    """
    return compare(Scored.of(first, "the first"), Scored.of(second, "the second"), metric, resamples, rng_seed)


def compare(a: Scored, b: Scored, metric: Metric = MAE, resamples: int = 2000, rng_seed: int = 0) -> Comparison:
    """`paired_difference` of errors in order; `CgatError` when the test crystals differ."""
    a.require_same(b, "the first", "the second")
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

    The mean over splits, each the mean over its seeds, with the corrected interval of Nadeau and Bengio (Machine
    Learning 52, 239 (2003), doi:10.1023/A:1024068626366): training sets of different splits overlap,
    so that the variance of the mean of J splits is (1/J + n_test/n_train) times that between the splits.

    Args:
        splits: for every split the seeds of the first and of the second kind. n_train: training crystals (mean).

    Raises:
        CgatError: fewer than two splits; or as `paired_difference`, for any of them.
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
        first=corrected_interval(x, test_to_train),
        second=corrected_interval(y, test_to_train),
        difference=corrected_interval(x - y, test_to_train),
        reduction=corrected_interval(1 - x / y, test_to_train),
        seeds=(sum(len(a.errors) for a, _ in pairs), sum(len(b.errors) for _, b in pairs)),
        crystals=crystals,
        formulas=sum(a.formulas for a, _ in pairs),
        splits=len(pairs),
    )


def corrected_interval(values: Array, test_to_train: float, level: float = 0.95) -> Estimate:
    """Mean of values (J,) of J splits with the interval of Nadeau and Bengio; test_to_train is n_test / n_train."""
    splits, mean = len(values), float(np.mean(values))
    error = math.sqrt((1 / splits + test_to_train) * float(np.var(values, ddof=1)))
    half = float(stats.t.ppf((1 + level) / 2, splits - 1)) * error
    return Estimate(mean, mean - half, mean + half, level=level)


def metric_by_seed(scored: Scored, metric: Metric = MAE) -> Array:
    """The metric on the test set itself, (S,)."""
    return metric.of(scored, np.ones((1, len(scored.crystals))))[0]


def _estimate(value: float, samples: Array, scored: Scored) -> Estimate:
    """Percentile interval; resamples without a value are left out, a single formula leaves all open."""
    samples = samples[~np.isnan(samples)]
    if scored.formulas < 2 or len(samples) == 0:
        return Estimate(value, -math.inf, math.inf)
    return Estimate.of(value, samples)


def _resample(several: Sequence[Scored], metric: Metric, resamples: int, rng_seed: int) -> list[Array]:
    """For each of several kinds of run on one test set, the metric's mean over redrawn seeds and formulas, (R,)."""
    blocks: list[list[Array]] = [[] for _ in several]
    for weights in _weights(several[0].groups, resamples, rng_seed):
        for found, scored in zip(blocks, several, strict=True):
            found.append(metric.of(scored, weights))
    samples = []
    for found, scored in zip(blocks, several, strict=True):
        drawn = np.concatenate(found)  # (R, S)
        factors = _seed_factors(metric_by_seed(scored, metric), drawn, rng_seed)
        samples.append(np.minimum(drawn.mean(axis=1) * factors, metric.highest))
    return samples


def _weights(groups: NDArray[np.intp], resamples: int, rng_seed: int) -> Iterator[Array]:
    """How often each crystal was drawn, (R, T) in blocks of rows, formulas being drawn with replacement."""
    n = int(groups.max()) + 1
    rng = np.random.default_rng([rng_seed, n])
    step = max(1, _BLOCK // len(groups))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts.astype(float)[:, groups]


def _seed_factors(values: Array, drawn: Array, rng_seed: int) -> Array:
    """Factors (R,) by which the mean of the seeds' values (S,) may be off: exp of Student's t times the relative error.

    Normal draws of the seeds over one root of a chi-squared draw have a multivariate t distribution, so that the same
    draws serve several kinds of run and keep what these have in common. drawn (R, S) are the values of the seeds on
    redrawn formulas: what moves there differently from seed to seed is the part of the test crystals.
    """
    resamples, seeds = drawn.shape
    if seeds == 1 or not values.mean() > 0:
        return np.ones(resamples)
    deviations = values / values.mean() - 1
    with np.errstate(invalid="ignore"):
        interaction = drawn / drawn.mean(axis=1, keepdims=True)
    crystals = np.nanvar(interaction, axis=0).sum()  # both sums over the seeds carry the same factor 1 / (S - 1)
    between = (deviations**2).sum()
    kept = math.sqrt(max(0.0, 1 - crystals / between)) if between > 0 else 0.0
    rng = np.random.default_rng([rng_seed, seeds, 1])
    normal, squares = rng.standard_normal((resamples, seeds)), rng.chisquare(seeds - 1, resamples)
    exponents = kept * (normal @ deviations) / np.sqrt(seeds * squares)
    return np.exp(np.clip(exponents, -_FARTHEST, _FARTHEST))
