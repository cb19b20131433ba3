"""Weighted metrics, for all seeds and all resamples of the test crystals at once.

A metric takes `Scored` errors of S seeds on T crystals and weights (R, T), the number of times each crystal was drawn,
and gives (R, S). With weights of 1 it is the metric of scikit-learn's name. A resample without any crystal the metric
speaks of gives NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cgatlib.evaluation.scored import Array, Scored


@dataclass(frozen=True)
class Metric:
    """A non-negative number that describes predictions.

    Args:
        name: what it is called. of: the function. highest: the largest value it can take.
    """

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


def _calls(scored: Scored, weights: Array) -> tuple[Array, Array, Array, Array]:
    """True non-metals (R,), those found (R, S), true metals (R,), those called non-metals (R, S)."""
    is_open, called = scored.kinds, (_levels(scored) > 0).astype(float)
    open_weights, closed_weights = weights[:, is_open], weights[:, ~is_open]
    return (
        open_weights.sum(axis=1),
        open_weights @ called[:, is_open].T,
        closed_weights.sum(axis=1),
        closed_weights @ called[:, ~is_open].T,
    )


def _balanced_accuracy(scored: Scored, weights: Array) -> Array:
    positives, found, negatives, wrong = _calls(scored, weights)
    return (_share(found, positives) + 1 - _share(wrong, negatives)) / 2


def _f1(scored: Scored, weights: Array) -> Array:
    positives, found, _, wrong = _calls(scored, weights)
    return _share(2 * found, positives[:, None] + found + wrong)


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
F1 = Metric("F1 of the non-metals", _f1, 1.0)
