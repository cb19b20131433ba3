"""The figure of compute budgets (Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cgatlib import CgatError
from cgatlib.figures.style import (
    FUNCTIONAL_NAMES,
    MUTED,
    NotebookFigure,
    error_axis,
    functional_colour,
    panel_titles,
    require_columns,
    short_count,
    style,
)
from cgatlib.scaling.extrapolation import ComputeBudget


def compute_budget(
    scenarios: Mapping[str, ComputeBudget],
    points: pd.DataFrame | None,
    unit: str,
    *,
    low: str = "PBE",
    high: str = "SCAN",
    max_budget: float | None = None,
) -> Figure:
    """MAE against additional compute, spent on either kind of calculation, a panel per start (Fig. 5).

    Args:
        scenarios: Starts by title, with the fits along either size, whose 95 % bands are drawn.
        points: Measured runs [pretrain_size, train_size, seed, mae in `unit`]; those on a start's lines are drawn,
            crosses where high-fidelity, dots where low-fidelity crystals were added. None where nothing was measured.
        unit: Unit of the MAE.
        low: Functional of the pre-training set, whose calculation is the unit of cost.
        high: Functional of the training set.
        max_budget: End of the axis; by default what the measured points reach, or ten times the start.
    """
    if points is not None:
        require_columns(points, ("pretrain_size", "train_size", "seed", "mae"), "compute_budget")
    if not scenarios:
        raise CgatError("compute_budget needs at least one scenario")
    known = pd.DataFrame(columns=["pretrain_size", "train_size", "mae"], dtype=float) if points is None else points
    measured = known.groupby(["pretrain_size", "train_size"], as_index=False)["mae"].mean()
    ends = [_reach(budget, measured) for budget in scenarios.values()]
    with style():
        fig = NotebookFigure(figsize=(max(4.6, 3.0 * len(scenarios)), 3.5), layout="constrained")
        axes = fig.subplots(1, len(scenarios), sharey=True, squeeze=False)[0]
        for ax, budget, end in zip(axes, scenarios.values(), ends, strict=True):
            _budget_panel(ax, budget, measured, max_budget or end, (low, high))
        panel_titles(axes, list(scenarios))
        axes[0].set_ylabel(f"Test MAE ({unit})")
        error_axis(axes[0])
        _legend(fig, low, high, next(iter(scenarios.values())).cost_ratio, measured=points is not None)
    return fig


def _legend(fig: Figure, low: str, high: str, cost: float, measured: bool) -> None:
    dear, cheap = FUNCTIONAL_NAMES[high], FUNCTIONAL_NAMES[low]
    cross, dot = ("x", "o") if measured else ("", "")
    handles = [
        Line2D([], [], color=functional_colour(high), linestyle="-", marker=cross, label=f"spent on {dear}"),
        Line2D([], [], color=functional_colour(low), linestyle="--", marker=dot, label=f"spent on {cheap}"),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    fig.supxlabel(f"Additional compute ({cheap} calculations; one {dear} costs {cost:g})", fontsize=10.5)


def _on_lines(budget: ComputeBudget, measured: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measured points [cost, mae] where high-fidelity, and where low-fidelity crystals were added to the start."""
    high = measured[(measured["pretrain_size"] == budget.n_pretrain) & (measured["train_size"] >= budget.n_train)]
    low = measured[(measured["train_size"] == budget.n_train) & (measured["pretrain_size"] >= budget.n_pretrain)]
    return (
        high.assign(cost=budget.cost_ratio * (high["train_size"] - budget.n_train)),
        low.assign(cost=low["pretrain_size"] - budget.n_pretrain),
    )


def _reach(budget: ComputeBudget, measured: pd.DataFrame) -> float:
    furthest = max((float(rows["cost"].max()) for rows in _on_lines(budget, measured) if len(rows)), default=0.0)
    return 1.1 * furthest if furthest > 0 else 10 * budget.cost_ratio * budget.n_train


def _budget_panel(ax: Axes, budget: ComputeBudget, measured: pd.DataFrame, end: float, names: tuple[str, str]) -> None:
    low, high = names
    spent = np.linspace(0, end, 300)
    common = (budget.training.shifts + budget.pretraining.shifts) / 2  # one test set moves both curves together
    for name, fit, sizes, line in (
        (high, budget.training, budget.training_size(spent), "-"),
        (low, budget.pretraining, budget.pretraining_size(spent), "--"),
    ):
        colour = functional_colour(name)
        low_high = fit.band(sizes, common=common)
        ax.fill_between(spent, *low_high, color=colour, alpha=0.15, linewidth=0, gid=f"band {name}")
        ax.plot(spent, fit.law.predict(sizes), line, color=colour, gid=f"spend {name}")
    on_high, on_low = _on_lines(budget, measured)
    ax.plot(on_low["cost"], on_low["mae"], "o", color=functional_colour(low), gid=f"measured {low}")
    ax.plot(
        on_high["cost"], on_high["mae"], "x", color=functional_colour(high), markeredgewidth=1.8,
        markersize=6.5, gid=f"measured {high}",
    )  # fmt: skip
    ax.set_xlim(-0.03 * end, end)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: short_count(n)))
    gain = budget.training_advantage.value
    better, factor = (high, gain) if gain >= 1 else (low, 1 / gain)
    text = f"at the start {FUNCTIONAL_NAMES[better]} gains {factor:.1f}× more per cost"
    if f"{factor:.1f}" == "1.0":
        text = "at the start both gain the same per cost"
    ax.text(0.97, 0.96, text, transform=ax.transAxes, ha="right", va="top", fontsize=9, color=MUTED)
