"""What a reader may touch: a figure, with the data that ``book/assets/touch.js`` draws a living one from.

On a screen the living figure takes the place of the picture, whose caption and downloads stay. On paper, and where no
script runs, the picture is there. Nothing is loaded but scripts of the book itself.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from cgatlib.crystals.crystal import SYMBOLS, Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.evaluation.scaling import ComputeBudget
from cgatlib.figures.data import PERIODIC_TABLE
from cgatlib.figures.style import FUNCTIONAL_NAMES, MODES, QUANTITIES, functional_colour
from cgatlib.runs.tested import digests

DRAWS = 300  # resampled lines that a page carries, for its bands


def compute_budget(
    figure: HTML,
    budgets: Mapping[str, ComputeBudget],
    unit: str,
    functionals: Mapping[str, tuple[str, str]],
    points: Mapping[str, pd.DataFrame] | None = None,
) -> HTML:
    """The calculator of compute budgets: sliders for the cost ratio, both set sizes and the budget.

    It shows the error after spending the budget on either kind of calculation, and on the best mixture of both.

    Args:
        figure: the picture (`figures.compute_budget` in `pages.show_figure`).
        budgets: starts with their fits, by the name a reader chooses them by: the paper's, ours.
        unit: of the errors.
        functionals: the cheap and the expensive functional of each start.
        points: measured runs of a start [pretrain_size, train_size, mae in `unit`]; starts without any have none.
    """
    starts = [_start(name, budget, functionals[name], (points or {}).get(name)) for name, budget in budgets.items()]
    return _alive(figure, "budget", {"unit": unit, "starts": starts})


def _start(
    name: str, budget: ComputeBudget, functionals: tuple[str, str], points: pd.DataFrame | None
) -> dict[str, Any]:
    training, pretraining = budget.training, budget.pretraining
    common = (training.shifts + pretraining.shifts) / 2  # one test set moves both curves together
    draws = [training.intercepts - common, training.slopes, pretraining.intercepts - common, pretraining.slopes]
    laws = [training.law.intercept, training.law.slope, pretraining.law.intercept, pretraining.law.slope]
    measured = pd.DataFrame(columns=["pretrain_size", "train_size", "mae"]) if points is None else points
    return {
        "name": name,
        "names": [FUNCTIONAL_NAMES[functional] for functional in functionals],
        "colours": [functional_colour(functional) for functional in functionals],
        "start": [budget.n_pretrain, budget.n_train],
        "known": [pretraining.points.sizes.max(), training.points.sizes.max()],
        "least": [pretraining.points.sizes.min(), training.points.sizes.min()],
        "cost": budget.cost_ratio,
        "laws": _short(laws),
        "draws": [_short(draw) for draw in np.transpose(draws)[:DRAWS]],
        "points": _short(measured.groupby(["pretrain_size", "train_size"])["mae"].mean().reset_index().to_numpy()),
    }


def crystals(
    figure: HTML,
    errors: pd.DataFrame,
    table: CrystalTable,
    label: str,
    published: Mapping[str, int],
) -> HTML:
    """The crystals behind a parity plot: each with its cell in three dimensions, all by a periodic table.

    Args:
        figure: the picture (`figures.parity` in `pages.show_figure`).
        errors: prediction minus target, as `Run.errors` [crystal, error / unit of the label]; of several
            errors of a crystal the mean is shown.
        table: the crystals, with that label. Only of a table that may be shown: its structures go into the page.
        label: property that was predicted.
        published: number of the paper's crystals that contain an element, by symbol.
    """
    mean = errors.groupby("crystal")["error"].mean()
    found = {int(row): d for row, d in enumerate(digests(table.ids, table.formulas)) if d in mean.index}
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
        "crystals": [_crystal(table.crystal(i), table.formulas[i], label, mean[d]) for i, d in found.items()],
    }
    return _alive(figure, "crystals", data)


def _crystal(crystal: Crystal, formula: str, label: str, error: float) -> dict[str, Any]:
    return {
        "formula": formula,
        "value": _short(crystal.labels[label]),
        "error": _short(error),
        "lattice": _short(crystal.lattice),
        "symbols": [SYMBOLS[z - 1] for z in crystal.numbers],
        "sites": _short(crystal.frac_coords),
    }


def learning_curves(figure: HTML, curves: pd.DataFrame, unit: str, x: str = "step") -> HTML:
    """Learning curves whose procedures and seeds a reader switches on and off.

    Args:
        figure: the picture (`figures.learning_curves` in `pages.show_figure`).
        curves: long table [panel, mode, seed, <x>, validation_mae in `unit`], as the figure takes it.
        unit: of the errors. x: column of the horizontal axis, ``step`` or ``epoch``.
    """
    lines = [
        {"panel": panel, "mode": mode, "seed": int(seed), "x": rows[x].tolist(), "y": _short(rows["validation_mae"])}
        for (panel, mode, seed), rows in curves.groupby(["panel", "mode", "seed"], sort=False)
    ]
    used = [mode for mode in MODES if mode in set(curves["mode"])]
    looks = {mode: {"name": MODES[mode].name, "colour": MODES[mode].colour} for mode in used}
    return _alive(figure, "curves", {"unit": unit, "x": x.capitalize(), "modes": looks, "lines": lines})


def _short(values: Any) -> Any:
    """Numbers in five digits, as nested lists."""
    return np.vectorize(lambda value: float(f"{value:.5g}"), otypes=[float])(values).tolist() if np.size(values) else []


def _alive(figure: HTML, kind: str, data: Mapping[str, Any]) -> HTML:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=float).replace("</", r"<\/")
    script = f'<script type="application/json" data-touch="{kind}">{text}</script>'
    return HTML(figure.data.replace("</figure>", f"{script}</figure>"))
