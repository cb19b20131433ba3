"""What a reader may touch: a figure, with the data that ``book/assets/touch.js`` draws a living one from.

On a screen the living figure takes the place of the picture, whose caption and downloads stay. On paper, and where no
script runs, the picture is there. Nothing is loaded but scripts of the book itself.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from cgatlib.crystals.crystal import SYMBOLS, Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.evaluation.scaling import ComputeBudget
from cgatlib.figures.data import PERIODIC_TABLE
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES, functional_colour
from cgatlib.runs.experiment import Run
from cgatlib.runs.tested import digests

DRAWS = 300  # resampled lines that a page carries, for its bands


def compute_budget(
    figure: HTML,
    budgets: Mapping[str, ComputeBudget],
    unit: str | Mapping[str, str],
    functionals: Mapping[str, tuple[str, str]],
    points: Mapping[str, pd.DataFrame] | None = None,
) -> HTML:
    """The calculator of compute budgets: sliders for the cost ratio, both set sizes and the budget.

    It shows the error after spending the budget on either kind of calculation, and on the best mixture of both.

    Args:
        figure: the picture (`figures.compute_budget` in `pages.show_figure`).
        budgets: starts with their fits, by the name a reader chooses them by: the paper's, ours.
        unit: of the errors, of all starts or of each.
        functionals: the cheap and the expensive functional of each start.
        points: measured runs of a start [pretrain_size, train_size, mae in `unit`]; starts without any have none.
    """
    units = dict.fromkeys(budgets, unit) if isinstance(unit, str) else unit
    starts = [
        {"name": name, "unit": units[name], **_start(budget, functionals[name], (points or {}).get(name))}
        for name, budget in budgets.items()
    ]
    return _alive(figure, "budget", {"starts": starts})


def _start(budget: ComputeBudget, functionals: tuple[str, str], points: pd.DataFrame | None) -> dict[str, Any]:
    training, pretraining = budget.training, budget.pretraining
    common = (training.shifts + pretraining.shifts) / 2  # one test set moves both curves together
    draws = [training.intercepts - common, training.slopes, pretraining.intercepts - common, pretraining.slopes]
    laws = [training.law.intercept, training.law.slope, pretraining.law.intercept, pretraining.law.slope]
    measured = pd.DataFrame(columns=["pretrain_size", "train_size", "mae"]) if points is None else points
    return {
        "names": [FUNCTIONAL_NAMES[functional] for functional in functionals],
        "colours": [functional_colour(functional) for functional in functionals],
        "start": [budget.n_pretrain, budget.n_train],
        "known": [pretraining.points.sizes.max(), training.points.sizes.max()],
        "cost": budget.cost_ratio,
        "laws": _short(laws),
        "draws": [_short(draw) for draw in np.transpose(draws)[:DRAWS]],
        "points": _short(measured.groupby(["pretrain_size", "train_size"])["mae"].mean().reset_index().to_numpy()),
    }


def predictions(runs: Iterable[Run], table: CrystalTable, label: str) -> pd.DataFrame:
    """Mean predictions of runs (seeds) for their test crystals: [row of the table, target, prediction]."""
    error = pd.concat([run.errors for run in runs]).groupby("crystal")["error"].mean()
    found = [row for row, digest in enumerate(digests(table.ids, table.formulas)) if digest in error.index]
    target = table.label(label)[found]
    names = digests([table.ids[row] for row in found], [table.formulas[row] for row in found])
    return pd.DataFrame({"row": found, "target": target, "prediction": target + error[names].to_numpy()})


def crystals(
    figure: HTML, predicted: pd.DataFrame, table: CrystalTable, label: str, published: Mapping[str, float]
) -> HTML:
    """The crystals behind a parity plot: each with its cell in three dimensions, all by a periodic table.

    Args:
        figure: the picture (`figures.runs.parity` in `pages.show_figure`).
        predicted: `predictions`.
        table: the crystals. Only one that may be shown: its structures go into the page.
        label: property that was predicted.
        published: number of the paper's crystals that contain an element, by symbol.
    """
    counts = Counter(symbol for crystal in table for symbol in {SYMBOLS[z - 1] for z in crystal.numbers})
    quantity = QUANTITIES[label]
    data = {
        "name": quantity.title,
        "unit": quantity.unit,
        "errorUnit": quantity.error_unit,
        "factor": quantity.error_factor,
        "table": [row.split() for row in PERIODIC_TABLE],
        "counts": counts,
        "published": {symbol: int(n) for symbol, n in published.items() if n > 0},
        "crystals": [
            {
                "formula": table.formulas[int(p.row)],
                "value": _short(p.target),
                "error": _short(p.prediction - p.target),
                **_cell(table.crystal(int(p.row))),
            }
            for p in predicted.itertuples()
        ],
    }
    return _alive(figure, "crystals", data)


def _cell(crystal: Crystal) -> dict[str, Any]:
    symbols = [SYMBOLS[z - 1] for z in crystal.numbers]
    return {"lattice": _short(crystal.lattice), "symbols": symbols, "sites": _short(crystal.frac_coords)}


def learning_curves(figure: HTML, curves: pd.DataFrame, unit: str, x: str = "step") -> HTML:
    """Learning curves whose procedures and repeats (seeds or splits) a reader switches on and off.

    Args:
        figure: the picture (`figures.learning_curves` in `pages.show_figure`).
        curves: long table [panel, mode, seed, <x>, validation_mae in `unit`], as the figure takes it.
        unit: of the errors, empty where panels say it. x: column of the horizontal axis, ``step`` or ``epoch``.
    """
    lines = [
        {
            "panel": _in_words(str(panel)),
            "mode": mode,
            "repeat": 1 + sorted(curves.loc[curves["panel"] == panel, "seed"].unique()).index(seed),
            "x": rows[x].tolist(),
            "y": _short(rows["validation_mae"]),
        }
        for (panel, mode, seed), rows in curves.groupby(["panel", "mode", "seed"], sort=False)
    ]
    used = [mode for mode in MODES if mode in set(curves["mode"])]
    looks = {mode: {"name": MODES[mode].name, "colour": MODES[mode].colour} for mode in used}
    return _alive(figure, "curves", {"unit": unit, "x": x.capitalize(), "modes": looks, "lines": lines})


def _in_words(panel: str) -> str:
    """A heading without mathtext, which a list of choices cannot show."""
    return reduce(lambda text, what: text.replace(what.symbol, what.title), QUANTITIES.values(), panel)


def _short(values: Any) -> Any:
    """Numbers in five digits, as nested lists."""
    return np.vectorize(lambda value: float(f"{value:.5g}"), otypes=[float])(values).tolist() if np.size(values) else []


def _alive(figure: HTML, kind: str, data: Mapping[str, Any]) -> HTML:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=float).replace("</", r"<\/")
    script = f'<script type="application/json" data-touch="{kind}">{text}</script>'
    return HTML(figure.data.replace("</figure>", f"{script}</figure>"))
