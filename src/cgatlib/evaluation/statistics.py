"""Resampling: how certain numbers are that were computed from test crystals and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]

_BLOCK = 4_000_000  # weights held at a time
_FARTHEST = 20.0  # two seeds draw exponents without bound; e^20 is as good as any


@dataclass(frozen=True)
class Estimate:
    """A number with its interval from resampling; `never` is the share of infinite resamples."""

    value: float
    low: float
    high: float
    never: float = 0.0
    level: float = 0.95

    @classmethod
    def of(cls, value: float, samples: Array, level: float = 0.95) -> Estimate:
        """Central percentile interval of samples (R,); infinite samples count as larger than any number."""
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(samples, tails, method="inverted_cdf")
        return cls(float(value), float(low), float(high), float(np.isinf(samples).mean()), level)


def corrected_interval(values: Array, test_to_train: float, level: float = 0.95) -> Estimate:
    """Mean of values (J,) of J splits with the interval of Nadeau and Bengio; test_to_train is n_test / n_train."""
    splits, mean = len(values), float(np.mean(values))
    error = math.sqrt((1 / splits + test_to_train) * float(np.var(values, ddof=1)))
    half = float(stats.t.ppf((1 + level) / 2, splits - 1)) * error
    return Estimate(mean, mean - half, mean + half, level=level)


def formula_weights(groups: NDArray[np.intp], resamples: int, rng_seed: int) -> Iterator[Array]:
    """How often each crystal was drawn, (R, T) in blocks of rows, formulas being drawn with replacement."""
    n = int(groups.max()) + 1
    rng = np.random.default_rng([rng_seed, n])
    step = max(1, _BLOCK // len(groups))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts.astype(float)[:, groups]


def seed_factors(values: Array, drawn: Array, rng_seed: int) -> Array:
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


def histogram_edges(values: ArrayLike, *, bins: int = 60, coverage: float = 0.995) -> list[float]:
    """Edges (bins + 1,) of equal bins that span the central share `coverage` of the values, ends rounded outwards.

    Rounded, they are nobody's value.
    """
    known = np.asarray(values, dtype=float)
    low, high = np.quantile(known, [(1 - coverage) / 2, (1 + coverage) / 2])
    low = known.min() if low - known.min() < 0.02 * (high - low) else low  # a bound such as zero is shown
    if not high > low:
        low, high = low - 0.5, low + 0.5
    step = 10.0 ** np.floor(np.log10((high - low) / 100))
    ends = np.floor(low / step) * step, np.ceil(high / step) * step
    return np.linspace(*ends, bins + 1).round(10).tolist()
