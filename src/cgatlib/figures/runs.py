"""Figures of single runs: learning curves (Figs. 1, 6, 7) and predictions against targets."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cgatlib.figures.style import (
    MODES,
    MUTED,
    NotebookFigure,
    error_axis,
    mode_style,
    panel_titles,
    quantity,
    require_columns,
    short_count,
    style,
)


def learning_curves(
    curves: pd.DataFrame, unit: str, *, x: str = "epoch", log: bool = True, schedule: bool = True
) -> Figure:
    """Validation MAE during training, a panel each: mean over seeds with the range of seeds (Figs. 1, 6, 7).

    Args:
        curves: Long table [panel, mode, seed, <x>, validation_mae in `unit`], optionally learning_rate.
        unit: Unit of the MAE, for the axis.
        x: Column of the horizontal axis, "epoch" or "step".
        log: Logarithmic MAE axis.
        schedule: Draw the learning rate in a strip below when the column is there.
    """
    require_columns(curves, ("panel", "mode", "seed", x, "validation_mae"), "learning_curves")
    panels = list(dict.fromkeys(curves["panel"]))
    strip = schedule and "learning_rate" in curves
    with style():
        height = 3.4 + 0.7 * strip
        fig = NotebookFigure(figsize=(4.6 if len(panels) == 1 else 3.8 * len(panels), height), layout="constrained")
        ratios = {"height_ratios": [5, 1]} if strip else None
        axes = fig.subplots(1 + strip, len(panels), squeeze=False, sharex="col", gridspec_kw=ratios)
        panel_titles(axes[0], panels)
        for column, panel in enumerate(panels):
            rows = curves[curves["panel"] == panel]
            _curve_panel(axes[0, column], rows, x)
            if log:
                error_axis(axes[0, column])
            if strip:
                _schedule_strip(axes[1, column], rows, x)
            axes[-1, column].set_xlabel({"epoch": "Epoch", "step": "Step"}.get(x, x))
        axes[0, 0].set_ylabel(f"Validation MAE ({unit})")
        fig.legend(handles=_mode_handles(curves), loc="outside upper center", ncols=2 if len(panels) == 1 else 4)
    return fig


def _curve_panel(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    for mode in MODES:
        runs = rows[rows["mode"] == mode]
        if runs.empty:
            continue
        look, over = MODES[mode], runs.groupby(x)["validation_mae"]
        mean = over.mean()
        ax.plot(mean.index, mean, color=look.colour, linestyle=look.line, gid=f"mean {mode}")
        if runs["seed"].min() < runs["seed"].max():
            ax.fill_between(mean.index, over.min(), over.max(), color=look.colour, alpha=0.18, linewidth=0)
    ax.margins(x=0.01)


def _schedule_strip(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    first = rows[rows["seed"] == rows["seed"].iloc[0]].sort_values(x)  # the schedule knows no seed
    shared = first.groupby(x)["learning_rate"].nunique().max() == 1
    for mode, rate in first.groupby("mode"):
        colour = MUTED if shared else mode_style(str(mode)).colour
        ax.plot(rate[x], rate["learning_rate"], color=colour, linewidth=1)
    top = rows["learning_rate"].max()
    exponent = int(np.floor(np.log10(top)))
    ax.set_ylim(0, 1.15 * top)
    ax.set_yticks([0, top], ["0", f"{top / 10.0**exponent:.3g}"])
    ax.set_ylabel(rf"Rate, $10^{{{exponent}}}$", fontsize=9.5)
    ax.grid(visible=False, axis="x")


def _mode_handles(rows: pd.DataFrame) -> list[Line2D]:
    for mode in rows["mode"].unique():
        mode_style(mode)  # refuses what has no fixed look
    used = [MODES[mode] for mode in MODES if mode in set(rows["mode"])]
    return [Line2D([], [], color=look.colour, linestyle=look.line, label=look.name) for look in used]


def parity(predictions: pd.DataFrame, label: str, *, title: str = "") -> Figure:
    """Prediction against target of a test set as a hexagonal density, with its MAE.

    `predictions` has the columns [target, prediction] in the unit of the label.
    """
    require_columns(predictions, ("target", "prediction"), "parity")
    what = quantity(label)
    target, prediction = predictions["target"].to_numpy(), predictions["prediction"].to_numpy()
    low, high = np.quantile(np.concatenate([target, prediction]), [0.001, 0.999])
    mae = np.abs(prediction - target).mean() * what.error_factor
    with style():
        fig = NotebookFigure(figsize=(4.6, 4.0), layout="constrained")
        # Without its palest quarter, in which a single crystal would be lost on the white page.
        shades = ListedColormap(mpl.colormaps["YlGnBu"](np.linspace(0.28, 1, 256)))
        ax = fig.subplots()
        hexes = ax.hexbin(
            target, prediction, gridsize=60, extent=(low, high, low, high), norm=LogNorm(), mincnt=1,
            cmap=shades, linewidths=0.1,
        )  # fmt: skip
        ax.plot([low, high], [low, high], color=MUTED, linewidth=0.9)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=title)
        ax.set_xlabel(f"{what.symbol}, target ({what.unit})")
        ax.set_ylabel(f"{what.symbol}, prediction ({what.unit})")
        text = f"MAE {mae:.{what.error_digits}f} {what.error_unit}\n{len(target):,} crystals"
        ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top")
        bar = fig.colorbar(hexes, shrink=0.75, format=lambda n, _: short_count(n))
        bar.set_label("Crystals")
        bar.outline.set_visible(False)
    return fig
