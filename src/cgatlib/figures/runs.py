"""Figures of runs: learning curves (Figs. 1, 6, 7), predictions against targets, what transfer gains."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from cgatlib.errors import CgatError
from cgatlib.figures.style import (
    MODES,
    MUTED,
    PAGE,
    Mode,
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


# How a number of `reductions` is drawn by where it comes from, from top to bottom.
_SOURCES = {
    "paper": Mode("paper", "#C2571A", "-", "D"),
    "short training": Mode("ours, short training", "#1F83C4", "-", "o"),
    "long training": Mode("ours, trained until it stops improving", "#1F83C4", "-", "o"),
}


def reductions(frame: pd.DataFrame) -> Figure:
    """Reduction of the test error by transfer for every target: the paper's value beside ours with its interval.

    Args:
        frame: Table [target (text), source ("paper", "short training" or "long training"), value, low, high, verdict
            (text)], a row per target and source in the order of drawing. Reductions are shares: 0.34 where transfer
            takes a third of the error away. low and high are NaN where no interval is known. The verdict of a target's
            last row is written beside it, unless it is empty.
    """
    require_columns(frame, ("target", "source", "value", "low", "high", "verdict"), "reductions")
    if unknown := set(frame["source"]) - _SOURCES.keys():
        raise CgatError(f"unknown source {min(unknown)!r} of a reduction; known: {', '.join(_SOURCES)}")
    targets = list(dict.fromkeys(frame["target"]))
    with style():
        fig = NotebookFigure(figsize=(7.6, 1.2 + 0.52 * len(targets)), layout="constrained")
        ax = fig.subplots()
        for row, target in enumerate(targets):
            some = frame[frame["target"] == target]
            for source, look in _SOURCES.items():
                _reduction(ax, some[some["source"] == source], look, row + 0.22 * (list(_SOURCES).index(source) - 1))
            ax.annotate(
                some["verdict"].iloc[-1], (1.02, row), xycoords=("axes fraction", "data"), va="center", color=MUTED
            )
        ax.axvline(0, color=MUTED, linewidth=1)
        ax.set(yticks=range(len(targets)), ylim=(len(targets) - 0.5, -0.5))
        ax.set_yticklabels(targets)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        ax.spines["left"].set_visible(False)
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        ax.set_xlabel("Error reduction by transfer (95 % interval)")
        used = [look for source, look in _SOURCES.items() if source in set(frame["source"])]
        handles = [_dot(ax, math.nan, 0, look) for look in used]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig


def _reduction(ax: Axes, rows: pd.DataFrame, look: Mode, y: float) -> None:
    for row in rows.itertuples():
        width = 1.3 if look.name.endswith("short training") else 2.4
        ax.plot([row.low, row.high], [y, y], color=look.colour, linewidth=width, solid_capstyle="round")
        _dot(ax, row.value, y, look).set_gid(f"{row.source}: {row.target}")


def _dot(ax: Axes, x: float, y: float, look: Mode) -> Line2D:
    """A marker, open for short training."""
    face = PAGE if look.name.endswith("short training") else look.colour
    return ax.plot(x, y, look.marker, color=look.colour, markerfacecolor=face, markersize=6.5, label=look.name)[0]
