"""The paper's own lines: what follows from its printed numbers, by the functions that judge our runs."""

from pathlib import Path

import pytest

from cgatbook import published
from cgatbook.published import PublishedNumbers
from cgatlib.evaluation.scaling import Points, crossing, crossing_size, equivalent_size, fit_power_law, size_at

PUBLISHED = PublishedNumbers(Path(__file__).parents[1] / "data" / "published")

# Derived by hand from Table 1 and the quoted sizes: slopes, N_equiv over the training set, MAE at 11 k without and with
# transfer in meV/atom, thousands of crystals for chemical accuracy without transfer.
DERIVED = {
    ("e_above_hull", "SCAN"): (0.277, 0.121, 3.44, 67, 31, 55),
    ("e_above_hull", "PBEsol"): (0.246, 0.107, 3.58, 52, 26, 23),
    ("e_form", "SCAN"): (0.383, 0.193, 2.88, 70, 27, 39),
    ("e_form", "PBEsol"): (0.371, 0.175, 3.19, 56, 21, 23),
}


def test_sizes_are_those_of_the_figures():
    sizes = published.training_sizes(PUBLISHED)
    assert sizes.tolist() == [11_125, 22_250, 44_500, 89_000, 178_000]


def test_all_lines_of_figure_4_are_there():
    assert set(published.PLACES) == set(DERIVED)


@pytest.mark.parametrize(("place", "derived"), DERIVED.items(), ids=map("-".join, DERIVED))
class TestLines:
    def test_they_are_those_derived_by_hand(self, place, derived):
        none, full = published.published_lines(PUBLISHED, *place)
        mae = PUBLISHED["table1/{}/{}/full".format(*place)].value
        assert (round(none.slope, 3), round(full.slope, 3)) == derived[:2]
        assert round(none.invert(mae) / 178e3, 2) == derived[2]
        assert (round(float(none.predict(11e3))), round(float(full.predict(11e3)))) == derived[3:5]
        assert round(none.invert(43) / 1e3) == derived[5]

    def test_they_go_back_to_what_the_paper_quotes(self, place, derived):
        label, functional = place
        none, full = published.published_fits(PUBLISHED, label, functional)
        quoted = [PUBLISHED[f"numbers/{what}_{label}_{functional}"].value for what in ("equivalent", "crossing")]
        assert crossing(none.law, full.law) == pytest.approx(quoted[1])
        assert equivalent_size(none, full).value == pytest.approx(quoted[0])
        assert size_at(full, 43).value < 11e3  # chemical accuracy at the smallest size, with transfer

    def test_noise_moves_the_crossing_further_than_the_equivalent_size(self, place, derived):
        none, full = published.published_fits(PUBLISHED, *place)
        same, cross = equivalent_size(none, full), crossing_size(none, full)
        assert cross.high / cross.low > 2 > same.high / same.low


def test_points_lie_on_the_lines():
    points = published.published_points(PUBLISHED)
    own = points[(points["panel"] == points["panel"].iloc[0]) & (points["functional"] == "SCAN")]
    none = own[own["mode"] == "none"]
    line = fit_power_law(Points(none["train_size"].to_numpy(), none["mae"].to_numpy()))
    assert line.slope == pytest.approx(published.published_lines(PUBLISHED, "e_above_hull", "SCAN")[0].slope)
    assert own.loc[own["train_size"] == 178_000, "mae"].tolist() == pytest.approx([31, 22])


def test_a_floor_hides_in_a_straight_line_and_misleads_it():
    hidden = published.hidden_floor(PUBLISHED, 10)
    assert hidden == pytest.approx((0.9989, -0.15), abs=0.005)
    assert hidden[0] > 0.998
    assert published.hidden_floor(PUBLISHED, 0) == pytest.approx((1, 0))


def test_what_the_paper_says_of_its_three_starts_follows_from_the_ratio_it_finds_balanced():
    found = {
        start: published.published_budget(PUBLISHED, *start).training_advantage
        for start in ((178e3, 11e3), (178e3, 178e3), (712e3, 178e3))
    }
    scan, pbe, even = found.values()
    assert scan.value == pytest.approx(178 / 11 / 4)
    assert scan.low > 1
    assert pbe.value == pytest.approx(1 / 4)
    assert pbe.high < 1
    assert even.value == pytest.approx(1)
    assert even.low < 1 < even.high


def test_both_curves_of_a_start_begin_at_one_error():
    budget = published.published_budget(PUBLISHED, 178e3, 11e3)
    errors = [float(line.law.predict(n)) for line, n in ((budget.training, 11e3), (budget.pretraining, 178e3))]
    assert errors[0] == pytest.approx(errors[1])
    whole = published.published_budget(PUBLISHED, 1.8e6, 178e3)
    assert float(whole.training.law.predict(178e3)) == pytest.approx(22)  # Table 1
