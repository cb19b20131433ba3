"""Forecasts: what more crystals buy follows from the power law through runs on nested parts of a table."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cgatlib import CgatError
from cgatlib.evaluation.forecast import Forecast, checks, forecast_text, halved_sizes
from cgatlib.splits import SplitConfig


@dataclass(frozen=True)
class Stored:
    """What a forecast looks at in a run."""

    experiment: SimpleNamespace
    metrics: dict
    errors: pd.DataFrame


def run(n: int, seed: int, mae: float, ids=None) -> Stored:
    """A run whose absolute errors vary from crystal to crystal around `mae`."""
    ids = [f"x{i}" for i in range(40)] if ids is None else ids
    errors = np.random.default_rng(7).exponential(size=len(ids))
    errors *= mae / errors.mean()
    split = SplitConfig()
    experiment = SimpleNamespace(seed=seed, split=split, label="volume_per_atom", functional="PBEsol")
    return Stored(
        experiment,
        {"n_train": n, "test_mae": mae},
        pd.DataFrame({"crystal": ids, "group": range(len(ids)), "error": errors}),
    )


def law(sizes, noise=0.0, floor=0.0) -> list[Stored]:
    """Runs on MAE = 3 n^-0.5 + floor with relative noise between the seeds."""
    return [run(n, s, (3 * n**-0.5 + floor) * (1 + noise * (s - 1))) for n in sizes for s in (0, 1, 2)]


def test_a_power_law_is_found_and_continued():
    found = Forecast.of(law([100, 200, 400, 800], noise=0.02))
    assert found.n_train == 800
    assert found.fit.law.slope == pytest.approx(0.5, abs=0.01)
    now, then = found.mae(), found.mae(3000)  # 2,400 of them to train on: four times as many crystals
    assert now.value == pytest.approx(3 * 800**-0.5, rel=0.01)
    assert then.value == pytest.approx(now.value / 2, rel=0.02)
    assert then.low < then.value < then.high
    assert found.report(1)["largest_foretold"] == pytest.approx(0, abs=0.01)


def test_the_fall_is_known_better_than_the_error():
    found = Forecast.of(law([100, 200, 400, 800], noise=0.02))
    fall, then, now = found.fall(3000), found.mae(3000), found.mae().value
    assert fall.value == pytest.approx(1 - then.value / now)
    assert (fall.high - fall.low) < (then.high - then.low) / now


def test_a_fall_is_as_uncertain_as_the_runs_that_measure_it():
    calm, noisy = (Forecast.of(law([100, 200, 400, 800], noise=noise)) for noise in (0.01, 0.04))
    assert noisy.scatter == pytest.approx(0.04 / 3**0.5, rel=0.05)  # of the mean of three runs
    assert noisy.scatter == pytest.approx(4 * calm.scatter, rel=0.05)
    for found in (calm, noisy):  # before and after, and the line on top
        width = (found.fall(3000).high - found.fall(3000).low) / (1 - found.fall(3000).value)
        assert width > 2 * 1.96 * 2**0.5 * found.scatter


def test_single_runs_scatter_about_the_line():
    runs = [run(n, 0, 3 * n**-0.5 * (1 + bend)) for n, bend in ((100, 0.03), (200, -0.03), (400, -0.03), (800, 0.03))]
    assert Forecast.of(runs).scatter == pytest.approx(0.03 * (4 / 2) ** 0.5, rel=0.05)


def test_a_floor_is_seen_where_there_are_sizes_enough():
    found = Forecast.of(law([100, 200, 400, 800], floor=0.05))
    assert found.mae_with_floor(100_000) == pytest.approx(0.05 + 3 * 80_800**-0.5, rel=0.05)
    assert found.mae(100_000).value < found.mae_with_floor(100_000)
    two = Forecast.of(law([100, 800]))
    assert (two.mae_with_floor(100), two.report(1)["largest_foretold"]) == (None, None)


def test_finished_runs_check_the_forecasts_that_could_have_been_made():
    found = checks(law([100, 200, 400, 800, 1600, 3200], noise=0.02), sizes=4)
    assert [check.size for check in found] == [1600, 3200]
    for check in found:
        assert check.foretold == pytest.approx(check.mae, rel=0.01)
        assert check.fall.value == pytest.approx(check.measured_fall, abs=0.01)
        assert check.held
    bent = checks([*law([100, 200, 400], noise=0.001), *[run(800, seed, 0.9) for seed in (0, 1, 2)]], sizes=3)
    assert not bent[0].held
    assert bent[0].measured_fall < 0
    assert checks(law([100, 200, 400])) == []


def test_the_order_of_the_runs_does_not_matter():
    runs = law([100, 200, 400], noise=0.02)
    assert Forecast.of(runs[::-1]).report(100) == Forecast.of(runs).report(100)


def test_the_report_in_words():
    report = Forecast.of(law([100, 200, 400, 800], noise=0.02)).report(1000)
    text = forecast_text(report)
    assert "100   0.3 Å³/atom" in text
    assert "MAE proportional to n^-0.5" in text
    assert "with 1,000 more crystals (800 to 1,600 to train on):\n  the MAE is expected to go from 0.106" in text
    assert "that is -29." in text  # 1 - 2^-0.5
    assert "the smaller sizes foretell the error of the largest by" in text
    assert "if it falls towards a floor" in text
    short = forecast_text(Forecast.of(law([100, 800])).report(1000))
    assert "floor" not in short
    assert "foretell" not in short


def test_what_cannot_be_forecast_is_said():
    with pytest.raises(CgatError, match="at least two sizes"):
        Forecast.of(law([100]))
    with pytest.raises(CgatError, match="tested on the same crystals"):
        Forecast.of([*law([100, 200]), run(400, 0, 0.1, ids=["other"])])


@pytest.mark.parametrize(("n", "sizes"), [(800, [100, 200, 400]), (90, [22, 45]), (41, [20])])
def test_sizes_are_halved_down_to_a_useful_one(n, sizes):
    assert halved_sizes(n) == sizes


def test_too_few_crystals_to_divide_are_refused():
    with pytest.raises(CgatError, match="a forecast needs 40 training crystals; the training part has 39"):
        halved_sizes(39)
