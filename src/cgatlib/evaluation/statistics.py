"""How certain a number is that follows from test crystals and seeds: the one resampler under every interval.

Two things are uncertain: which compositions the test set happens to hold, and which seeds were run. Compositions are
resampled with replacement, all polymorphs of a formula together (Field and Welsh, J. R. Stat. Soc. B 69, 369 (2007),
doi:10.1111/j.1467-9868.2007.00593.x). Seeds are too few for that: three of them drawn with replacement understate
their own scatter. The mean of the runs of one kind is multiplied in every resample by a draw from Student's t
distribution instead, so that the interval is the usual one of a mean where the seeds dominate. Of the variance between
seeds, the part that is there because the test crystals are few is taken off first (the interaction of a two-way
analysis of variance): the resampled formulas hold it already. A single seed says nothing about other seeds; its
interval is that of the test set alone, unless a scatter is known from elsewhere.

All draws depend on the number of formulas, the training size and the number of seeds only. Kinds of run that share
these are therefore resampled in pairs, and what they have in common cancels in their difference or crossing.

The intervals rely on large numbers of formulas: with sixty of them and errors of a long-tailed distribution those of a
MAE hold the true one in about 90 % of simulated test sets, with some hundreds in 95 to 97 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]

RESAMPLES = 2000
TAILS = [(1 - 0.95) / 2, (1 + 0.95) / 2]
_BLOCK = 4_000_000  # weights held at a time
_FARTHEST = 20.0  # two seeds draw exponents without bound; e^20 is as good as any


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; `never` is the share of infinite resamples."""

    value: float
    low: float
    high: float
    never: float = 0.0

    @classmethod
    def of(cls, value: float, samples: Array) -> Estimate:
        """Central percentile interval of samples (R,); infinite ones count as larger than any number, NaN not."""
        samples = samples[~np.isnan(samples)]
        if len(samples) == 0:
            return cls(float(value), -math.inf, math.inf)
        low, high = np.quantile(samples, TAILS, method="inverted_cdf")
        return cls(float(value), float(low), float(high), float(np.isinf(samples).mean()))

    def text(self, shown: Callable[[float], str], to: str = ", ") -> str:
        """The number and, in brackets, the ends of its interval."""
        return f"{shown(self.value)} [{shown(self.low)}{to}{shown(self.high)}]"


def mean_interval(values: ArrayLike, test_to_train: float = 0.0) -> Estimate:
    """Mean of values (J,) of seeds or splits with Student's interval; infinitely wide for a single value.

    Training sets of different splits overlap, so that the variance of the mean of J splits is (1/J + n_test/n_train)
    times that between the splits (Nadeau and Bengio, Machine Learning 52, 239 (2003), doi:10.1023/A:1024068626366).
    """
    values = np.asarray(values, dtype=float)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Estimate(mean, -math.inf, math.inf)
    error = math.sqrt((1 / n + test_to_train) * float(values.var(ddof=1)))
    half = float(stats.t.ppf(TAILS[1], n - 1)) * error
    return Estimate(mean, mean - half, mean + half)


def redraw_formulas(metric: Callable[[Array], Array], groups: NDArray[np.integer]) -> Array:
    """Values of P runs on redrawn test crystals, (R, P).

    Args:
        metric: values (r, P) of the runs for weights (r, T), how often each test crystal was drawn.
        groups: (T,) number of each crystal's formula from 0: what is drawn together.
    """
    n = int(groups.max()) + 1
    rng = np.random.default_rng([0, n])
    step = max(1, _BLOCK // len(groups))
    blocks = []
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        blocks.append(metric(counts.astype(float)[:, groups]))
    return np.concatenate(blocks)


def seed_factors(values: Array, drawn: Array, sizes: ArrayLike = 0, scatter: Array | None = None) -> Array:
    """What the mean of the runs of a size may be off by: factors (R, P), equal for the runs of a size.

    Normal draws, one for each run, that multiply its deviation from the mean, over one root of a chi-squared draw have
    a multivariate t distribution: the same draws serve several kinds of run and keep what these have in common.

    Args:
        values: (P,) of the runs. drawn: (R, P), on redrawn formulas.
        sizes: (P,) training sizes, or one number: the runs of a size are seeds of each other.
        scatter: (R,) relative standard deviation of a run that is the only one of its size; that of the other sizes
            where it is not given and there are any, else none.
    """
    sizes = np.broadcast_to(sizes, values.shape)
    parts = {size: np.flatnonzero(sizes == size) for size in np.unique(sizes)}
    free = len(values) - len(parts)
    kept = between_runs(*(_relative(x, list(parts.values())) for x in (values[None], drawn)))
    root = student_root(free) if free else np.zeros(RESAMPLES)
    if scatter is None:
        scatter = root * math.sqrt((kept**2).sum() / max(free, 1))
    alone = np.random.default_rng([0, *values.view(np.uint32)])  # unrelated between kinds of run
    exponents = np.empty_like(drawn)
    for size, part in parts.items():
        runs = len(part)
        if runs == 1:
            exponents[:, part] = (scatter * alone.standard_normal(RESAMPLES))[:, None]
            continue
        normal = np.random.default_rng([0, round(size), runs]).standard_normal((RESAMPLES, runs))
        exponents[:, part] = (root * (normal @ kept[part]) / math.sqrt(runs * (runs - 1)))[:, None]
    return np.exp(np.clip(exponents, -_FARTHEST, _FARTHEST))


def student_root(free: int) -> Array:
    """(R,) draws that make normal draws those of Student's t with `free` degrees of freedom."""
    return np.sqrt(free / np.random.default_rng([0, free, 1]).chisquare(free, RESAMPLES))


def between_runs(deviations: Array, redrawn: Array) -> Array:
    """Deviations (P,) between runs, of (1, P), without the part that the finite test set has in them.

    What runs differ by on redrawn crystals, (R, P), beyond what they differ by anyway, is due to the crystals, and the
    redrawn values hold it already.
    """
    total, crystals = float((deviations**2).sum()), float(np.nanvar(redrawn, axis=0).sum())
    return deviations[0] * math.sqrt(max(0.0, 1 - crystals / total) if total > 0 else 0.0)


def _relative(values: Array, parts: Iterable[NDArray[np.intp]]) -> Array:
    """Relative deviations (R, P) of values from the mean of their part; none where that is zero."""
    deviations = np.zeros_like(values)
    for part in parts:
        mean = values[:, part].mean(axis=1, keepdims=True)
        deviations[:, part] = np.divide(values[:, part] - mean, mean, where=mean != 0, out=deviations[:, part])
    return deviations


def histogram_edges(values: ArrayLike) -> list[float]:
    """Edges (61,) of equal bins that span the central 99.5 % of the values, ends rounded outwards: nobody's value."""
    known = np.asarray(values, dtype=float)
    low, high = np.quantile(known, [(1 - 0.995) / 2, 0.9975])
    low = known.min() if low - known.min() < 0.02 * (high - low) else low  # a bound such as zero is shown
    if not high > low:
        low, high = low - 0.5, low + 0.5
    step = 10.0 ** np.floor(np.log10((high - low) / 100))
    ends = np.floor(low / step) * step, np.ceil(high / step) * step
    return np.linspace(*ends, 61).round(10).tolist()
