"""Declared experiments, and our numbers beside the paper's."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cgatbook.comparisons import (
    agreement,
    direction,
    gains,
    in_units,
    published_directions,
    table1,
    verdicts,
)
from cgatbook.scaling_cells import (
    NO_FALL,
    balance_cells,
    held_out_cells,
    nearest_start,
    ratio_text,
    scaling_row,
    size_text,
)
from cgatbook.studies import Study, results, sources_of
from cgatlib import CgatError
from cgatlib.evaluation.scaling import Points, bootstrap
from cgatlib.evaluation.statistics import Estimate

LOW = SimpleNamespace(fingerprint="low", functional="PBE")
HIGH = SimpleNamespace(fingerprint="high", functional="SCAN")


def study(**changes) -> Study:
    values = {
        "model": "tiny",
        "steps": 10,
        "pretraining_steps": 20,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "pretraining_rate": 3e-3,
        "lowest": 0.02,
        "cycles": 1,
        "pretraining_cycles": 2,
        "evaluations": 2,
        "seeds": [0, 1, 2],
        "pretraining_seeds": [0, 1],
    }
    return Study(**{**values, **changes})


class TestStudy:
    def test_table1_runs(self) -> None:
        found = study().modes(LOW, HIGH, "e_form")
        pretrained = [e for e in found if e.functional == "PBE"]
        assert [e.seed for e in pretrained] == [0, 1]  # shared round by three seeds
        assert len(found) == 2 + 3 * 3
        third = [e for e in found if e.functional == "SCAN" and e.seed == 2]
        assert {e.source.seed if e.source else None for e in third} == {None, 0}
        assert {e.training.steps for e in pretrained} == {20}
        assert {e.training.steps for e in third} == {10}

    def test_pages_share_runs(self) -> None:
        """The largest sizes of Figs. 3 and 4 are the runs of Table 1."""
        table = {e.key for e in study().modes(LOW, HIGH, "e_form") if e.transfer.mode in ("none", "full")}
        sizes = {e.key for e in study().sizes(LOW, HIGH, "e_form", [5], [7])}
        grid = {e.key for e in study().sizes(LOW, HIGH, "e_form", [5])}
        targets = {k for k in table if k not in {e.key for e in sources_of(study().modes(LOW, HIGH, "e_form"))}}
        assert targets <= grid <= sizes
        assert len(sizes) == 3 * 2 * (1 + 2)

    def test_slower_transfer_is_another_run(self) -> None:
        source = study().pretrained(LOW, "e_form", 0)
        runs = [study().transferred(HIGH, "e_form", 0, source, factor=factor) for factor in (1.0, 0.1)]
        assert runs[0].key != runs[1].key
        assert runs[1].training.learning_rate == 1e-4

    def test_a_fraction_of_a_rate_is_the_number_one_writes(self) -> None:
        """0.006 * 0.1 is 0.0006000000000000001, which would be another run."""
        fast = study(rates={"SCAN": {"e_form": {"full": 6e-3}}})
        slow = fast.transferred(HIGH, "e_form", 0, fast.pretrained(LOW, "e_form", 0), factor=0.1)
        assert slow.training.learning_rate == 6e-4

    def test_pre_training_has_its_own_schedule(self) -> None:
        found = study().modes(LOW, HIGH, "e_form")
        schedule = {(e.functional, e.training.learning_rate, e.training.cycles, e.training.lowest) for e in found}
        assert schedule == {("PBE", 3e-3, 2, 0.02), ("SCAN", 1e-3, 1, 0.02)}

    def test_rates_by_functional_label_and_procedure(self) -> None:
        rates = {"SCAN": {"e_form": {"head": 6e-3, "none": 2e-3}}}
        for label, expected in (("e_form", {"none": 2e-3, "head": 6e-3, "full": 1e-3}), ("band_gap", {"head": 1e-3})):
            found = study(rates=rates).modes(LOW, HIGH, label)
            used = {e.transfer.mode: e.training.learning_rate for e in found if e.functional == "SCAN"}
            assert used.items() >= expected.items()
            assert {e.training.learning_rate for e in found if e.functional == "PBE"} == {3e-3}

    def test_a_change_of_one_rate_changes_just_the_runs_it_belongs_to(self) -> None:
        before, after = (study(rates=r).modes(LOW, HIGH, "e_form") for r in ({}, {"SCAN": {"e_form": {"head": 6e-3}}}))
        changed = [old.transfer.mode for old, new in zip(before, after, strict=True) if old.key != new.key]
        assert changed == ["head"] * 3

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"model": "huge"}, "unknown model 'huge'; known: "),
            ({"seeds": []}, "at least one of its seeds"),
            ({"rates": {"SCAN": {"energy": {"full": 1e-3}}}}, "rates of SCAN energy: unknown property; known: e_form"),
            ({"rates": {"SCAN": 1e-3}}, "rates of SCAN must go by property, then by procedure: 0.001"),
            ({"rates": {"SCAN": {"e_form": 1e-3}}}, "rates of SCAN must go by property, then by procedure"),
            ({"rates": {"SCAN": {"e_form": {"all": 1e-3}}}}, "unknown procedure 'all'; known: none, head, full"),
            ({"rates": {"SCAN": {"e_form": {"full": "2e-3"}}}}, "the rate of full is no number such as 2.0e-3: '2e-3'"),
        ],
    )
    def test_refused(self, change: dict, sentence: str) -> None:
        with pytest.raises(CgatError, match=sentence):
            study(**change)

    def test_results(self) -> None:
        metrics = {"test_mae": 0.1, "validation_mae": 0.2, "best_step": 3, "seconds": 1.0}
        experiments = study(seeds=[0]).sizes(LOW, HIGH, "e_form", [5], [7])
        tested = pd.DataFrame({"crystal": [7, 5], "group": [0, 1], "error": [0.1, -0.3]})
        runs = [
            SimpleNamespace(experiment=e, metrics={**metrics, "n_train": e.train_size or 100}, errors=tested)
            for e in [*experiments, *sources_of(experiments)]
        ]
        frame = results(runs[: len(experiments)], runs[len(experiments) :])
        assert set(frame.loc[frame["mode"] == "none", "pretrain_size"]) == {0}
        assert set(frame.loc[frame["mode"] == "full", "pretrain_size"]) == {7, 100}
        assert set(frame["train_size"]) == {5, 100}
        assert frame["errors"].iloc[0].to_dict() == pytest.approx({(7, 0): 0.1, (5, 1): 0.3})
        assert list(frame["errors"].iloc[0].index) == [(7, 0), (5, 1)]


def made_up(none: float = 0.030, head: float = 0.027, full: float = 0.020, noise: float = 0.0005) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        for mode, mae in (("none", none), ("head", head), ("full", full)):
            rows.append(("SCAN", mode, "" if mode == "none" else "e_form", seed, mae + noise * rng.normal()))
        rows.append(("PBE", "none", "", seed, 0.018))
    frame = pd.DataFrame(rows, columns=["functional", "mode", "source_label", "seed", "test_mae"])
    crystals = pd.MultiIndex.from_tuples([(7, 0), (5, 1)], names=["crystal", "group"])
    frame["errors"] = [pd.Series([mae, mae], crystals) for mae in frame["test_mae"]]
    return frame.assign(label="e_form", train_size=100, learning_rate=1e-3)


PUBLISHED = pd.DataFrame(
    [
        ("e_form", "PBE", "none", 18.0, "18", np.nan),
        ("e_form", "SCAN", "none", 24.0, "24", np.nan),
        ("e_form", "SCAN", "head", 22.0, "22", 8.0),
        ("e_form", "SCAN", "full", 16.0, "16", 33.0),
    ],
    columns=["label", "functional", "mode", "mae", "printed", "gain_percent"],
)


class TestComparisons:
    def test_gain_is_paired_by_seed(self) -> None:
        frame = made_up(noise=0.0)
        frame.loc[frame["seed"] == 1, "errors"] *= 2  # a hard seed, but the same gain
        found = gains(frame.sample(frac=1, random_state=0)).set_index("mode")
        assert found.loc["full", "gain"] == pytest.approx(1 / 3)
        assert found.loc["full", "low"] == pytest.approx(1 / 3)
        assert found.loc["full", "seeds"] == 3

    def test_single_seed_decides_nothing(self) -> None:
        found = gains(made_up().query("seed == 0"))
        assert direction(found["low"].iloc[0], found["high"].iloc[0]) == "undecided"

    @pytest.mark.parametrize(
        ("low", "high", "expected"), [(0.1, 0.2, "agrees"), (-0.2, -0.1, "does not agree"), (-0.1, 0.1, "undecided")]
    )
    def test_agreement(self, low: float, high: float, expected: str) -> None:
        assert agreement("better", direction(low, high)).startswith(expected)

    def test_verdicts(self) -> None:
        frame = verdicts(gains(made_up()), published_directions(PUBLISHED))
        assert list(frame.index) == ["E_form SCAN: only regression head", "E_form SCAN: full transfer"]
        assert frame["verdict"].iloc[1] == "agrees"

    def test_what_the_paper_found_is_read_from_its_table(self) -> None:
        stated = published_directions(pd.concat([PUBLISHED, PUBLISHED.assign(label="band_gap", gain_percent=-19.0)]))
        assert stated["e_form", "head"] == "better"
        assert stated["band_gap", "head"] == "worse"
        frame = verdicts(gains(made_up()), {("e_form", "head"): "worse", ("e_form", "full"): "better"})
        assert list(frame["paper"]) == ["worse", "better"]
        assert list(frame["verdict"]) == ["does not agree", "agrees"]

    def test_table1(self) -> None:
        frame, best = table1(made_up(noise=0.0), PUBLISHED, "this build")
        ours = frame.loc["E_form / meV/atom, SCAN: this build"]
        assert ours["full transfer"] == "20.0 ± 0.0 (33%)"
        assert ours["pre-trained, own test set"] == "18.0 ± 0.0"
        assert frame.loc["E_form / meV/atom, SCAN: published", "only regression head"] == "22 (8%)"
        assert [frame.columns[column] for _, column in best] == ["full transfer"] * 2

    def test_table1_of_properties_that_targets_do_not_share(self) -> None:
        gap = made_up(noise=0.0).assign(label="band_gap").replace({"functional": {"SCAN": "HSE"}})
        gap["source_label"] = gap["source_label"].replace("e_form", "band_gap")
        frame, best = table1(pd.concat([made_up(noise=0.0), gap]), PUBLISHED, "ours")
        assert [row for row in frame.index if "ours" in row] == [
            "E_form / meV/atom, SCAN: ours",
            "Band gap / eV, HSE: ours",
        ]
        assert len(best) == len(frame)

    def test_units(self) -> None:
        plain = made_up().drop(columns="errors")
        assert in_units(plain, "e_form")["mae"].iloc[0] == pytest.approx(1000 * plain["test_mae"].iloc[0])

    def test_errors_by_crystal_have_the_unit_of_the_mae_that_they_explain(self) -> None:
        frame = made_up().assign(key="k", validation_mae=0.1)
        frame["errors"] = [pd.Series([0.01, 0.03], ["a", "b"]) for _ in frame.index]
        assert in_units(frame, "e_form")["errors"].iloc[0].tolist() == pytest.approx([10, 30])
        assert "errors" not in in_units(frame, "e_form", "validation_mae")

    def test_other_test_crystals_are_refused(self) -> None:
        frame = made_up().assign(key=lambda rows: [f"run-{i}" for i in rows.index])
        frame["errors"] = [pd.Series([0.01, 0.03], ["a", "b"]) for _ in frame.index]
        elsewhere = frame["functional"] == "PBE"
        frame.loc[elsewhere, "errors"] = frame.loc[elsewhere, "errors"].map(lambda e: e.set_axis(["c", "d"]))
        in_units(frame, "e_form")  # another functional may have other test crystals
        frame.at[1, "errors"] = pd.Series([0.01, 0.03], ["a", "c"])
        with pytest.raises(CgatError, match="run run-1 was tested on other SCAN crystals than run run-0"):
            in_units(frame, "e_form")

    def test_scaling_row(self) -> None:
        sizes = np.repeat([100, 200, 400, 800], 2)
        wiggle = 1 + 0.01 * np.tile([-1, 1], 4)
        rows = [("none", sizes, 500 * sizes**-0.4 * wiggle), ("full", sizes, 60 * sizes**-0.1 * wiggle)]
        points = pd.concat(
            pd.DataFrame({"mode": m, "train_size": n, "mae": y, "seed": np.tile([0, 1], 4)}) for m, n, y in rows
        )
        cells = scaling_row(points, energy=True)
        assert cells["slope, none"].startswith("0.400")
        assert cells["N_cross"].startswith("1.2 k")  # (500 / 60)^(1 / 0.3)
        assert "n at 43 meV/atom, full" in cells
        assert "n at 43 meV/atom, full" not in scaling_row(points, energy=False)

    def test_held_out_cells(self) -> None:
        sizes = np.array([100.0, 200, 400, 800])
        cells = held_out_cells(Points(sizes, 500 * sizes**-0.4), "e_form")
        assert cells["largest size"] == "800"
        assert cells["measured"] == "34.5 meV/atom"
        assert cells["line"] in ("+0.0%", "-0.0%")
        assert cells["R² of the line"] == "1.000"

    def test_balance_cells(self) -> None:
        sizes = np.array([100.0, 200, 400, 800])
        fits = {s: bootstrap(Points(sizes, 500 * sizes**-s), noise=0.01) for s in (0.4, 0.2, -0.1)}
        cells = balance_cells(fits[0.4], fits[0.2], [1, 5, 50])
        assert [cells[f"c = {c}"].split()[0] for c in (1, 5, 50)] == ["0.50", "2.5", "25"]
        assert cells["best share for cheap ones"].startswith("33% [")
        assert set(balance_cells(fits[-0.1], fits[0.2], [5]).values()) >= {NO_FALL}

    def test_ratio_text(self) -> None:
        assert ratio_text(Estimate(4.04, 0.0, np.inf)) == "4.0 [0 to ∞]"
        assert ratio_text(Estimate(0.346, 0.0999, 128.0)) == "0.35 [0.10 to 130]"

    def test_size_text(self) -> None:
        text = size_text(Estimate(1234.0, 0.5, np.inf, never=0.25))
        assert text == "1.2 k [<1 to never; 25% of resamples never]"

    def test_nearest_start(self) -> None:
        pairs = [(100, 100), (400, 100), (1600, 100), (400, 400)]
        points = pd.DataFrame(pairs, columns=["pretrain_size", "train_size"]).assign(mode="full")
        assert [nearest_start(points, ratio) for ratio in (16, 1, 4)] == [(1600, 100), (100, 100), (400, 100)]


def test_lists_that_arrive_as_text_are_refused():
    """What papermill makes of ``-p sizes '[600]'``."""
    with pytest.raises(CgatError, match=r"sizes must be a list of whole numbers, not '\[600\]'; .* -y"):
        study().sizes(LOW, HIGH, "e_form", "[600]")
    with pytest.raises(CgatError, match="pretraining_sizes must be a list of whole numbers"):
        study().sizes(LOW, HIGH, "e_form", [600], [1000.5])
    with pytest.raises(CgatError, match="seeds must be a list of whole numbers"):
        study(seeds="[0, 1]")
