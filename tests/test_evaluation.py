"""Intervals, paired comparisons, classification and leakage on made-up errors with known answers."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cgatlib import CgatError
from cgatlib.crystals.crystal import GAP_THRESHOLD
from cgatlib.evaluation.comparison import (
    BALANCED_ACCURACY,
    MAE,
    OPEN_GAP_MAE,
    ROC_AUC,
    Scored,
    compare,
    leakage_ratio,
    over_splits,
    score_interval,
)
from cgatlib.evaluation.statistics import mean_interval
from cgatlib.runs.tested import SEEN, digests, errors_of, levels, seen_in

METALS = "Li Na K Rb Cs Mg Ca Sr Ba Sc Y Ti Zr V Nb".split()
ANIONS = "F Cl Br I O S Se Te N P As Sb".split()


def ids_of(n):
    return [f"x-{i:05d}" for i in range(n)]


def formulas_of(n, polymorphs=1):
    """Formulas in the order of the ids; neighbours in the list are polymorphs."""
    names = [f"{a}{k}{b}" for k in range(2, 12) for a in METALS for b in ANIONS]
    return [names[place // polymorphs] for place in range(n)]


def frames(errors, targets=None, label="e_form", polymorphs=1, **columns):
    """Tables of these errors, (S, T) or (T,)."""
    errors = np.atleast_2d(errors)
    n = errors.shape[1]
    targets = np.linspace(-3, 1, n) if targets is None else targets
    columns |= {"material_id": ids_of(n), "formula": formulas_of(n, polymorphs), "target": targets}
    return [errors_of(pd.DataFrame({**columns, "prediction": targets + row}), label) for row in errors]


def digest(place, n=400):
    """How a message names the crystal at a place."""
    return f"{int(digests(ids_of(n), formulas_of(n))[place]):016x}"


def width(estimate):
    return estimate.high - estimate.low


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def errors(rng):
    """Absolute errors of three seeds on 400 crystals, (3, 400)."""
    return np.exp(rng.normal(0, 0.7, 400) + rng.normal(0, 0.3, (3, 400))) * np.array([[1.0], [1.03], [0.97]])


class TestIntervals:
    def test_value_is_the_mean_absolute_error_over_seeds(self, errors):
        score = score_interval(frames(errors * [[1], [-1], [1]]))
        assert score.value == pytest.approx(errors.mean())
        assert score.low < errors.mean() < score.high

    def test_one_seed_has_the_interval_of_the_test_set(self, errors):
        expected = 2 * 1.96 * errors[0].std() / 20
        assert width(score_interval(frames(errors[0]))) == pytest.approx(expected, rel=0.08)

    def test_polymorphs_count_once(self, errors):
        twice = np.repeat(errors[0], 2)
        once = score_interval(frames(errors[0]))
        together = score_interval(frames(twice, polymorphs=2))
        apart = score_interval(frames(twice))
        assert width(together) == pytest.approx(width(once), rel=0.05)
        assert width(apart) == pytest.approx(width(once) / math.sqrt(2), rel=0.1)

    def test_where_seeds_dominate_the_interval_is_students(self):
        seeds = np.array([0.98, 1.00, 1.03])
        score = score_interval(frames(np.outer(seeds, np.ones(50))))
        half = stats.t.ppf(0.975, 2) * seeds.std(ddof=1) / math.sqrt(3) / seeds.mean()
        assert np.log(score.high / score.low) / 2 == pytest.approx(half, rel=0.15)

    def test_seeds_that_scatter_by_chance_of_the_crystals_add_little(self, rng):
        ratios = []
        for _ in range(20):
            own = rng.exponential(size=(3, 300))
            ratios.append(width(score_interval(frames(own))) / (2 * 1.96 / math.sqrt(900)))
        assert 0.9 < np.median(ratios) < 1.4

    def test_two_seeds_give_a_wide_but_finite_interval(self, errors):
        estimate = score_interval(frames(errors[:2] * [[1], [1.3]]))
        assert 0 < estimate.low < estimate.value / 2
        assert math.isfinite(estimate.high)

    def test_a_single_formula_leaves_everything_open(self, errors):
        estimate = score_interval(frames(errors[:, :5], polymorphs=5))
        assert (estimate.low, estimate.high) == (-math.inf, math.inf)

    def test_draws_repeat(self, errors):
        assert score_interval(frames(errors)) == score_interval(frames(errors))


class TestPairedDifference:
    def test_what_both_share_cancels(self, errors, rng):
        other = 0.9 * errors * np.exp(rng.normal(0, 0.05, 400))
        found = compare(frames(other), frames(errors))
        assert found.reduction.value == pytest.approx(1 - other.mean() / errors.mean())
        assert found.ratio.value == pytest.approx(other.mean() / errors.mean())
        assert width(found.ratio) == pytest.approx(width(found.reduction))
        assert 0.08 < found.reduction.low < found.reduction.high < 0.12
        assert width(found.reduction) < width(found.second) / found.second.value / 5

    def test_equal_predictions_differ_by_nothing(self, errors):
        found = compare(frames(errors), frames(errors))
        assert (found.reduction.low, found.reduction.high) == (0, 0)

    def test_several_seeds_against_one(self, errors):
        found = compare(frames(errors), frames(2 * errors[0]))
        assert found.reduction.low < 0.5 < found.reduction.high

    def test_order_of_rows_does_not_matter(self, errors, rng):
        first, second = frames(errors), frames(1.1 * errors)
        shuffled = [frame.sample(frac=1, random_state=int(rng.integers(99))) for frame in first]
        assert compare(shuffled, second) == compare(first, second)

    def test_other_metrics_are_compared_too(self, rng):
        gaps = np.where(np.arange(200) % 2 == 0, 0.0, 2.0)
        good, bad = (frames(rng.normal(0, sd, (3, 200)), gaps, "band_gap") for sd in (0.05, 1.0))
        found = compare(good, bad, BALANCED_ACCURACY)
        assert found.reduction.high < -0.1
        assert found.first.high <= 1

    def test_other_crystals_are_refused_by_name(self, errors):
        first, second = frames(errors), frames(errors)
        second = [frame.assign(crystal=[np.uint64(1), *frame["crystal"][1:]]) for frame in second]
        sentence = f"test crystals differ: only the first has {digest(0)} and only the second has 0000000000000001$"
        with pytest.raises(CgatError, match=sentence):
            compare(first, second)

    def test_predictions_in_order_are_checked_too(self, errors):
        whole = Scored.of(frames(errors))
        with pytest.raises(CgatError, match=r"test crystals differ: only the second has .* and 387 more$"):
            compare(whole.at(np.arange(10)), whole)

    def test_missing_crystals_are_counted(self, errors):
        with pytest.raises(CgatError, match=r"only the second has .* and 297 more$"):
            compare(frames(errors[:, :100], np.linspace(-3, 1, 400)[:100]), frames(errors))


class TestPredictions:
    def test_no_seed(self):
        with pytest.raises(CgatError, match="no seed was given"):
            score_interval([])

    def test_errors_that_are_not_finite(self, errors):
        first, broken = frames(errors[:2])
        with pytest.raises(CgatError, match="the errors, seed number 2: an error is not finite"):
            score_interval([first, broken.assign(error=[*broken["error"][1:], math.nan])])

    def test_seeds_on_other_crystals(self, errors):
        first, other = frames(errors[:2])
        with pytest.raises(CgatError, match=f"only the errors, seed number 1 has {digest(399)}$"):
            score_interval([first, other[other["crystal"] != digests(ids_of(400), formulas_of(400))[399]]])


class TestRepeatedSplits:
    def test_mean_over_splits_with_the_corrected_interval(self, rng):
        splits = []
        for _ in range(5):
            own = rng.exponential(size=(2, 80))
            splits.append((frames(0.8 * own), frames(own)))
        found = over_splits(splits, n_train=400)
        maes = [np.mean([f["error"].abs().mean() for f in none]) for _, none in splits]
        half = stats.t.ppf(0.975, 4) * np.std(maes, ddof=1) * math.sqrt(1 / 5 + 80 / 400)
        assert found.second.value == pytest.approx(np.mean(maes))
        assert found.second.high == pytest.approx(np.mean(maes) + half)
        assert found.reduction.value == pytest.approx(0.2)
        assert width(found.reduction) == pytest.approx(0, abs=1e-9)
        assert found.crystals == 400

    def test_smaller_training_sets_give_wider_intervals(self, rng):
        splits = [(frames(rng.exponential(size=80)), frames(rng.exponential(size=80))) for _ in range(4)]
        large, small = (over_splits(splits, n_train=n) for n in (8000, 100))
        assert width(small.reduction) > 1.5 * width(large.reduction)
        assert small.reduction.value == large.reduction.value

    def test_a_split_with_other_crystals_is_named(self, errors):
        good = (frames(errors), frames(errors))
        bad = (frames(errors), frames(errors[:, :9], np.linspace(-3, 1, 400)[:9]))
        with pytest.raises(CgatError, match="only the first of split number 2 has"):
            over_splits([good, bad], n_train=1000)

    def test_the_textbook_interval_without_overlap(self):
        estimate = mean_interval(np.array([1.0, 2.0, 3.0]), 0.0)
        half = stats.t.ppf(0.975, 2) / math.sqrt(3)
        assert (estimate.low, estimate.value, estimate.high) == pytest.approx((2 - half, 2, 2 + half))


class TestMetrics:
    @pytest.fixture
    def gaps(self, rng):
        """Targets (150,), predictions (2, 150) with many equal values, weights (3, 150); what is kept and its order."""
        targets = np.where(rng.random(150) < 0.5, 0.0, rng.exponential(1.5, 150))
        predictions = np.round(targets + rng.normal(0, 0.5, (2, 150)), 1)
        weights = np.vstack([np.ones(150), rng.integers(0, 4, (2, 150))])
        names = {"material_id": ids_of(150), "formula": formulas_of(150), "target": targets}
        kept = Scored.of([errors_of(pd.DataFrame({**names, "prediction": row}), "band_gap") for row in predictions])
        return targets, predictions, weights, kept, np.argsort(digests(ids_of(150), formulas_of(150)))

    def test_metrics_are_those_of_scikit_learn(self, gaps):
        from sklearn import metrics

        targets, predictions, weights, scored, order = gaps
        truth = targets > GAP_THRESHOLD
        expected = {
            BALANCED_ACCURACY: lambda p, w: metrics.balanced_accuracy_score(truth, p > GAP_THRESHOLD, sample_weight=w),
            ROC_AUC: lambda p, w: metrics.roc_auc_score(truth, p, sample_weight=w),
            MAE: lambda p, w: metrics.mean_absolute_error(targets, p, sample_weight=w),
            OPEN_GAP_MAE: lambda p, w: metrics.mean_absolute_error(targets[truth], p[truth], sample_weight=w[truth]),
        }
        for metric, function in expected.items():
            values = [[function(p, w) for p in predictions] for w in weights]
            assert metric.of(scored, weights[:, order]) == pytest.approx(np.array(values)), metric.name

    def test_a_resample_without_one_class_has_no_value(self, gaps):
        targets, _, _, scored, order = gaps
        weights = (targets <= GAP_THRESHOLD).astype(float)[None]
        for metric in (BALANCED_ACCURACY, ROC_AUC, OPEN_GAP_MAE):
            assert np.isnan(metric.of(scored, weights[:, order])).all(), metric.name

    @pytest.mark.parametrize(("called", "score", "mae"), [(np.array, 1, 0), (lambda gaps: 0 * gaps + 1, 0.5, 0.5)])
    def test_perfect_gaps_and_a_constant(self, called, score, mae):
        gaps = np.where(np.arange(60) < 20, 0.0, 1.5)
        scored = Scored.of(frames(np.tile(called(gaps) - gaps, (2, 1)), gaps, "band_gap"))
        for metric in (BALANCED_ACCURACY, ROC_AUC):
            found = score_interval(scored, metric)
            assert (found.low, found.value, found.high) == (score, score, score)
        assert score_interval(scored, OPEN_GAP_MAE).value == pytest.approx(mae)

    def test_energies_are_no_classification(self, errors):
        with pytest.raises(CgatError, match="only errors of band gaps tell metals from non-metals"):
            score_interval(frames(errors), ROC_AUC)

    def test_levels_keep_the_order_between_kinds_alone(self):
        gaps = np.array([0.0, 0.05, 0.3, 0.7, 0.7, 0.9, 1.2, 4.0, 5.0])
        non_metal = np.array([0, 0, 0, 1, 0, 1, 1, 1, 1], dtype=bool)
        assert levels(gaps, non_metal).tolist() == [0, 0, 1, 2, 2, 3, 3, 3, 3]
        assert levels(gaps[::-1], non_metal[::-1]).tolist() == [3, 3, 3, 3, 2, 2, 1, 0, 0]
        assert levels(gaps[2:], non_metal[2:]).tolist() == [1, 2, 2, 3, 3, 3, 3]


class TestLeakage:
    def test_categories(self):
        found = seen_in(["a", "b", "c"], ["NaCl", "KCl", "LiF"], {"a", "z"}, {"NaCl", "KCl"})
        assert found == list(SEEN) == ["same id in pre-training", "same formula only", "neither"]

    def test_ratio_by_category(self, errors):
        factors = np.repeat([0.5, 0.8, 1.0], [100, 100, 200])
        found = leakage_ratio(frames(errors), frames(factors * errors, seen=np.repeat(SEEN, [100, 100, 200])))
        assert {name: round(c.ratio.value, 9) for name, c in found.items()} == {
            "same id in pre-training": 0.5,
            "same formula only": 0.8,
            "neither": 1.0,
        }
        assert found["neither"].crystals == 200
        assert found["same id in pre-training"].ratio.high < 0.51

    def test_runs_that_do_not_tell_are_refused(self, errors):
        with pytest.raises(CgatError, match="do not say which test crystals their pre-training has seen"):
            leakage_ratio(frames(errors), frames(errors))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    mean_error = math.exp((0.6**2 + 0.3**2 + 0.5**2) / 2)
    held = np.zeros(2)
    for _ in range(300):
        common = np.repeat(np.exp(rng.normal(0, 0.6, 300)), 2)
        own = [np.exp(rng.normal(0, 0.3, 600)) * np.exp(rng.normal(0, 0.5, (3, 600))) for _ in range(2)]
        seeds = [1 + rng.normal(0, 0.03, (3, 1)) for _ in range(2)]
        full, none = (frames(common * o * s * f, polymorphs=2) for o, s, f in zip(own, seeds, (0.9, 1.0), strict=True))
        found = compare(full, none)
        held += [found.second.low < mean_error < found.second.high, found.reduction.low < 0.1 < found.reduction.high]
    assert (held / 300 > 0.92).all(), held / 300


@pytest.mark.slow
def test_torch_is_not_needed():
    code = "import sys, cgatlib.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
