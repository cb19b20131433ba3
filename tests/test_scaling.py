"""Power laws, their uncertainty, and what follows from them."""

import math

import numpy as np
import pytest

from cgatbook.published import laws_from_counts
from cgatlib import CgatError
from cgatlib.evaluation.scaling import (
    ComputeBudget,
    Points,
    PowerLaw,
    balance,
    bootstrap,
    crossing,
    crossing_size,
    equivalent_size,
    fit_power_law,
    fit_with_floor,
    hold_out_largest,
    optimal_split,
    r_squared,
    size_at,
)
from cgatlib.evaluation.statistics import Estimate

SIZES = 178e3 / 2.0 ** np.arange(4, -1, -1)  # 11 k ... 178 k


def noisy(law, rng, sizes=SIZES, seeds=3, noise=0.03):
    n = np.repeat(sizes, seeds)
    return Points(n, law.predict(n) * np.exp(rng.normal(0, noise, len(n))))


@pytest.fixture
def hull_scan():
    return laws_from_counts(31, 22, 178e3, equivalent=613e3, crossing=1.6e6)


def test_exact_line_is_recovered():
    law = PowerLaw(intercept=6.5, slope=0.27)
    fitted = fit_power_law(Points(SIZES, law.predict(SIZES)))
    assert fitted.intercept == pytest.approx(6.5)
    assert fitted.slope == pytest.approx(0.27)
    assert r_squared(Points(SIZES, law.predict(SIZES)), fitted) == pytest.approx(1)


def test_predict_and_invert_are_inverse():
    law = PowerLaw.through(1000, 43.0, 0.3)
    assert law.predict(1000) == pytest.approx(43)
    assert law.invert(43) == pytest.approx(1000)
    assert law.invert(float(law.predict(12345))) == pytest.approx(12345)


def test_exact_floor_is_recovered():
    law = PowerLaw(7.4, 0.36, 10.0)
    fitted = fit_with_floor(Points(SIZES, law.predict(SIZES)))
    assert (fitted.intercept, fitted.slope, fitted.floor) == pytest.approx((7.4, 0.36, 10.0), rel=1e-4)


def test_floor_of_a_straight_line_vanishes():
    fitted = fit_with_floor(Points(SIZES, PowerLaw(6.5, 0.27).predict(SIZES)))
    assert fitted.floor == pytest.approx(0, abs=0.05)


def test_hidden_floor_looks_straight_but_misleads_the_extrapolation():
    slope = math.log((67 - 10) / (31 - 10)) / math.log(16)  # no transfer, SCAN hull, were its floor 10 meV/atom
    hidden = PowerLaw(math.log(31 - 10) + slope * math.log(178e3), slope, 10.0)
    points = Points(SIZES, hidden.predict(SIZES))
    line = fit_power_law(points)
    assert r_squared(points, line) > 0.998
    assert line.predict(1.6e6) / hidden.predict(1.6e6) < 0.88
    held_out = hold_out_largest(points)
    assert held_out.size == 178e3
    assert held_out.line_error < -0.01
    assert held_out.floor_error == pytest.approx(0, abs=1e-3)


def test_bootstrap_interval_covers_the_true_slope():
    law, rng, trials = PowerLaw(6.8, 0.277), np.random.default_rng(1), 100
    covered = 0
    for _ in range(trials):
        interval = bootstrap(noisy(law, rng, seeds=5)).slope
        covered += interval.low <= law.slope <= interval.high
    assert 0.88 <= covered / trials <= 0.99


def test_bootstrap_is_repeatable(hull_scan):
    points = noisy(hull_scan[0], np.random.default_rng(2))
    assert bootstrap(points).slope == bootstrap(points).slope


def test_band_contains_the_line_and_widens_outside_the_data(hull_scan):
    fit = bootstrap(noisy(hull_scan[0], np.random.default_rng(3)))
    n = np.array([44.5e3, 1.6e6])
    low, high = fit.band(n)
    assert ((low < fit.law.predict(n)) & (fit.law.predict(n) < high)).all()
    assert high[1] / low[1] > high[0] / low[0]


def test_single_runs_borrow_residuals_or_stated_noise(hull_scan):
    rng = np.random.default_rng(4)
    single = noisy(hull_scan[0], rng, seeds=1)
    residual, stated = bootstrap(single).slope, bootstrap(single, noise=0.02).slope
    assert residual.high > residual.low
    expected = 0.02 / np.sqrt(((np.log(SIZES) - np.log(SIZES).mean()) ** 2).sum())
    assert (stated.high - stated.low) / (2 * 1.96) == pytest.approx(expected, rel=0.1)


def test_a_size_with_one_run_borrows_from_the_others():
    points = Points(np.array([100, 100, 200.0]), np.array([50, 52, 40.0]))
    assert bootstrap(points).slope.high > bootstrap(points).slope.low


def test_two_single_runs_have_no_uncertainty():
    points = Points(np.array([100.0, 200.0]), np.array([50.0, 40.0]))
    with pytest.raises(CgatError, match="no uncertainty"):
        bootstrap(points)
    assert bootstrap(points, noise=0.02).slope.high > fit_power_law(points).slope


def test_test_crystals_add_their_own_spread_which_pairs_share(hull_scan):
    rng = np.random.default_rng(5)
    none, full = hull_scan
    difficulty = rng.exponential(1.0, 300)
    difficulty /= difficulty.mean()
    with_errors = [Points(SIZES, law.predict(SIZES), law.predict(SIZES)[:, None] * difficulty) for law in hull_scan]
    fits = [bootstrap(points, noise=1e-6) for points in with_errors]
    low, high = fits[0].band(44.5e3)
    assert high[0] / low[0] > 1.1  # the level is uncertain
    shared = crossing_size(*fits)  # but common crystals do not move the crossing
    assert shared.value == pytest.approx(crossing(none, full))
    assert shared.high / shared.low < 1.01


def scored_runs(law, rng, crystals, seeds, between, own=0.6):
    """Runs whose MAE on all crystals scatters by `between`, scored on some; a share of an error is the run's `own`."""
    n = np.repeat(SIZES, seeds)
    level = law.predict(n) * np.exp(rng.normal(0, between, len(n)))
    shared = rng.normal(size=crystals)
    drawn = math.sqrt(1 - own) * shared + math.sqrt(own) * rng.normal(size=(len(n), crystals))
    errors = level[:, None] * np.exp(drawn - 0.5)
    return Points(n, errors.mean(axis=1), errors)


def test_intervals_from_runs_and_crystals_cover_the_true_slope_and_level():
    law, rng, trials = PowerLaw(6.8, 0.277), np.random.default_rng(7), 30
    covered = np.zeros(2)
    for _ in range(trials):
        found = bootstrap(scored_runs(law, rng, 300, 3, between=0.02))
        level = [float(edge[0]) for edge in found.band(44.5e3)]
        covered += [found.slope.low <= law.slope <= found.slope.high, level[0] <= law.predict(44.5e3) <= level[1]]
    assert (covered >= 0.85 * trials).all()


def test_bands_of_lines_on_one_test_set_leave_out_what_moves_them_together(hull_scan):
    difficulty = np.random.default_rng(11).exponential(1.0, 300)
    runs = [law.predict(SIZES)[:, None] * difficulty for law in hull_scan]
    fits = [bootstrap(Points(SIZES, e.mean(axis=1), e), noise=1e-6) for e in runs]
    common = np.mean([found.shifts for found in fits], axis=0)
    edges = [fits[0].band(44.5e3, common=c) for c in (0.0, common)]
    wide, narrow = (float(high[0] / low[0]) for low, high in edges)
    assert wide > 1.1
    assert narrow == pytest.approx(1, abs=1e-3)
    assert (fit(hull_scan[0]).shifts == 0).all()


def test_what_the_test_set_adds_to_the_scatter_of_runs_is_counted_once():
    """Runs that differ on their test crystals only: the crystals alone make the interval, whatever their number."""
    points = scored_runs(PowerLaw(6.8, 0.277), np.random.default_rng(8), 300, 3, between=0.0)
    x = np.log(points.sizes) - np.log(points.sizes).mean()
    interval = bootstrap(points).slope
    per_crystal = (points.errors / points.maes[:, None]).T @ x / (x @ x)  # what a crystal's weight adds to the slope
    expected = per_crystal.std() / math.sqrt(300)
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(expected, rel=0.25)


def test_polymorphs_are_redrawn_together(hull_scan):
    """Two crystals a formula say as much as one."""
    difficulty = np.random.default_rng(12).exponential(1.0, 300)
    errors = hull_scan[0].predict(SIZES)[:, None] * difficulty
    twice, groups = np.repeat(errors, 2, axis=1), np.repeat(np.arange(300), 2)
    fits = [Points(SIZES, errors.mean(axis=1), *given) for given in ((errors,), (twice, groups), (twice,))]
    bands = [bootstrap(points, noise=1e-6).band(44.5e3) for points in fits]
    once, together, apart = (math.log(high[0] / low[0]) for low, high in bands)
    assert together == pytest.approx(once)
    assert apart == pytest.approx(once / math.sqrt(2), rel=0.15)


def test_crystals_are_redrawn_in_pairs_only_if_there_are_as_many(hull_scan):
    rng = np.random.default_rng(9)
    difficulty = rng.exponential(1.0, 300)
    none, full = ([law.predict(SIZES)[:, None] * d for d in (difficulty, difficulty[:200])] for law in hull_scan)
    paired = [bootstrap(Points(SIZES, e.mean(axis=1), e), noise=1e-6) for e in (none[0], full[0])]
    apart = [bootstrap(Points(SIZES, e.mean(axis=1), e), noise=1e-6) for e in (none[0], full[1])]
    widths = [size.high / size.low for size in (crossing_size(*paired), crossing_size(*apart))]
    assert widths[0] < 1.01 < widths[1]


@pytest.mark.parametrize(
    ("sizes", "maes", "message"),
    [
        ([100, 100], [1, 2], "at least two sizes"),
        ([100, 200], [1, 0], "positive"),
        ([100, 200], [1, math.nan], "positive"),
        ([0, 200], [1, 2], "positive"),
        ([100, 200, 300], [1, 2], "one length"),
    ],
)
def test_bad_points_are_refused(sizes, maes, message):
    with pytest.raises(CgatError, match=message):
        Points(np.array(sizes, float), np.array(maes, float))


def test_too_few_sizes_for_a_floor_and_for_holding_out():
    with pytest.raises(CgatError, match="three sizes"):
        fit_with_floor(Points(np.array([1.0, 2.0]), np.array([2.0, 1.0])))
    with pytest.raises(CgatError, match="four sizes"):
        hold_out_largest(Points(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])))


def test_laws_that_never_meet():
    parallel, steeper = PowerLaw(6.0, 0.2), PowerLaw(5.0, 0.3)
    assert crossing(parallel, PowerLaw(5.0, 0.2)) == math.inf
    assert crossing(parallel, steeper) == math.inf
    assert PowerLaw(6.0, -0.1).invert(50) == math.inf


def test_share_of_resamples_that_never_cross():
    none, full = PowerLaw(6.0, 0.20), PowerLaw(5.7, 0.19)
    fits = [bootstrap(Points(SIZES, law.predict(SIZES)), noise=0.03) for law in (none, full)]
    estimate = crossing_size(*fits)
    assert 0.1 < estimate.never < 0.6
    assert estimate.high == math.inf
    assert math.isfinite(estimate.low)


def test_estimate_orders_infinite_samples_last():
    estimate = Estimate.of(3.0, np.array([*range(1, 97), *4 * [math.inf]]))
    assert (estimate.low, estimate.high, estimate.never) == (3.0, math.inf, 0.04)


def test_quoted_counts_are_fragile_under_two_percent_noise(hull_scan):
    none, full = (bootstrap(Points(SIZES, law.predict(SIZES)), noise=0.02) for law in hull_scan)
    cross, same = crossing_size(none, full), equivalent_size(none, full)
    assert cross.value == pytest.approx(1.6e6)
    assert (cross.low, cross.high) == pytest.approx((0.94e6, 3.2e6), rel=0.08)
    assert same.value == pytest.approx(613e3)
    assert (same.low, same.high) == pytest.approx((492e3, 780e3), rel=0.03)
    accuracy = size_at(none, 43)
    assert accuracy.low < accuracy.value < accuracy.high


def fit(law, noise=0.02):
    return bootstrap(Points(SIZES, law.predict(SIZES)), noise)


def test_compute_budget_identities():
    training, pretraining = fit(PowerLaw.through(11e3, 31, 0.12)), fit(PowerLaw.through(178e3, 31, 0.096))
    budget = ComputeBudget(training, pretraining, 11e3, 178e3)
    assert budget.training_size([0, 55e3]) == pytest.approx([11e3, 22e3])
    assert budget.pretraining_size([0, 178e3]) == pytest.approx([178e3, 356e3])
    step = 1e-3
    bought = ((training, budget.training_size(step)), (pretraining, budget.pretraining_size(step)))
    gains = [31 - float(line.law.predict(size)) for line, size in bought]
    advantage = budget.training_advantage
    assert gains[0] / gains[1] == pytest.approx(advantage.value, rel=1e-3)
    assert advantage.low < advantage.value < advantage.high
    even = balance(training, pretraining, 5.0)
    assert advantage.high == pytest.approx(178 / 11 / even.low)


def test_advantage_where_an_error_hardly_falls():
    flat = fit(PowerLaw(3.0, 0.002))
    budget = ComputeBudget(fit(PowerLaw(6.0, 0.2)), flat, 11e3, 178e3)
    assert budget.falls
    assert budget.training_advantage.high == math.inf
    assert ComputeBudget(flat, fit(PowerLaw(6.0, 0.2)), 11e3, 178e3).training_advantage.low == 0
    assert not ComputeBudget(flat, fit(PowerLaw(3.0, -0.1)), 11e3, 178e3).falls


def test_returns_balance_where_the_sizes_stand_as_c_alpha_over_beta():
    lines = fit(PowerLaw(5, 0.12)), fit(PowerLaw(5, 0.096))
    ratio = balance(*lines, cost_ratio=5).value
    assert ratio == pytest.approx(4)
    assert ComputeBudget(*lines, 10e3, ratio * 10e3).training_advantage.value == pytest.approx(1)


def test_optimal_share_minimises_the_error_of_a_fresh_budget():
    alpha, beta, cost, total = 0.096, 0.12, 5.0, 1e6
    share = np.linspace(0.001, 0.999, 9981)
    log_mae = -alpha * np.log(share * total) - beta * np.log((1 - share) * total / cost)
    best = optimal_split(fit(PowerLaw(5, beta)), fit(PowerLaw(5, alpha)))
    assert share[log_mae.argmin()] == pytest.approx(best.value, abs=1e-3)


def test_balance_and_split_carry_their_uncertainty():
    rng = np.random.default_rng(6)
    training, pretraining = (bootstrap(noisy(PowerLaw(6, s), rng)) for s in (0.12, 0.096))
    ratio, share = balance(training, pretraining, 5), optimal_split(training, pretraining)
    assert ratio.low < 4 < ratio.high
    assert 0 < share.low < 0.096 / 0.216 < share.high < 1


def test_compute_budget_refuses_nonsense():
    line = fit(PowerLaw(5, 0.1))
    with pytest.raises(CgatError, match="positive"):
        ComputeBudget(line, line, 0, 10)
    for function in (optimal_split, lambda *lines: balance(*lines, 5)):
        with pytest.raises(CgatError, match="falls with both"):
            function(line, fit(PowerLaw(5, -0.1)))
