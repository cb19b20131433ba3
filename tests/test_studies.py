"""Errors by seed and size in the units in which they are shown, and what their lines say."""

import numpy as np
import pandas as pd
import pytest

from cgatbook.scaling_cells import (
    NO_FALL,
    balance_cells,
    held_out_cells,
    in_units,
    ratio_text,
    scaling_row,
    size_text,
    slope_sentence,
    starts_of,
)
from cgatlib import CgatError
from cgatlib.evaluation.scaling import Points, bootstrap
from cgatlib.evaluation.statistics import Estimate


def made_up(none: float = 0.030, head: float = 0.027, full: float = 0.020, noise: float = 0.0005) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        for mode, mae in (("none", none), ("head", head), ("full", full)):
            rows.append(("SCAN", mode, "" if mode == "none" else "e_form", seed, mae + noise * rng.normal()))
        rows.append(("PBE", "none", "", seed, 0.018))
    frame = pd.DataFrame(rows, columns=["functional", "mode", "source_label", "seed", "test_mae"])
    return frame.assign(label="e_form", train_size=100, learning_rate=1e-3)


class TestCells:
    def test_units(self) -> None:
        assert in_units(made_up(), "e_form")["mae"].iloc[0] == pytest.approx(1000 * made_up()["test_mae"].iloc[0])

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
        assert "no gain is seen" not in slope_sentence(points, "Volume")
        flat = points.assign(mae=points["mae"].where(points["mode"] == "none", np.tile([30.0, 31.0], 8)))
        assert slope_sentence(flat, "Volume").endswith("from 100 to 800 crystals no gain is seen.")

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

    def test_nearest_starts(self) -> None:
        pairs = [(p, n, seed) for p in (100, 400, 1600) for n in (100, 200, 400) for seed in (0, 1)]
        points = pd.DataFrame(pairs, columns=["pretrain_size", "train_size", "seed"]).assign(mode="full", mae=1.0)
        found = [(b.n_pretrain, b.n_train) for b in starts_of(points, (16, 1, 4), 5).values()]
        assert found == [(1600, 100), (100, 100), (400, 100)]
