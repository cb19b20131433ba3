"""Figures of errors against sizes with their fits: Figs. 3, 4, 5 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cgatlib.errors import CgatError
from cgatlib.evaluation.scaling import (
    ComputeBudget,
    Points,
    PowerLaw,
    ScalingFit,
    bootstrap,
    crossing,
    fit_with_floor,
)
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.style import (
    ACCURACY,
    FUNCTIONAL_NAMES,
    INK,
    MODES,
    MUTED,
    PAGE,
    Mode,
    NotebookFigure,
    error_axis,
    functional_colour,
    mode_style,
    number,
    panel_titles,
    require_columns,
    short_count,
    size_axis,
    style,
)

SHADE_MARKERS = "oDv^P*X<>h"
FARTHEST = 10.0  # nothing is drawn or written beyond this multiple of the largest size
_LAST = 4  # sizes that a second slope is taken from


@dataclass(frozen=True)
class Series:
    """Measured points of one line and how it is drawn; `fit` is None where there are too few sizes."""

    look: Mode  # with no marker: the points were not measured, and are not drawn
    sizes: np.ndarray  # (P,)
    maes: np.ndarray  # (P,)
    fit: ScalingFit | None = None
    filled: bool = True
    common: np.ndarray | float = 0.0  # shift of all lines by the test crystals, which bands leave out
    floor: PowerLaw | None = None  # of five sizes or more
    last: ScalingFit | None = None  # of the last four sizes, where there are more


def aligned(series: Sequence[Series]) -> list[Series]:
    """Lines on one test set, whose bands leave out what an easier or harder one would do to all of them alike."""
    shifts = [one.fit.shifts for one in series if one.fit is not None]
    return [replace(one, common=np.mean(shifts, axis=0)) for one in series] if shifts else list(series)


def curve_points(rows: pd.DataFrame, size: str = "train_size") -> Points:
    """Points of a table [<size>, seed, mae] in the order of sizes and seeds, which paired resampling needs.

    A column `errors` of series (absolute errors on common test crystals) is taken along, with the number of each
    crystal's formula where that is a level "group" of their index.
    """
    require_columns(rows, (size, "seed", "mae"), "a size scaling")
    ordered = rows.sort_values([size, "seed"])
    sizes, maes = ordered[size].to_numpy(float), ordered["mae"].to_numpy(float)
    if "errors" not in ordered:
        return Points(sizes, maes)
    index = ordered["errors"].iloc[0].index
    groups = index.get_level_values("group").to_numpy() if "group" in index.names else None
    return Points(sizes, maes, np.stack([errors.to_numpy() for errors in ordered["errors"]]), groups)


def shaded(rows: pd.DataFrame, by: str, against: str) -> list[Series]:
    """One series per value of `by`, the largest first and darkest."""
    values = sorted(rows[by].unique(), reverse=True)
    shades = np.linspace(0.95, 0.42, len(values)) if len(values) > 1 else [0.8]
    series = []
    for value, shade, marker in zip(values, shades, cycle(SHADE_MARKERS), strict=False):
        colour = mpl.colors.to_hex(mpl.colormaps["Blues"](shade))
        series.append(_series(rows[rows[by] == value], against, Mode(short_count(value), colour, "-", marker)))
    return series


def panel_series(rows: pd.DataFrame, noise: float | None = None) -> list[Series]:
    """Series of one panel in the order of functionals and modes; `noise` as in `transfer_scaling`."""
    functionals = list(dict.fromkeys(rows["functional"]))
    for mode in rows["mode"].unique():
        mode_style(mode)  # refuses what has no fixed look
    series: list[Series] = []
    for functional in functionals:
        own = []
        for mode, look in MODES.items():
            runs = rows[(rows["functional"] == functional) & (rows["mode"] == mode)]
            if len(functionals) > 1:
                name, colour = FUNCTIONAL_NAMES.get(functional, functional), functional_colour(functional)
                look = replace(look, name=f"{name}, {look.name}", colour=colour)
            if len(runs):
                own.append(_series(runs, "train_size", look, filled=mode != "none", noise=noise))
        series += aligned(own)
    return series


def _series(rows: pd.DataFrame, against: str, look: Mode, *, filled: bool = True, noise: float | None = None) -> Series:
    """One line, with open markers where it is not `filled`."""
    look = look if noise is None else replace(look, marker="")
    series = Series(look, rows[against].to_numpy(float), rows["mae"].to_numpy(float), filled=filled)
    distinct = np.unique(series.sizes)
    if len(distinct) < (3 if noise is None else 2):  # a line through two measured points says nothing
        return series
    fit = bootstrap(curve_points(rows, against), noise)
    if len(distinct) <= _LAST:
        return replace(series, fit=fit)
    if noise is not None:  # points taken from a line have one slope
        return replace(series, fit=fit, floor=fit_with_floor(fit.points))
    last = bootstrap(curve_points(rows[rows[against] >= distinct[-_LAST]], against))
    return replace(series, fit=fit, last=last, floor=fit_with_floor(fit.points))


def crossings(series: Sequence[Series]) -> tuple[list[tuple[float, PowerLaw]], int]:
    """Sizes at which no-transfer lines meet the transfer lines that follow them, near enough to be drawn; how many do
    not meet up to there."""
    found, beyond, none = [], 0, None
    for one in series:
        if not one.filled:
            none = one
        elif none is not None and none.fit is not None and one.fit is not None:
            n = crossing(none.fit.law, one.fit.law)
            largest = float(max(none.sizes.max(), one.sizes.max()))
            if largest < n <= FARTHEST * largest:
                found.append((n, one.fit.law))
            beyond += n > FARTHEST * largest
    return found, beyond


def size_scaling(points: pd.DataFrame, unit: str, *, chemical_accuracy: float | None = None) -> Figure:
    """Test MAE against training size by pre-training size, and the other way round (Fig. 3).

    Args:
        points: Table [pretrain_size (0: no transfer), train_size, seed, mae in `unit`], optionally errors.
        unit: of the MAE. chemical_accuracy: height of its line in `unit`, or None where the unit is no energy.
    """
    require_columns(points, ("pretrain_size", "train_size", "seed", "mae"), "size_scaling")
    transfer = points[points["pretrain_size"] > 0]
    if transfer.empty:
        raise CgatError("size_scaling needs at least one pre-training size")
    left = shaded(transfer, by="pretrain_size", against="train_size")
    scratch = points[points["pretrain_size"] == 0]
    if not scratch.empty:
        left.append(_series(scratch, "train_size", MODES["none"], filled=False))
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
    points: pd.DataFrame, unit: str, *, chemical_accuracy: float | None = None, noise: float | None = None
) -> Figure:
    """Test MAE against training size with and without transfer, extended to where the lines cross (Figs. 4, 8).

    Where lines meet beyond ten times the largest size they are not extended, and the panel says so. A thin curve is the
    law with a floor.

    Args:
        points: Table [panel, functional, mode, train_size, seed, mae in `unit`], optionally errors. A panel with
            one functional is coloured by mode, one with several by functional; no transfer is dashed.
        unit, chemical_accuracy: as of `size_scaling`.
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
            meetings, beyond = crossings(lines)
            _draw(ax, lines, chemical_accuracy, reach=max((n for n, _ in meetings), default=None))
            _mark_crossings(ax, meetings)
            if beyond:
                text = "lines meet beyond ten times the data, if at all"
                ax.text(0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", color=MUTED, fontsize=9)
            ax.set_xlabel("Training crystals")
            _legend_table(tables[index], lines, "")
        _share_error_axis(axes, unit)
    return fig


def _mark_crossings(ax: Axes, meetings: Sequence[tuple[float, PowerLaw]]) -> None:
    """A marker and the size at each crossing, the labels above and below in turn."""
    ordered = sorted(((n, float(law.predict(n))) for n, law in meetings), key=lambda place: -place[1])
    for index, (n, mae) in enumerate(ordered):
        ax.plot(n, mae, "X", color=INK, markeredgecolor=PAGE, markersize=8, zorder=6, gid="crossing")
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


def _draw(ax: Axes, series: Sequence[Series], chemical_accuracy: float | None, reach: float | None = None) -> None:
    every = np.concatenate([one.sizes for one in series])
    low, high = every.min() / 1.25, max(every.max(), reach or 0.0) * (1.6 if reach else 1.25)
    for one in series:
        _draw_series(ax, one, high if reach else None)
    if chemical_accuracy is not None:
        ax.axhline(chemical_accuracy, color=ACCURACY, linewidth=1.1, gid="chemical accuracy")
        ax.annotate(
            "chemical accuracy", (0, chemical_accuracy), (3, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", color=ACCURACY, fontsize=9,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    round_sizes = np.outer(10.0 ** np.arange(1, 8), [1, 2, 5]).ravel()  # where lines go on beyond the data
    beyond = round_sizes[(round_sizes > 1.6 * every.max()) & (round_sizes <= high)]
    size_axis(ax, [*every, *beyond])


def _draw_series(ax: Axes, one: Series, end: float | None) -> None:
    """Points, their means, and the line with its band, followed to `end` where that is given."""
    colour, line, name = one.look.colour, one.look.line, one.look.name
    if one.look.marker:
        ax.plot(one.sizes, one.maes, ".", color=colour, markersize=3, alpha=0.5, zorder=3)
        sizes = np.unique(one.sizes)
        means = [one.maes[one.sizes == size].mean() for size in sizes]
        ax.plot(sizes, means, one.look.marker, color=colour, markerfacecolor=colour if one.filled else PAGE, zorder=4)
    if one.fit is None:
        return
    law = one.fit.law
    inside = np.geomspace(one.sizes.min(), one.sizes.max(), 40)
    ax.plot(inside, law.predict(inside), color=colour, linestyle=line, gid=f"fit {name}")
    if one.floor is not None:
        ax.plot(inside, one.floor.predict(inside), color=colour, linewidth=0.9, gid=f"floor {name}")
    if end:
        beyond = np.geomspace(one.sizes.max(), end, 40)
        ax.plot(beyond, law.predict(beyond), color=colour, linestyle=line, linewidth=0.8)
    n = np.geomspace(one.sizes.min(), end or one.sizes.max(), 60)
    ax.fill_between(n, *one.fit.band(n, one.common), color=colour, alpha=0.13, linewidth=0)


def _legend_table(ax: Axes, series: Sequence[Series], heading: str) -> None:
    """Line, name, slope and intercept of each series under its panel, with half of the 95 % interval."""
    more = any(one.last for one in series)
    columns = {0.56: "Slope", 0.79: f"last {_LAST}", 1.0: "Intercept"} if more else {0.74: "Slope", 1.0: "Intercept"}
    for x, text in ((0.0, heading), *columns.items()):
        ax.text(x, 0, text, ha="right" if x else "left", color=MUTED, fontsize=9, va="center")
    for row, one in enumerate(series, start=1):
        colour, drawn = one.look.colour, one.fit is not None
        ax.plot([0.0, 0.09], [row, row], color=colour, linestyle=one.look.line if drawn else "", clip_on=False)
        face = colour if one.filled else PAGE
        ax.plot(0.045, row, one.look.marker, color=colour, markerfacecolor=face, clip_on=False)
        ax.text(0.12, row, one.look.name, va="center", fontsize=9)
        if one.fit is None:
            ax.text(1.0, row, "too few sizes for a line", ha="right", va="center", fontsize=9, color=MUTED)
            continue
        fits = (one.fit, one.last) if more else (one.fit,)
        cells = [with_interval(fit.slope, 3) if fit else "" for fit in fits]
        cells.append(with_interval(one.fit.intercept, 2))
        for x, text in zip(columns, cells, strict=True):
            ax.text(x, row, text, ha="right", va="center", fontsize=9)


def with_interval(estimate: Estimate, digits: int) -> str:
    """A number and half the width of its interval: "0.277 ± 0.017"."""
    return f"{number(estimate.value, f'.{digits}f')} ± {(estimate.high - estimate.low) / 2:.{digits}f}"


def _share_error_axis(axes: Sequence[Axes], unit: str) -> None:
    """The same logarithmic error axis on panels of one unit."""
    for ax in axes:
        ax.set_yscale("log")
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
        error_axis(ax)
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set_ylabel(f"Test MAE ({unit})")


def compute_budget(
    scenarios: Mapping[str, ComputeBudget],
    points: pd.DataFrame | None,
    unit: str,
    *,
    low: str = "PBE",
    high: str = "SCAN",
) -> Figure:
    """MAE against additional compute, spent on either kind of calculation, a panel per start (Fig. 5).

    The axis ends a little beyond the measured points, or at ten times the start; earlier where one of the sizes would
    exceed ten times the largest that its line was fitted to.

    Args:
        scenarios: Starts by title, with the fits along either size, whose 95 % bands are drawn.
        points: Measured runs [pretrain_size, train_size, mae in `unit`]; those on a start's lines are drawn, crosses
            where high-fidelity, dots where low-fidelity crystals were added. None where nothing was measured.
        unit: of the MAE. low, high: functionals of the pre-training set, whose calculation is the unit of cost, and of
            the training set.
    """
    known = pd.DataFrame(columns=["pretrain_size", "train_size", "mae"], dtype=float) if points is None else points
    measured = known.groupby(["pretrain_size", "train_size"], as_index=False)["mae"].mean()
    with style():
        fig = NotebookFigure(figsize=(max(4.6, 3.0 * len(scenarios)), 3.5), layout="constrained")
        axes = fig.subplots(1, len(scenarios), sharey=True, squeeze=False)[0]
        for ax, budget in zip(axes, scenarios.values(), strict=True):
            _budget_panel(ax, budget, measured, (low, high))
        panel_titles(axes, list(scenarios))
        axes[0].set_ylabel(f"Test MAE ({unit})")
        error_axis(axes[0])
        _budget_legend(fig, low, high, next(iter(scenarios.values())).cost_ratio, measured=points is not None)
    return fig


def _budget_legend(fig: Figure, low: str, high: str, cost: float, measured: bool) -> None:
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


def _end(budget: ComputeBudget, measured: pd.DataFrame) -> float:
    """Where the axis of budgets ends, as `compute_budget` says."""
    furthest = pd.concat(_on_lines(budget, measured))["cost"].max()
    reach = 1.1 * furthest if furthest > 0 else 10 * budget.cost_ratio * budget.n_train
    training, pretraining = (FARTHEST * fit.points.sizes.max() for fit in (budget.training, budget.pretraining))
    return float(min(reach, budget.cost_ratio * (training - budget.n_train), pretraining - budget.n_pretrain))


def _budget_panel(ax: Axes, budget: ComputeBudget, measured: pd.DataFrame, names: tuple[str, str]) -> None:
    (low, high), end = names, _end(budget, measured)
    spent = np.linspace(0, end, 300)
    common = (budget.training.shifts + budget.pretraining.shifts) / 2  # one test set moves both curves together
    for name, fit, sizes, line in (
        (high, budget.training, budget.training_size(spent), "-"),
        (low, budget.pretraining, budget.pretraining_size(spent), "--"),
    ):
        colour = functional_colour(name)
        ax.fill_between(spent, *fit.band(sizes, common), color=colour, alpha=0.15, linewidth=0, gid=f"band {name}")
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
