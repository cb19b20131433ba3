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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cgatlib.errors import CgatError
from cgatlib.evaluation.metrics import BALANCED_ACCURACY, F1, MAE, OPEN_GAP_MAE, ROC_AUC, Metric, Scored, Seeds
from cgatlib.evaluation.statistics import Array, Estimate, corrected_interval, formula_weights, seed_factors
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
    for weights in formula_weights(several[0].groups, resamples, rng_seed):
        for found, scored in zip(blocks, several, strict=True):
            found.append(metric.of(scored, weights))
    samples = []
    for found, scored in zip(blocks, several, strict=True):
        drawn = np.concatenate(found)  # (R, S)
        factors = seed_factors(metric_by_seed(scored, metric), drawn, rng_seed)
        samples.append(np.minimum(drawn.mean(axis=1) * factors, metric.highest))
    return samples


def report_table(kinds: Mapping[str, Seeds], reference: str = "none") -> pd.DataFrame:
    """All kinds of run for one target on one test set.

    Args:
        kinds: errors by the name of the kind of run (a transfer mode, a baseline), one table per seed.
        reference: the kind that the others are compared with.

    Returns:
        A row per kind: ``mode``, ``seeds``, ``crystals``, ``mae``, ``low``, ``high`` (95 % interval), ``spread``
        (standard deviation over seeds), ``reduction`` (1 - MAE / MAE of the reference, paired), ``reduction_low``,
        ``reduction_high``; the reference has no reduction.

    Raises:
        CgatError: the reference is not among the kinds, or a kind has other test crystals.
    """
    if reference not in kinds:
        raise CgatError(f"the reference {reference!r} is not there; the kinds are: {', '.join(kinds)}")
    scored = {name: Scored.of(seeds, repr(name)) for name, seeds in kinds.items()}
    rows = []
    for name, own in scored.items():
        own.require_same(scored[reference], repr(name), repr(reference))
        score = score_of(own)
        row = {"mode": name, "seeds": score.seeds, "crystals": score.crystals, "mae": score.estimate.value}
        row |= {"low": score.estimate.low, "high": score.estimate.high, "spread": score.spread}
        row |= dict.fromkeys(("reduction", "reduction_low", "reduction_high"), math.nan)
        if name != reference:
            gain = compare(own, scored[reference]).reduction
            row |= {"reduction": gain.value, "reduction_low": gain.low, "reduction_high": gain.high}
        rows.append(row)
    return pd.DataFrame(rows)


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
    """Score predicted band gaps as a classification, with intervals; compare two kinds of run by
    `paired_difference` with the metrics of `cgatlib.evaluation.metrics`.

    Raises:
        CgatError: the errors are not of band gaps, or of metals only or non-metals only; or as `Scored.of`.
    """
    scored = Scored.of(seeds)
    non_metals = int(scored.kinds.sum())
    metals = len(scored.crystals) - non_metals
    if 0 in (metals, non_metals):
        raise CgatError(f"a classification needs both kinds of crystal: {metals} metals, {non_metals} non-metals")
    return GapScores(
        balanced_accuracy=score_of(scored, BALANCED_ACCURACY),
        roc_auc=score_of(scored, ROC_AUC),
        f1=score_of(scored, F1),
        open_gap_mae=score_of(scored, OPEN_GAP_MAE),
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
