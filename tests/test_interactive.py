"""What a page carries for a reader to touch; the browser tests say what the scripts make of it."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from IPython.display import HTML

from cgatbook.interactive import compute_budget, crystals, learning_curves, predictions
from cgatlib.evaluation.scaling import ComputeBudget, Points, bootstrap
from cgatlib.runs.tested import digests

PICTURE = HTML('<figure class="cgat-figure"><svg></svg><figcaption>Errors</figcaption></figure>')


def carried(figure: HTML, kind: str) -> dict:
    """The data, which stand inside the figure, behind all that is shown without a script."""
    found = re.fullmatch(
        rf'(.*)<script type="application/json" data-touch="{kind}">(.*)</script></figure>', figure.data
    )
    assert f"{found[1]}</figure>" == PICTURE.data
    return json.loads(found[2])


def test_budget():
    sizes = np.array([100.0, 400.0, 1600.0])
    training, pretraining = (bootstrap(Points(sizes * k, 90 * sizes**-0.2), noise=0.02) for k in (1, 10))
    budget = ComputeBudget(training, pretraining, n_train=400, n_pretrain=4000)
    points = pd.DataFrame({"pretrain_size": [4000, 4000], "train_size": [400, 400], "mae": [20.0, 22.0]})
    ours, theirs = carried(
        compute_budget(
            PICTURE, {"ours": budget, "</b>": budget}, "meV/atom", dict.fromkeys(["ours", "</b>"], ("PBE", "r2SCAN")),
            {"ours": points},
        ),
        "budget",
    )["starts"]  # fmt: skip
    assert (ours["points"], theirs["points"], theirs["name"]) == ([[4000, 400, 21]], [], "</b>")
    assert (ours["unit"], theirs["unit"]) == ("meV/atom", "meV/atom")
    assert (ours["start"], ours["known"], ours["names"]) == ([4000, 400], [16000, 1600], ["PBE", "r²SCAN"])
    a, beta, b, alpha = ours["laws"]
    assert np.exp(a - beta * np.log(400)) == pytest.approx(float(training.law.predict(400)), rel=1e-4)
    assert np.exp(b - alpha * np.log(4000)) == pytest.approx(float(pretraining.law.predict(4000)), rel=1e-4)
    slopes = np.array(ours["draws"])[:, 1]
    assert np.quantile(slopes, [0.025, 0.975]) == pytest.approx([training.slope.low, training.slope.high], abs=0.01)


def test_crystals(table):
    rows = [2, 5]
    names = digests([table.ids[i] for i in rows], [table.formulas[i] for i in rows])
    runs = [
        SimpleNamespace(errors=pd.DataFrame({"crystal": names[::-1], "error": e})) for e in ([0.1, -0.2], [0.3, -0.2])
    ]
    predicted = predictions(runs, table, "e_form")
    assert predicted["row"].tolist() == rows
    assert predicted["target"].tolist() == table.label("e_form")[rows].tolist()
    assert (predicted["prediction"] - predicted["target"]).to_numpy() == pytest.approx([-0.2, 0.2])
    data = carried(crystals(PICTURE, predicted, table, "e_form", {"Fe": 7, "Xe": math.nan}), "crystals")
    assert (data["published"], data["errorUnit"], data["factor"]) == ({"Fe": 7}, "meV/atom", 1000)
    for shown, row, error in zip(data["crystals"], rows, (-0.2, 0.2), strict=True):
        crystal = table.crystal(row)
        assert (shown["formula"], shown["error"]) == (table.formulas[row], error)
        assert np.array(shown["lattice"]) == pytest.approx(crystal.lattice, rel=1e-4)
        assert len(shown["symbols"]) == len(shown["sites"]) == len(crystal.numbers)
        holding = sum(crystal.numbers[0] in other.numbers for other in table)
        assert data["counts"][shown["symbols"][0]] == holding


def test_learning_curves():
    rows = {
        "panel": r"$E_\mathrm{form}$, PBE",
        "mode": "full",
        "seed": [10, 10, 20, 20],  # of two splits
        "step": [10, 20] * 2,
        "validation_mae": [4, 3, 5, 2.5],
    }
    data = carried(learning_curves(PICTURE, pd.DataFrame(rows), "eV"), "curves")
    assert [(line["repeat"], line["x"], line["y"]) for line in data["lines"]] == [
        (1, [10, 20], [4, 3]),
        (2, [10, 20], [5, 2.5]),
    ]
    assert (list(data["modes"]), data["lines"][0]["panel"]) == (["full"], "Formation energy, PBE")
