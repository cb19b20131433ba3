"""Test errors of kinds of run: weighted metrics with intervals, paired comparisons, splits, leakage.

A metric takes `Scored` errors of S seeds on T crystals and weights (R, T), the number of times each crystal was drawn,
and gives (R, S). With weights of 1 it is the metric of scikit-learn's name. A resample without any crystal the metric
speaks of gives NaN. Neither torch nor the crystals or their labels are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatlib.errors import CgatError
from cgatlib.evaluation.statistics import Array, Estimate, mean_interval, redraw_formulas, seed_factors
from cgatlib.runs.tested import SEEN

Seeds = Sequence[pd.DataFrame]
"""Errors of the seeds of one kind of run: tables as `cgatlib.runs.tested` describes them."""

_SHOWN = 3  # crystals named in a message


@dataclass(frozen=True, eq=False)
class Scored:
    """Test crystals in the order of their digests, with the errors of all seeds.

    Attributes:
        crystals: (T,) digests. groups: (T,) number of each crystal's formula, from 0: what is drawn together.
        errors: (S, T) absolute, in the label's unit. non_metals: (T,) and levels: (S, T), of band gaps, or None.
        seen: (T,) how close pre-training came, or None.
    """

    crystals: NDArray[np.uint64]
    groups: NDArray[np.intp]
    errors: Array
    non_metals: NDArray[np.bool_] | None = None
    levels: NDArray[np.int32] | None = None
    seen: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, seeds: Seeds | Scored, name: str = "the errors") -> Scored:
        """Bring the errors of the seeds into one order; those that are already stay as they are.

        Raises:
            CgatError: there are no seeds, two seeds have other test crystals, or an error is not finite.
        """
        if isinstance(seeds, Scored):
            return seeds
        if not seeds:
            raise CgatError(f"{name}: no seed was given")
        parts = [frame.set_index("crystal").sort_index() for frame in seeds]
        first = parts[0]
        for i, part in enumerate(parts, start=1):
            _require_same(first.index, part.index, f"{name}, seed number 1", f"seed number {i}")
            if not np.isfinite(part["error"]).all():
                raise CgatError(f"{name}, seed number {i}: an error is not finite")
        gaps = all("level" in part for part in parts)
        return cls(
            crystals=first.index.to_numpy(),
            groups=_renumbered(first["group"].to_numpy()),
            errors=np.abs(np.stack([part["error"].to_numpy(dtype=float) for part in parts])),
            non_metals=first["non_metal"].to_numpy() if gaps else None,
            levels=np.stack([part["level"].to_numpy() for part in parts]) if gaps else None,
            seen=first["seen"].to_numpy(dtype=str) if "seen" in first else None,
        )

    @cached_property
    def formulas(self) -> int:
        """Number of different formulas."""
        return int(self.groups.max()) + 1

    @property
    def kinds(self) -> NDArray[np.bool_]:
        """Which crystals (T,) are non-metals; `CgatError` where that is not known, as of no label but the band gap."""
        if self.non_metals is None:
            raise CgatError("only errors of band gaps tell metals from non-metals")
        return self.non_metals

    def at(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Scored:
        """The crystals `rows` alone."""
        return Scored(
            self.crystals[rows],
            _renumbered(self.groups[rows]),
            self.errors[:, rows],
            None if self.non_metals is None else self.non_metals[rows],
            None if self.levels is None else self.levels[:, rows],
            None if self.seen is None else self.seen[rows],
        )


def _renumbered(groups: NDArray[np.integer]) -> NDArray[np.intp]:
    """The same groups in the same order, numbered without gaps."""
    return np.unique(groups, return_inverse=True)[1]


def _require_same(first: pd.Index, second: pd.Index, first_name: str, second_name: str) -> None:
    sides = [
        f"only {name} has {_some(only)}"
        for name, only in ((first_name, first.difference(second)), (second_name, second.difference(first)))
        if len(only)
    ]
    if sides:
        raise CgatError(f"the test crystals differ: {' and '.join(sides)}")


def _some(crystals: pd.Index) -> str:
    """The first few digests and the number of all, for messages."""
    named = ", ".join(f"{int(i):016x}" for i in crystals[:_SHOWN])
    return f"{named} and {len(crystals) - _SHOWN} more" if len(crystals) > _SHOWN else named


@dataclass(frozen=True)
class Metric:
    """A non-negative number that describes predictions: its name, function, and the largest value it can take."""

    name: str
    of: Callable[[Scored, Array], Array]
    highest: float = np.inf


def _share(part: Array, whole: Array) -> Array:
    """part (R, S) over whole (R,) or (R, S), NaN where the whole is nothing."""
    whole = whole.reshape(len(whole), -1)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mae(scored: Scored, weights: Array) -> Array:
    return _share(weights @ scored.errors.T, weights.sum(axis=1))


def _open_gap_mae(scored: Scored, weights: Array) -> Array:
    return _mae(scored.at(scored.kinds), weights[:, scored.kinds])


def _balanced_accuracy(scored: Scored, weights: Array) -> Array:
    non_metals, called = scored.kinds, (_levels(scored) > 0).astype(float)
    found, wrong = (
        _share(weights[:, kind] @ called[:, kind].T, weights[:, kind].sum(axis=1)) for kind in (non_metals, ~non_metals)
    )
    return (found + 1 - wrong) / 2


def _roc_auc(scored: Scored, weights: Array) -> Array:
    is_open = scored.kinds
    return np.stack([_area(levels, weights * is_open, weights * ~is_open) for levels in _levels(scored)], axis=1)


def _levels(scored: Scored) -> Array:
    """(S, T); as of `Scored.kinds`, there are none but of band gaps."""
    return np.asarray(scored.levels, dtype=float)


def _area(scores: Array, positives: Array, negatives: Array) -> Array:
    """Share of pairs (positive, negative), weights (R, T), that scores (T,) put in order; equal scores count half."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    positives = np.add.reduceat(positives[:, order], starts, axis=1)  # (R, distinct scores)
    negatives = np.add.reduceat(negatives[:, order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _share((positives * below).sum(axis=1, keepdims=True), pairs)[:, 0]


MAE = Metric("MAE", _mae)
OPEN_GAP_MAE = Metric("MAE of the non-metals", _open_gap_mae)
BALANCED_ACCURACY = Metric("balanced accuracy", _balanced_accuracy, 1.0)
ROC_AUC = Metric("ROC AUC", _roc_auc, 1.0)


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
    """A metric of one kind of run, mean over its seeds, with its 95 % interval; errors as of `Scored.of`."""
    scored = Scored.of(seeds)
    (samples,) = _resample([scored], metric)
    return _estimate(float(metric_by_seed(scored, metric).mean()), samples, scored)


def compare(first: Seeds | Scored, second: Seeds | Scored, metric: Metric = MAE) -> Comparison:
    """Compare two kinds of run on the same test crystals.

    Where both have the same number of seeds, the i-th of one is paired with the i-th of the other, which is right
    whether or not they have anything in common; otherwise the seeds count as independent.

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
        CgatError: as `compare`, for any of them.
    """
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
    _require_same(pd.Index(a.crystals), pd.Index(b.crystals), name, other_name)
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
    """What it is worth to have been pre-trained on the test crystals, by the values of `SEEN`.

    The crystals of which pre-training has seen nothing tell how far the two differ for other reasons.

    Args:
        clean: errors after pre-training without the test crystals and their formulas, one table per seed.
        seen: errors on the same crystals after pre-training that may have held them, which their column ``seen`` says.

    Raises:
        CgatError: the test crystals differ, or it is not known what pre-training has seen.
    """
    a, b = _pair(seen, clean, "the seen runs", "the clean runs")
    if a.seen is None:
        raise CgatError("the seen runs do not say which test crystals their pre-training has seen")
    parts = {name: a.seen == name for name in SEEN}
    return {name: compare(a.at(rows), b.at(rows)) for name, rows in parts.items() if rows.any()}
