"""The sentences, tables and the figure that give the book's answer follow from the stored runs."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cgatbook import answers, pages, scaling_cells
from cgatbook.answers import TARGETS, Answer
from cgatbook.stored import Archives, StoredResults
from cgatlib.evaluation.comparison import Comparison
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.runs import reductions

ROOT = Path(__file__).parents[1]
PAIRS = [[f"data/plans/{name}.yaml", f"data/runs/{name}"] for name in ("converged", "real_data")]


@pytest.fixture(scope="module")
def real() -> Archives:
    return Archives.open(ROOT, PAIRS)


@pytest.fixture(scope="module")
def table1() -> pd.DataFrame:
    return pages.published("table1.csv")


def comparison(value: float, low: float, high: float, mae: float = 0.1) -> Comparison:
    error = Estimate(mae, mae, mae)
    return Comparison(error, error, Estimate(value, low, high), 100)


@pytest.mark.parametrize(
    ("interval", "trivial", "verdict"),
    [
        ((0.3, 0.2, 0.4), 1.0, "helps"),
        ((-0.3, -0.4, -0.2), 1.0, "harms"),
        ((0.3, -0.1, 0.4), 1.0, "undecided"),
        ((0.3, 0.2, 0.4), 0.12, "not informative"),  # the guess is worse by less than a fifth
    ],
)
def test_verdict(interval, trivial, verdict):
    found = Answer("Volume PBE", "short", comparison(*interval), trivial)
    assert found.verdict == found.cells["transfer"] == verdict
    assert found.cells["95 %: from"] == answers.percent(interval[1])


def test_the_figure_shows_every_target_and_the_paper_beside_it(real, table1):
    found = answers.reductions(real, table1)
    assert found["target"].nunique() == len(TARGETS)
    assert found.groupby("target")["source"].first().eq("paper").all()
    ours = found[found["source"] != "paper"]
    assert (ours["low"] < ours["value"]).all()
    assert (ours["value"] < ours["high"]).all()
    assert len(reductions(found).axes) == 1


def test_the_answer_follows_the_archive(real, table1, monkeypatch):
    before, figure = answers.front_sentences(real, table1), answers.reductions(real, table1)
    assert len(before) == 3
    plain = StoredResults.comparison

    def other(self, name, reference):
        found = plain(self, name, reference)
        worse = Estimate(-0.5, -0.6, -0.4)
        return replace(found, reduction=worse) if "full" in name else found

    monkeypatch.setattr(StoredResults, "comparison", other)
    after = answers.front_sentences(real, table1)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "0 of 5 targets" in after[0]
    assert "so do we" in after[1]
    assert not answers.reductions(real, table1).equals(figure)


def test_table1_has_the_papers_rows_beside_ours(real, table1):
    rows = {target: {"no transfer": f"{target}-none", "full transfer": f"{target}-full"} for target in TARGETS}
    found = answers.table1(real, table1, rows)
    assert (found["source"] == "DFT").sum() == len(TARGETS)
    assert list(found.index[:2]) == ["PBEsol volume / Å³/atom"] * 2
    assert found["full transfer"].iloc[1] == "0.16"
    ours = found[found["source"] == "DFT"]
    assert ours[["guess", "composition"]].notna().all(axis=None)  # every error beside the two
    assert [column for _, column in answers.lowest(ours, ["no transfer", "full transfer"])].count(
        list(ours.columns).index("full transfer")
    ) >= 4


def test_numbers_that_appear_twice_are_one_value(real, table1):
    """The gain on the front page is the one in the table of its section."""
    table = answers.reduction_table(real, {f"{target}-full": f"{target}-none" for target in TARGETS})
    figure = answers.reductions(real, table1)
    last = figure[figure["source"] != "paper"].groupby("target", sort=False)["value"].last()
    assert [answers.percent(value) for value in last] == list(table["reduction / %"])


def test_tables_of_the_controls(real):
    part = real.of("gap-hse-full", "volume-pbesol-full", "volume-pbesol-full-seen")
    gaps = answers.gap_table(part, "gap-hse", ("none", "full"))
    assert list(gaps.columns[:3]) == ["balanced accuracy", "balanced accuracy: from", "balanced accuracy: to"]
    leaks = answers.leak_table(part, ["volume-pbesol-full"])
    assert leaks["crystals"].iloc[0] == "632"
    corrected = answers.correction_table(real, ["gap-hse"])
    assert float(corrected["PBE value, trees"].iloc[0]) < float(corrected["trees, composition"].iloc[0])
    assert "5 of 5 targets" in answers.correction_sentence(real)


def test_every_stored_learning_curve_checks_the_forecast(real):
    last = real.parts[-1]
    some = {n: e for n, e in last.plan.entries.items() if "-sizes" not in n or n.startswith(("gap", "r2scan_e_form"))}
    some = {n: e for n, e in some.items() if "-from-" not in n}
    found = scaling_cells.forecasts(Archives((replace(last, plan=replace(last.plan, entries=some)),)))
    table = scaling_cells.forecast_table(found)
    independent = {f"r²SCAN formation energy, {how}, short training" for how in ("no transfer", "full transfer")}
    assert set(table.index[table["interval"] == "independent"]) == independent
    assert table.loc["HSE band gap, no transfer, short training", "within the interval"] == "4 of 4"
    assert scaling_cells.forecast_sentence(found).endswith("2 of 2 times; on those that it was tuned on, 8 of 8 times.")


def test_all_tables_of_errors_have_a_guess_and_the_composition_in_them(real):
    rows = [{"no transfer": none, "full transfer": f"{pair}-full"}
            for pair, none in answers.transfers(real.parts[-1].plan, crossed=True).items()]  # fmt: skip
    assert answers.error_table(real, rows)[["guess", "composition"]].notna().all(axis=None)


def test_released_models_stand_beside_guesses():
    found = answers.released_table()
    assert found["guess"].notna().all()
    assert len(found) == len(set(found.index)) >= 8


def test_readme_says_what_the_front_page_says(real, table1):
    """If this fails after a change of the stored runs: `python -m cgatbook.front`."""
    shown = (ROOT / "README.md").read_text().split("<!-- answer -->\n")[1].split("<!-- end -->")[0]
    assert shown.splitlines() == [f"- {sentence}" for sentence in answers.front_sentences(real, table1)]
    assert "<svg" in (ROOT / "book/answer.svg").read_text()
