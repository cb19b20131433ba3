"""Figures of runs: learning curves (Figs. 1, 6, 7), predictions against targets, what transfer gains, noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from cgatlib.figures.style import (
    GRID,
    MODES,
    MUTED,
    PAGE,
    Mode,
    NotebookFigure,
    error_axis,
    looked_up,
    mode_style,
    panel_titles,
    quantity,
    require_columns,
    style,
)

OURS = "#1F83C4"


def learning_curves(curves: pd.DataFrame, unit: str) -> Figure:
    """Validation MAE against step in one row of panels: mean over seeds with the range of seeds (Figs. 1, 6, 7).

    Args:
        curves: Long table [panel, mode, seed, step, validation_mae in `unit`], optionally learning_rate, which is drawn
            as a share of its highest value in a strip below.
        unit: Unit of the MAE, for the axis.
    """
    require_columns(curves, ("panel", "mode", "seed", "step", "validation_mae"), "learning_curves")
    for mode in curves["mode"].unique():
        mode_style(mode)  # refuses what has no fixed look
    panels = list(dict.fromkeys(curves["panel"]))
    strip = "learning_rate" in curves
    with style():
        width = 4.9 if len(panels) == 1 else min(3.1 * len(panels), 10.5)
        fig = NotebookFigure(figsize=(width, 3.3 + 0.2 * strip), layout="constrained")
        grid = fig.add_gridspec(1 + strip, len(panels), height_ratios=[16, 1][: 1 + strip], hspace=0.02)
        axes: list[Axes] = []
        for column, panel in enumerate(panels):
            ax = fig.add_subplot(grid[0, column])
            axes.append(ax)
            rows = curves[curves["panel"] == panel]
            _curve_panel(ax, rows)
            last = _schedule_strip(fig.add_subplot(grid[1, column], sharex=ax), rows) if strip else ax
            last.set_xlabel("Step")
        panel_titles(axes, panels)
        for ax in axes:
            ax.tick_params(labelbottom=not strip)
            error_axis(ax)
        axes[0].set_ylabel(f"Validation MAE ({unit})")
        used = [MODES[mode] for mode in MODES if mode in set(curves["mode"])]
        handles = [Line2D([], [], color=look.colour, linestyle=look.line, label=look.name) for look in used]
        fig.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3 if len(panels) == 1 else 6))
    return fig


def _curve_panel(ax: Axes, rows: pd.DataFrame) -> None:
    for mode, look in MODES.items():
        runs = rows[rows["mode"] == mode]
        if len(runs):
            drawn = {"color": look.colour, "linestyle": look.line, "err_kws": {"linewidth": 0}}
            sns.lineplot(runs, x="step", y="validation_mae", errorbar=("pi", 100), ax=ax, gid=f"mean {mode}", **drawn)
    ax.margins(x=0.01)
    ax.set(xlabel="", ylabel="")


def _schedule_strip(ax: Axes, rows: pd.DataFrame) -> Axes:
    first = rows[rows["seed"] == rows["seed"].iloc[0]].sort_values("step")  # the schedule knows no seed
    shapes: dict[tuple[float, ...], tuple[pd.Series, np.ndarray, str]] = {}
    for mode, rate in first.groupby("mode"):
        share = (rate["learning_rate"] / rate["learning_rate"].max()).to_numpy()
        shapes.setdefault(tuple(share.round(6)), (rate["step"], share, str(mode)))
    for at, share, mode in shapes.values():
        colour = MUTED if len(shapes) == 1 else MODES[mode].colour
        ax.fill_between(at, 0, share, color=colour, alpha=0.35, linewidth=0)
    ax.set(ylim=(0, 1.05), yticks=[])
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    ax.set_ylabel("rate", rotation=0, ha="right", va="center", fontsize=9)
    return ax


def parity(predictions: pd.DataFrame, label: str) -> Figure:
    """Prediction against target of a test set, with its MAE, and the distribution of the errors.

    `predictions` has the columns [target, prediction] in the unit of the label.
    """
    require_columns(predictions, ("target", "prediction"), "parity")
    what = quantity(label)
    target, prediction = predictions["target"].to_numpy(), predictions["prediction"].to_numpy()
    error = (prediction - target) * what.error_factor
    low, high = np.quantile(np.concatenate([target, prediction]), [0.001, 0.999])
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    with style():
        fig = NotebookFigure(figsize=(7.4, 3.9), layout="constrained")
        ax, errors = fig.subplots(1, 2, width_ratios=[1.35, 1])
        ax.plot(target, prediction, "o", color=OURS, markersize=3.2, alpha=0.45, markeredgewidth=0, gid="points")
        ax.plot([low, high], [low, high], color=MUTED, linewidth=0.9)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        ax.set_xlabel(f"{what.symbol}, target ({what.unit})")
        ax.set_ylabel(f"{what.symbol}, prediction ({what.unit})")
        text = f"MAE {np.abs(error).mean():.{what.error_digits}f} {what.error_unit}\n{len(target):,} crystals"
        ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top")
        reach = float(np.quantile(np.abs(error), 0.98)) or 1.0
        sns.histplot(x=error, bins=list(np.linspace(-reach, reach, 41)), element="step", color=OURS, ax=errors)
        errors.axvline(0, color=MUTED, linewidth=0.9)
        errors.set(xlabel=f"Prediction − target ({what.error_unit})", ylabel="Crystals", xlim=(-reach, reach))
    return fig


# How a number of `reductions` is drawn by where it comes from, from top to bottom.
_SOURCES = {
    "paper": Mode("paper", "#C2571A", "-", "D"),
    "short training": Mode("ours, short training", OURS, "-", "o"),
    "long training": Mode("ours, trained until it stops improving", OURS, "-", "o"),
}


def reductions(frame: pd.DataFrame) -> Figure:
    """Reduction of the test error by transfer for every target: the paper's value beside ours with its interval.

    Args:
        frame: Table [target, source ("paper", "short training" or "long training"), value, low, high, verdict], a row
            per target and source in the order of drawing. Reductions are shares; low and high are NaN where no interval
            is known. The verdict of a target's last row is written beside it.
    """
    require_columns(frame, ("target", "source", "value", "low", "high", "verdict"), "reductions")
    for source in frame["source"].unique():
        looked_up(source, _SOURCES, "source")
    targets = list(dict.fromkeys(frame["target"]))
    with style():
        fig = NotebookFigure(figsize=(5.6, 1.2 + 0.52 * len(targets)), layout="constrained")
        ax = fig.subplots()
        for row, target in enumerate(targets):
            some = frame[frame["target"] == target]
            for source, look in _SOURCES.items():
                _reduction(ax, some[some["source"] == source], look, row + 0.22 * (list(_SOURCES).index(source) - 1))
            ax.text(1.02, row, some["verdict"].iloc[-1], transform=ax.get_yaxis_transform(), va="center", color=MUTED)
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


# Rules for neighbour lists that `noise` shows: look and name by what the benchmark calls them.
_RULES = {
    "released code: shells of 1e-8 Å, cut at k": Mode("released rule", "#D66A00", "", "s"),
    "whole shells of 1e-3 Å": Mode("whole shells", "#7A8793", "", "^"),
    "continuous ranks": Mode("ours: continuous ranks", OURS, "", "o"),
}
_MOVES = {"0.002 Å": "atoms moved by 0.002 Å", "0.02 Å": "atoms moved by 0.02 Å", "three digits": "three-digit CIF"}


def noise(rows: pd.DataFrame) -> Figure:
    """How far predictions move when a crystal's description does, by the rule for its neighbour list; a panel a label.

    Args:
        rows: Table [rule, label, seed, "0.002 Å", "0.02 Å", "three digits"], the latter the mean change of a prediction
            as a share of the test MAE, as ``python -m benchmarks.noise`` measures it; other rules are left out.
    """
    require_columns(rows, ("rule", "label", "seed", *_MOVES), "noise")
    labels = list(dict.fromkeys(rows["label"]))
    with style():
        fig = NotebookFigure(figsize=(4.1 * len(labels) + 1.0, 2.6), layout="constrained")
        axes = fig.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
        panel_titles(axes, [quantity(label).title for label in labels])
        for ax, label in zip(axes, labels, strict=True):
            for offset, (rule, look) in zip((-0.2, 0.0, 0.2), _RULES.items(), strict=True):
                some = rows[(rows["rule"] == rule) & (rows["label"] == label)]
                for row, move in enumerate(_MOVES):
                    ax.plot(some[move], np.full(len(some), row + offset), look.marker, color=look.colour, alpha=0.6,
                            markersize=5, gid=f"{rule}: {move}")  # fmt: skip
            ax.set(xscale="log", ylim=(len(_MOVES) - 0.5, -0.5), yticks=range(len(_MOVES)))
            ax.set_yticklabels(_MOVES.values())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.grid(visible=False, axis="y")
            ax.axvline(1, color=GRID, linewidth=4, zorder=0)
        fig.supxlabel("Mean change of a prediction, as a share of the model's own error", fontsize=10.5)
        handles = [Line2D([], [], color=k.colour, marker=k.marker, linestyle="", label=k.name) for k in _RULES.values()]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig
