"""Intervals, paired comparisons, classification, leakage and failures on made-up predictions with known answers."""

import math
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cgatlib import CgatError
from cgatlib.evaluation import (
    BALANCED_ACCURACY,
    F1,
    GAP_THRESHOLD,
    MAE,
    OPEN_GAP_MAE,
    ROC_AUC,
    Scored,
    compare,
    corrected_interval,
    error_by_element,
    error_by_size,
    gap_scores,
    leak_categories,
    leakage_ratio,
    over_splits,
    paired_difference,
    report_table,
    restrict,
    score_interval,
    worst_crystals,
)

METALS = "Li Na K Rb Cs Mg Ca Sr Ba Sc Y Ti Zr V Nb".split()
ANIONS = "F Cl Br I O S Se Te N P As Sb".split()


def ids_of(n):
    return [f"x-{i:05d}" for i in range(n)]


def formulas_of(n, polymorphs=1):
    """Formulas by id; neighbours in the list are polymorphs."""
    names = [f"{a}{k}{b}" for k in range(2, 12) for a in METALS for b in ANIONS]
    return {i: names[place // polymorphs] for place, i in enumerate(ids_of(n))}


def frames(errors, targets=None):
    """Predictions with these errors, (S, T) or (T,)."""
    errors = np.atleast_2d(errors)
    targets = np.linspace(-3, 1, errors.shape[1]) if targets is None else targets
    columns = {"material_id": ids_of(errors.shape[1]), "target": targets}
    return [pd.DataFrame({**columns, "prediction": targets + row}) for row in errors]


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
        score = score_interval(frames(errors * [[1], [-1], [1]]), formulas_of(400))
        assert score.estimate.value == pytest.approx(errors.mean())
        assert score.spread == pytest.approx(errors.mean(axis=1).std(ddof=1))
        assert (score.seeds, score.crystals, score.formulas) == (3, 400, 400)
        assert score.estimate.low < errors.mean() < score.estimate.high

    def test_one_seed_has_the_interval_of_the_test_set(self, errors):
        score = score_interval(frames(errors[0]), formulas_of(400), resamples=5000)
        expected = 2 * 1.96 * errors[0].std() / 20
        assert width(score.estimate) == pytest.approx(expected, rel=0.06)
        assert math.isnan(score.spread)

    def test_polymorphs_count_once(self, errors):
        twice = np.repeat(errors[0], 2)
        once = score_interval(frames(errors[0]), formulas_of(400))
        together = score_interval(frames(twice), formulas_of(800, polymorphs=2))
        apart = score_interval(frames(twice), formulas_of(800))
        assert width(together.estimate) == pytest.approx(width(once.estimate), rel=0.05)
        assert width(apart.estimate) == pytest.approx(width(once.estimate) / math.sqrt(2), rel=0.1)

    def test_where_seeds_dominate_the_interval_is_students(self):
        seeds = np.array([0.98, 1.00, 1.03])
        score = score_interval(frames(np.outer(seeds, np.ones(50))), formulas_of(50), resamples=50_000)
        half = stats.t.ppf(0.975, 2) * seeds.std(ddof=1) / math.sqrt(3) / seeds.mean()
        assert np.log(score.estimate.high / score.estimate.low) / 2 == pytest.approx(half, rel=0.05)

    def test_seeds_that_scatter_by_chance_of_the_crystals_add_little(self, rng):
        ratios = []
        for _ in range(20):
            own = rng.exponential(size=(3, 300))
            score = score_interval(frames(own), formulas_of(300), resamples=500)
            ratios.append(width(score.estimate) / (2 * 1.96 / math.sqrt(900)))
        assert 0.9 < np.median(ratios) < 1.4

    def test_two_seeds_give_a_wide_but_finite_interval(self, errors):
        estimate = score_interval(frames(errors[:2] * [[1], [1.3]]), formulas_of(400)).estimate
        assert 0 < estimate.low < estimate.value / 2
        assert math.isfinite(estimate.high)

    def test_a_single_formula_leaves_everything_open(self, errors):
        estimate = score_interval(frames(errors[:, :5]), dict.fromkeys(ids_of(5), "NaCl")).estimate
        assert (estimate.low, estimate.high) == (-math.inf, math.inf)

    def test_draws_repeat_unless_another_seed_is_asked_for(self, errors):
        first, again = (score_interval(frames(errors), formulas_of(400)) for _ in range(2))
        assert first == again
        assert score_interval(frames(errors), formulas_of(400), rng_seed=1) != first
        assert score_interval(frames(errors), formulas_of(400), resamples=500) != first


class TestPairedDifference:
    def test_what_both_share_cancels(self, errors, rng):
        other = 0.9 * errors * np.exp(rng.normal(0, 0.05, 400))
        found = paired_difference(frames(other), frames(errors), formulas_of(400))
        assert found.difference.value == pytest.approx(other.mean() - errors.mean())
        assert found.reduction.value == pytest.approx(1 - other.mean() / errors.mean())
        assert found.ratio.value == pytest.approx(other.mean() / errors.mean())
        assert width(found.ratio) == pytest.approx(width(found.reduction))
        assert 0.08 < found.reduction.low < found.reduction.high < 0.12
        assert width(found.difference) < width(found.second) / 5
        assert found.difference.high < 0

    def test_equal_predictions_differ_by_nothing(self, errors):
        found = paired_difference(frames(errors), frames(errors), formulas_of(400))
        assert (found.difference.low, found.difference.high) == (0, 0)
        assert (found.reduction.low, found.reduction.high) == (0, 0)

    def test_several_seeds_against_one(self, errors):
        found = paired_difference(frames(errors), frames(2 * errors[0]), formulas_of(400))
        assert found.seeds == (3, 1)
        assert found.reduction.low < 0.5 < found.reduction.high

    def test_order_of_rows_does_not_matter(self, errors, rng):
        first, second = frames(errors), frames(1.1 * errors)
        shuffled = [frame.sample(frac=1, random_state=int(rng.integers(99))) for frame in first]
        assert paired_difference(shuffled, second, formulas_of(400)) == paired_difference(
            first, second, formulas_of(400)
        )

    def test_other_metrics_are_compared_too(self, rng):
        gaps = np.where(np.arange(200) % 2 == 0, 0.0, 2.0)
        good, bad = (frames(rng.normal(0, sd, (3, 200)), gaps) for sd in (0.05, 1.0))
        found = paired_difference(good, bad, formulas_of(200), BALANCED_ACCURACY)
        assert found.difference.low > 0.1
        assert found.first.high <= 1

    def test_other_crystals_are_refused_by_name(self, errors):
        first, second = frames(errors), frames(errors)
        second = [frame.assign(material_id=["y-1", "y-2", *frame["material_id"][2:]]) for frame in second]
        formulas = formulas_of(400) | {"y-1": "NaCl", "y-2": "KCl"}
        sentence = "test crystals differ: only the first has x-00000, x-00001 and only the second has y-1, y-2$"
        with pytest.raises(CgatError, match=sentence):
            paired_difference(first, second, formulas)

    def test_predictions_in_order_are_checked_too(self, errors):
        whole = Scored.of(frames(errors), formulas_of(400))
        with pytest.raises(CgatError, match=r"test crystals differ: only the second has x-00010"):
            compare(whole.at(np.arange(10)), whole)

    def test_missing_crystals_are_counted(self, errors):
        with pytest.raises(CgatError, match=r"only the second has x-00100, x-00101, x-00102 and 297 more$"):
            paired_difference(frames(errors[:, :100], np.linspace(-3, 1, 400)[:100]), frames(errors), formulas_of(400))

    def test_other_targets_are_refused_by_name(self, errors):
        second = frames(errors)
        second[1].loc[7, "target"] = 9.0
        with pytest.raises(
            CgatError, match=r"that of x-00007 is .* in the second, seed number 1 and 9 in seed number 2"
        ):
            paired_difference(frames(errors), second, formulas_of(400))
        with pytest.raises(CgatError, match="the targets of 400 test crystals differ"):
            paired_difference(frames(errors), frames(errors, np.zeros(400)), formulas_of(400))


class TestPredictions:
    def test_no_seed(self):
        with pytest.raises(CgatError, match="no seed was given"):
            score_interval([], {})

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda f: f.drop(columns="target"), "column 'target' is missing"),
            (lambda f: f[:0], "there is no test crystal"),
            (lambda f: pd.concat([f, f[:1]]), "x-00000 occurs twice"),
            (lambda f: f.assign(prediction=[*f["prediction"][1:], math.nan]), "x-00399 has .* not finite"),
            (lambda f: f.assign(material_id=["z", *f["material_id"][1:]]), "the formula of z is not known"),
        ],
    )
    def test_bad_tables_are_refused(self, errors, change, sentence):
        with pytest.raises(CgatError, match=f"the predictions.*{sentence}"):
            score_interval([change(frames(errors)[0])], formulas_of(400))

    def test_restricting_keeps_the_named_crystals(self, errors):
        kept = restrict(frames(errors), ["x-00005", "x-00003"])
        assert [frame["material_id"].tolist() for frame in kept] == [["x-00003", "x-00005"]] * 3
        with pytest.raises(CgatError, match="w-1 of the wanted crystals have no prediction"):
            restrict(frames(errors), ["x-00005", "w-1"])


class TestRepeatedSplits:
    def test_mean_over_splits_with_the_corrected_interval(self, rng):
        splits = []
        for _ in range(5):
            own = rng.exponential(size=(2, 80))
            splits.append((frames(0.8 * own), frames(own)))
        found = over_splits(splits, formulas_of(80), n_train=400)
        maes = [np.mean([np.abs(f["prediction"] - f["target"]).mean() for f in none]) for _, none in splits]
        half = stats.t.ppf(0.975, 4) * np.std(maes, ddof=1) * math.sqrt(1 / 5 + 80 / 400)
        assert found.second.value == pytest.approx(np.mean(maes))
        assert found.second.high == pytest.approx(np.mean(maes) + half)
        assert found.reduction.value == pytest.approx(0.2)
        assert width(found.reduction) == pytest.approx(0, abs=1e-9)
        assert (found.splits, found.seeds, found.crystals, found.formulas) == (5, (10, 10), 400, 80)

    def test_smaller_training_sets_give_wider_intervals(self, rng):
        splits = [(frames(rng.exponential(size=80)), frames(rng.exponential(size=80))) for _ in range(4)]
        large, small = (over_splits(splits, formulas_of(80), n_train=n) for n in (8000, 100))
        assert width(small.difference) > 1.5 * width(large.difference)
        assert small.difference.value == large.difference.value

    def test_one_split_is_refused(self, errors):
        with pytest.raises(CgatError, match="at least two"):
            over_splits([(frames(errors), frames(errors))], formulas_of(400), n_train=1000)

    def test_a_split_with_other_crystals_is_named(self, errors):
        good = (frames(errors), frames(errors))
        bad = (frames(errors), frames(errors[:, :9], np.linspace(-3, 1, 400)[:9]))
        with pytest.raises(CgatError, match="only the first of split number 2 has"):
            over_splits([good, bad], formulas_of(400), n_train=1000)

    def test_the_textbook_interval_without_overlap(self):
        estimate = corrected_interval(np.array([1.0, 2.0, 3.0]), 0.0)
        half = stats.t.ppf(0.975, 2) / math.sqrt(3)
        assert (estimate.low, estimate.value, estimate.high) == pytest.approx((2 - half, 2, 2 + half))


class TestMetrics:
    @pytest.fixture
    def gaps(self, rng):
        """Targets (150,), predictions (2, 150) with many equal values, weights (3, 150)."""
        targets = np.where(rng.random(150) < 0.5, 0.0, rng.exponential(1.5, 150))
        predictions = np.round(targets + rng.normal(0, 0.5, (2, 150)), 1)
        weights = np.vstack([np.ones(150), rng.integers(0, 4, (2, 150))])
        return targets, predictions, weights

    def test_metrics_are_those_of_scikit_learn(self, gaps):
        from sklearn import metrics

        targets, predictions, weights = gaps
        truth = targets > GAP_THRESHOLD
        expected = {
            BALANCED_ACCURACY: lambda p, w: metrics.balanced_accuracy_score(truth, p > GAP_THRESHOLD, sample_weight=w),
            F1: lambda p, w: metrics.f1_score(truth, p > GAP_THRESHOLD, sample_weight=w),
            ROC_AUC: lambda p, w: metrics.roc_auc_score(truth, p, sample_weight=w),
            MAE: lambda p, w: metrics.mean_absolute_error(targets, p, sample_weight=w),
            OPEN_GAP_MAE: lambda p, w: metrics.mean_absolute_error(targets[truth], p[truth], sample_weight=w[truth]),
        }
        for metric, function in expected.items():
            values = [[function(p, w) for p in predictions] for w in weights]
            assert metric.of(predictions, targets, weights) == pytest.approx(np.array(values)), metric.name

    def test_a_resample_without_one_class_has_no_value(self, gaps):
        targets, predictions, _ = gaps
        weights = (targets <= GAP_THRESHOLD).astype(float)[None]
        for metric in (BALANCED_ACCURACY, ROC_AUC, OPEN_GAP_MAE):
            assert np.isnan(metric.of(predictions, targets, weights)).all(), metric.name

    def test_perfect_gaps(self):
        gaps = np.where(np.arange(60) < 20, 0.0, 1.5)
        scores = gap_scores(frames(np.zeros((2, 60)), gaps), formulas_of(60))
        for score in (scores.balanced_accuracy, scores.roc_auc, scores.f1):
            assert (score.estimate.low, score.estimate.value, score.estimate.high) == (1, 1, 1)
        assert scores.open_gap_mae.estimate.value == 0
        assert (scores.metals, scores.non_metals) == (20, 40)

    def test_a_constant_gap_tells_nothing_apart(self):
        gaps = np.where(np.arange(60) < 20, 0.0, 1.5)
        scores = gap_scores(frames(1.0 - gaps, gaps), formulas_of(60))
        assert scores.balanced_accuracy.estimate.value == 0.5
        assert scores.roc_auc.estimate.value == 0.5
        assert scores.open_gap_mae.estimate.value == pytest.approx(0.5)

    def test_metals_alone_are_no_classification(self, errors):
        with pytest.raises(CgatError, match="400 metals, 0 non-metals"):
            gap_scores(frames(errors, np.zeros(400)), formulas_of(400))


class TestLeakage:
    def test_categories(self):
        found = leak_categories({"a": "NaCl", "b": "KCl", "c": "LiF"}, {"a": "NaCl", "z": "KCl"})
        assert found == {"a": "same id in pre-training", "b": "same formula only", "c": "neither"}

    def test_ratio_by_category(self, errors):
        names = np.repeat(["same id in pre-training", "same formula only", "neither"], [100, 100, 200])
        factors = np.repeat([0.5, 0.8, 1.0], [100, 100, 200])
        categories = dict(zip(ids_of(400), names.tolist(), strict=True))
        found = leakage_ratio(frames(errors), frames(factors * errors), categories, formulas_of(400))
        assert {name: round(c.ratio.value, 9) for name, c in found.items()} == {
            "same id in pre-training": 0.5,
            "same formula only": 0.8,
            "neither": 1.0,
        }
        assert found["neither"].crystals == 200
        assert found["same id in pre-training"].ratio.high < 0.51

    def test_a_crystal_without_category_is_named(self, errors):
        with pytest.raises(CgatError, match="400 test crystals have no category, x-00000 among them"):
            leakage_ratio(frames(errors), frames(errors), {}, formulas_of(400))


class TestFailures:
    def test_the_element_that_fails_comes_first(self, errors):
        formulas = formulas_of(400)
        bad = np.array(["Te" in formula for formula in formulas.values()])
        table = error_by_element(frames(np.where(bad, 10, 1) * errors), formulas)
        assert table.loc[0, "element"] == "Te"
        assert table.loc[0, "crystals"] == bad.sum()
        assert table.loc[0, "low"] < table.loc[0, "mae"] < table.loc[0, "high"]
        assert table.loc[0, "ratio"] > 3 > table.loc[1, "ratio"]

    def test_rare_elements_are_listed_on_request(self, errors):
        formulas = formulas_of(400) | {"x-00003": "LaCl3"}
        assert "La" not in set(error_by_element(frames(errors), formulas)["element"])
        assert "La" in set(error_by_element(frames(errors), formulas, at_least=1)["element"])

    def test_error_by_size(self, errors):
        sizes = dict(zip(ids_of(400), np.tile([1, 2, 3, 16], 100).tolist(), strict=True))
        table = error_by_size(frames(errors * np.tile([1, 1, 1, 5], 100)), formulas_of(400), sizes)
        assert table[["smallest", "largest", "crystals"]].to_numpy().tolist() == [
            [1, 2, 200],
            [3, 4, 100],
            [9, 16, 100],
        ]
        assert table["mae"].idxmax() == 2

    def test_sizes_have_to_be_known_and_covered(self, errors):
        sizes = dict.fromkeys(ids_of(400), 40)
        with pytest.raises(CgatError, match="cells of 40 to 40 atoms do not fit into 1 to 32 atoms"):
            error_by_size(frames(errors), formulas_of(400), sizes)
        del sizes["x-00003"]
        with pytest.raises(CgatError, match="the number of atoms of x-00003 is not known"):
            error_by_size(frames(errors), formulas_of(400), sizes, bounds=(1, 50))

    def test_the_worst_crystals(self, errors):
        errors[:, 17], errors[:, 4] = -50, [20, 30, 40]
        table = worst_crystals(frames(errors), formulas_of(400), n=2)
        assert table["material_id"].tolist() == ["x-00017", "x-00004"]
        assert table["error"].tolist() == pytest.approx([-50, 30])
        assert table["spread"].tolist() == pytest.approx([0, 10])
        assert table["formula"].tolist() == [formulas_of(400)[i] for i in table["material_id"]]


class TestReportTable:
    def test_every_kind_is_a_row(self, errors):
        kinds = {"none": frames(errors), "full": frames(0.7 * errors), "mean": frames(4 * errors[0])}
        table = report_table(kinds, formulas_of(400)).set_index("mode")
        assert table["seeds"].to_dict() == {"none": 3, "full": 3, "mean": 1}
        assert table.loc["full", "mae"] == pytest.approx(0.7 * errors.mean())
        assert table.loc["full", ["reduction", "reduction_low", "reduction_high"]].tolist() == pytest.approx([0.3] * 3)
        assert np.isnan(table.loc["none", "reduction"])
        assert table.loc["mean", "reduction_high"] < 0
        assert (table["low"] < table["mae"]).all()
        assert table.loc["mean", "crystals"] == 400

    def test_the_reference_has_to_be_there(self, errors):
        with pytest.raises(CgatError, match="the reference 'none' is not there; the kinds are: full"):
            report_table({"full": frames(errors)}, formulas_of(400))
        assert len(report_table({"full": frames(errors)}, formulas_of(400), reference="full")) == 1

    def test_a_kind_with_other_crystals_is_named(self, errors):
        kinds = {"none": frames(errors), "head": frames(errors[:, :20], np.linspace(-3, 1, 400)[:20])}
        with pytest.raises(CgatError, match="only 'none' has x-00020, x-00021, x-00022 and 377 more"):
            report_table(kinds, formulas_of(400))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    formulas, mean_error = formulas_of(600, polymorphs=2), math.exp((0.6**2 + 0.3**2 + 0.5**2) / 2)
    held = np.zeros(2)
    for _ in range(300):
        common = np.repeat(np.exp(rng.normal(0, 0.6, 300)), 2)
        own = [np.exp(rng.normal(0, 0.3, 600)) * np.exp(rng.normal(0, 0.5, (3, 600))) for _ in range(2)]
        seeds = [1 + rng.normal(0, 0.03, (3, 1)) for _ in range(2)]
        full, none = (frames(common * o * s * f) for o, s, f in zip(own, seeds, (0.9, 1.0), strict=True))
        found = paired_difference(full, none, formulas, resamples=500, rng_seed=int(rng.integers(1 << 30)))
        held += [found.second.low < mean_error < found.second.high, found.reduction.low < 0.1 < found.reduction.high]
    assert (held / 300 > 0.92).all(), held / 300


@pytest.mark.slow
def test_two_thousand_crystals_take_less_than_a_second(rng):
    errors = rng.exponential(size=(3, 2000)) + 0.1
    formulas = {i: f"H{place // 2 + 2}O" for place, i in enumerate(ids_of(2000))}
    seconds = []
    for _ in range(5):
        start = time.process_time()
        paired_difference(frames(errors), frames(1.1 * errors), formulas)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


@pytest.mark.slow
def test_torch_is_not_needed():
    code = "import sys, cgatlib.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
