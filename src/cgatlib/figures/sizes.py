"""Figures of errors against sizes with their fits: Figs. 3, 4 and 8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cgatlib import CgatError
from cgatlib.figures.series import Series, aligned, crossings, curve_points, mode_series, panel_series, shaded
from cgatlib.figures.style import (
    ACCURACY,
    INK,
    MODES,
    MUTED,
    NotebookFigure,
    error_axis,
    number,
    panel_titles,
    require_columns,
    short_count,
    size_axis,
    style,
)
from cgatlib.scaling.powerlaws import Estimate, PowerLaw

__all__ = ["curve_points", "size_scaling", "transfer_scaling", "with_interval"]


def size_scaling(points: pd.DataFrame, unit: str, *, chemical_accuracy: float | None = None) -> Figure:
    """Test MAE against training size by pre-training size, and the other way round (Fig. 3).

    Args:
        points: Table [pretrain_size (0: no transfer), train_size, seed, mae in `unit`], optionally errors.
        unit: Unit of the MAE.
        chemical_accuracy: Height of the chemical-accuracy line in `unit`, or None where the unit is no energy.
    """
    require_columns(points, ("pretrain_size", "train_size", "seed", "mae"), "size_scaling")
    transfer = points[points["pretrain_size"] > 0]
    if transfer.empty:
        raise CgatError("size_scaling needs at least one pre-training size")
    left = shaded(transfer, by="pretrain_size", against="train_size")
    scratch = points[points["pretrain_size"] == 0]
    if not scratch.empty:
        left.append(mode_series(scratch, "none", MODES["none"].name, MODES["none"].colour))
    right = shaded(transfer, by="train_size", against="pretrain_size")
    with style():
        fig, axes, tables = _canvas([len(left), len(right)])
        headings = ("Pre-training crystals", "Training crystals")
        panel_titles(axes, [f"By {heading.lower()}" for heading in headings])
        for index, (ax, series) in enumerate(zip(axes, (aligned(left), aligned(right)), strict=True)):
            _draw(ax, series, chemical_accuracy)
            ax.set_xlabel(headings[1 - index])
            _legend_table(tables[index], series, headings[index])
        _share_error_axis(axes, unit)
    return fig


def transfer_scaling(
    points: pd.DataFrame,
    unit: str,
    *,
    chemical_accuracy: float | None = None,
    split: str = "test",
    noise: float | None = None,
) -> Figure:
    """MAE against training size with and without transfer, extended to where the lines cross (Figs. 4, 8).

    Args:
        points: Table [panel, functional, mode, train_size, seed, mae in `unit`], optionally errors. A panel with
            one functional is coloured by mode, one with several by functional; no transfer is dashed.
        unit: Unit of the MAE.
        chemical_accuracy: Height of the chemical-accuracy line in `unit`, or None.
        split: Part of the data the MAE is of, for the axis ("test" or "validation").
        noise: Relative standard deviation of an error, if the points are not measured but taken from known lines:
            they are not drawn, and the bands come from this noise.
    """
    require_columns(points, ("panel", "functional", "mode", "train_size", "seed", "mae"), "transfer_scaling")
    panels = list(dict.fromkeys(points["panel"]))
    series = [panel_series(points[points["panel"] == panel], noise) for panel in panels]
    with style():
        fig, axes, tables = _canvas([len(lines) for lines in series])
        panel_titles(axes, panels)
        for index, (ax, lines) in enumerate(zip(axes, series, strict=True)):
            meetings = crossings(lines)
            _draw(ax, lines, chemical_accuracy, reach=max((n for n, _ in meetings), default=None))
            _mark_crossings(ax, meetings)
            ax.set_xlabel("Training crystals")
            _legend_table(tables[index], lines, "")
        _share_error_axis(axes, unit, split)
    return fig


def _mark_crossings(ax: Axes, meetings: Sequence[tuple[float, PowerLaw]]) -> None:
    """A marker and the size at each crossing, the labels above and below in turn."""
    ordered = sorted(((n, float(law.predict(n))) for n, law in meetings), key=lambda place: -place[1])
    for index, (n, mae) in enumerate(ordered):
        ax.plot(n, mae, "X", color=INK, markeredgecolor="white", markersize=8, zorder=6, gid="crossing")
        above = index % 2 == 0
        ax.annotate(
            short_count(float(f"{n:.2g}")), (n, mae), (0, 8 if above else -8), textcoords="offset points",
            ha="center", va="bottom" if above else "top", fontsize=9.5,
        )  # fmt: skip


def _canvas(rows: Sequence[int]) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure with a panel above a table for each entry of `rows`, the numbers of lines of the tables."""
    table_height = 0.21 * (max(rows) + 1.3)
    width = 4.9 if len(rows) == 1 else 4.1 * len(rows)
    layout = ConstrainedLayoutEngine(wspace=0.06)
    fig = NotebookFigure(figsize=(width, 3.3 + table_height), layout=layout)
    axes = fig.subplots(2, len(rows), squeeze=False, gridspec_kw={"height_ratios": [3.0, table_height]})
    for ax in axes[1]:
        ax.set(xlim=(0, 1), ylim=(max(rows) + 0.8, -0.5))
        ax.set_axis_off()
    return fig, list(axes[0]), list(axes[1])


def _draw(ax: Axes, series: Iterable[Series], chemical_accuracy: float | None, reach: float | None = None) -> None:
    series = list(series)
    every = np.concatenate([one.sizes for one in series])
    low, high = every.min() / 1.25, max(every.max(), reach or 0.0) * (1.6 if reach else 1.25)
    for one in series:
        face = one.colour if one.filled else "white"
        if one.marker:
            ax.plot(one.sizes, one.maes, ".", color=one.colour, markersize=3, alpha=0.5, zorder=3)
            sizes = np.unique(one.sizes)
            means = [one.maes[one.sizes == size].mean() for size in sizes]
            ax.plot(sizes, means, one.marker, color=one.colour, markerfacecolor=face, zorder=4)
        if one.law is None:
            continue
        inside = np.geomspace(one.sizes.min(), one.sizes.max(), 40)
        ax.plot(inside, one.law.predict(inside), color=one.colour, linestyle=one.line, gid=f"fit {one.label}")
        if reach:
            beyond = np.geomspace(one.sizes.max(), high, 40)
            ax.plot(beyond, one.law.predict(beyond), color=one.colour, linestyle=one.line, linewidth=0.8)
        if one.fit is not None:
            n = np.geomspace(one.sizes.min(), high if reach else one.sizes.max(), 60)
            ax.fill_between(n, *one.band(n), color=one.colour, alpha=0.13, linewidth=0)
    if chemical_accuracy is not None:
        ax.axhline(chemical_accuracy, color=ACCURACY, linewidth=1.1, gid="chemical accuracy")
        ax.annotate(
            "chemical accuracy", (1, chemical_accuracy), (-3, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", color=ACCURACY, fontsize=9,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    round_sizes = np.outer(10.0 ** np.arange(1, 8), [1, 2, 5]).ravel()  # where lines go on beyond the data
    beyond = round_sizes[(round_sizes > 1.6 * every.max()) & (round_sizes <= high)]
    size_axis(ax, [*every, *beyond])


def _legend_table(ax: Axes, series: Sequence[Series], heading: str) -> None:
    """Line, name, slope and intercept of each series under its panel, with half of the 95 % interval."""
    for x, text, side in ((0.0, heading, "left"), (0.74, "Slope", "right"), (1.0, "Intercept", "right")):
        ax.text(x, 0, text, ha=side, color=MUTED, fontsize=9, va="center")
    for row, one in enumerate(series, start=1):
        face = one.colour if one.filled else "white"
        ax.plot([0.0, 0.09], [row, row], color=one.colour, linestyle=one.line, clip_on=False)
        ax.plot(0.045, row, one.marker, color=one.colour, markerfacecolor=face, clip_on=False)
        ax.text(0.12, row, one.label, va="center", fontsize=9)
        if one.law is None:
            ax.text(1.0, row, "one size, no line", ha="right", va="center", fontsize=9, color=MUTED)
            continue
        slope, intercept = (one.fit.slope, one.fit.intercept) if one.fit else (None, None)
        for x, text in (
            (0.74, with_interval(one.law.slope, slope, 3)),
            (1.0, with_interval(one.law.intercept, intercept, 2)),
        ):
            ax.text(x, row, text, ha="right", va="center", fontsize=9)


def with_interval(value: float, estimate: Estimate | None, digits: int) -> str:
    """A number and, where known, half the width of its interval: "0.277 ± 0.017"."""
    text = number(value, f".{digits}f")
    return text if estimate is None else f"{text} ± {(estimate.high - estimate.low) / 2:.{digits}f}"


def _share_error_axis(axes: Sequence[Axes], unit: str, split: str = "test") -> None:
    """The same logarithmic error axis on panels of one unit."""
    for ax in axes:
        ax.set_yscale("log")
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
        error_axis(ax)
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set_ylabel(f"{split.capitalize()} MAE ({unit})")
