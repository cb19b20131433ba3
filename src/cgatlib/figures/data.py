"""Figures of data sets: label histograms (Fig. 2), element counts (Fig. 9), time and memory against their size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cgatlib.errors import CgatError
from cgatlib.figures.style import (
    FUNCTIONAL_NAMES,
    GRID,
    MUTED,
    PAGE,
    QUANTITIES,
    NotebookFigure,
    functional_colour,
    number,
    panel_titles,
    quantity,
    require_columns,
    short_count,
    size_axis,
    style,
)

_PANELS = ("e_above_hull", "e_form", "volume_per_atom", "band_gap")  # as Fig. 2 has them; others follow

_SHADES = mpl.colormaps["YlGnBu"]
_ON_CELL = ("#14181D", "#FDFEFE")  # text on a cell of its own colour, whatever the page
_MARKS: dict[str, Any] = {"median": "-", "mean": ":"}
_SWALLOWS = 0.3  # share of crystals in one bin beyond which the axis is logarithmic

# Symbols of the periodic table row by row; a dot is an empty cell, a star the place of a separate row.
PERIODIC_TABLE = (
    "H . . . . . . . . . . . . . . . . He",
    "Li Be . . . . . . . . . . B C N O F Ne",
    "Na Mg . . . . . . . . . . Al Si P S Cl Ar",
    "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe",
    "Cs Ba * Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn",
    "Fr Ra *",
    "",
    ". . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu",
    ". . Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr",
)


def label_histograms(bins: pd.DataFrame, numbers: pd.DataFrame) -> Figure:
    """Densities of the labels by functional in the arrangement of Fig. 2, medians solid and means dotted.

    Args:
        bins: Long table [label, functional, low, high, crystals], a row per bin; the functionals of a label share their
            bins. What lies outside all bins is only counted: a panel says how much.
        numbers: Table [label, functional, count, median, mean] of all values, in the units of the labels.
    """
    require_columns(bins, ("label", "functional", "low", "high", "crystals"), "label_histograms")
    require_columns(numbers, ("label", "functional", "count", "median", "mean"), "label_histograms")
    for label in numbers["label"].unique():
        quantity(label)
    shown = [q for q in dict.fromkeys((*_PANELS, *QUANTITIES)) if (numbers["label"] == q).any()]
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    with style():
        fig = NotebookFigure(figsize=(3.8 * columns if columns > 1 else 4.6, 3.0 * lines), layout="constrained")
        axes = fig.subplots(lines, columns, squeeze=False).ravel()
        panel_titles(axes, [QUANTITIES[label].title for label in shown])
        for ax, label in zip(axes, shown, strict=False):
            _histogram_panel(ax, bins[bins["label"] == label], _in_order(numbers[numbers["label"] == label]), label)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        used = [name for name in FUNCTIONAL_NAMES if name in set(numbers["functional"])]
        handles: list[Artist] = [
            Rectangle((0, 0), 1, 1, facecolor=functional_colour(f), alpha=0.6, label=FUNCTIONAL_NAMES[f]) for f in used
        ]
        handles += [Line2D([], [], color=MUTED, linestyle=line, label=what) for what, line in _MARKS.items()]
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig


def _in_order(numbers: pd.DataFrame) -> pd.DataFrame:
    """Rows by functional in the fixed order, which refuses functionals without a colour."""
    for name in numbers["functional"].unique():
        functional_colour(name)
    return numbers.sort_values("functional", key=lambda names: names.map(list(FUNCTIONAL_NAMES).index))


def _histogram_panel(ax: Axes, bins: pd.DataFrame, numbers: pd.DataFrame, label: str) -> None:
    counts = numbers.set_index("functional")["count"]
    drawn = bins[bins["functional"].isin(counts.index)]
    several = {tuple(np.append(own["low"], own["high"].iloc[-1])) for _, own in drawn.groupby("functional")}
    edges = np.array(several.pop())
    if several:
        raise CgatError(f"the histograms of {label} have different bins, and cannot be drawn in one panel")
    share = drawn["crystals"] / drawn["functional"].map(counts).to_numpy()  # of all: a cut tail does not lift the rest
    drawn = drawn.assign(middle=(drawn["low"] + drawn["high"]) / 2, share=share)
    log, order = share.max() > _SWALLOWS, list(counts.index)
    sns.histplot(
        drawn, x="middle", weights="share", hue="functional", hue_order=order, bins=list(edges), element="step",
        palette=[functional_colour(name) for name in order], fill=len(order) == 1, linewidth=1.4, legend=False, ax=ax,
    )  # fmt: skip
    seen = share[share > 0]
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_minor_locator(NullLocator())
    room = 10 ** (0.5 + 0.16 * len(order)) if log else 1.2 + 0.12 * len(order)  # for the summary
    ax.set(xlim=(edges[0], edges[-1]), ylim=(0.7 * seen.min() if log else 0, seen.max() * room))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    for row in numbers.itertuples():
        for value, line in _MARKS.items():
            at, colour = getattr(row, value), functional_colour(row.functional)
            ax.axvline(at, 0, 0.13, color=colour, linestyle=line, linewidth=1.6, gid=f"{value} {row.functional}")
    outside = 1 - drawn["crystals"].sum() / counts.sum()
    note = f"  ({100 * outside:.1f} % outside)" if outside > 0 else ""
    ax.set_xlabel(f"{quantity(label).symbol} ({quantity(label).unit}){note}")
    ax.set_ylabel("Crystals, log scale" if log else "Crystals")
    _summary(ax, numbers)


def _summary(ax: Axes, numbers: pd.DataFrame) -> None:
    """Number, median and mean of each functional in the panel's upper right corner, in its colour."""
    lines = [("crystals, median, mean", MUTED, "normal")]
    for row in numbers.to_dict("records"):
        name = FUNCTIONAL_NAMES[row["functional"]]
        text = f"{name}: {short_count(row['count'])},  {number(row['median'], '#.3g')},  {number(row['mean'], '#.3g')}"
        lines.append((text, functional_colour(row["functional"]), "semibold"))
    for row, (text, colour, weight) in enumerate(lines):
        ax.annotate(
            text, (1, 1), (-4, -4 - 13 * row), xycoords="axes fraction", textcoords="offset points", ha="right",
            va="top", fontsize=9, color=colour, weight=weight,
        )  # fmt: skip


def element_counts(counts: Mapping[str, float], title: str) -> Figure:
    """A periodic table coloured by the number of crystals that contain each element, given by symbol (Fig. 9).

    pymatgen's `periodic_table_heatmap` changes pyplot's global state, groups no digits, and takes the room of its
    colour bar from the cells.
    """
    cells = [(row, line.split()) for row, line in enumerate(PERIODIC_TABLE)]
    places = {symbol: (row, column) for row, line in cells for column, symbol in enumerate(line) if symbol.isalpha()}
    if unknown := sorted(set(counts) - set(places)):
        raise CgatError(f"no place in the periodic table for {', '.join(unknown)}")
    if not any(n > 0 for n in counts.values()):
        raise CgatError("element_counts has no element to colour")
    norm = PowerNorm(0.5, 0, max(counts.values()))
    with style():
        fig = NotebookFigure(figsize=(8.6, 4.9), layout="constrained")
        ax = fig.subplots()
        for symbol, (row, column) in places.items():
            _element_cell(ax, symbol, counts.get(symbol, 0), (column, row - 0.55 * (row > 7)), norm)
        for row, text in ((5, "La–Lu"), (6, "Ac–Lr")):
            ax.text(2.5, row + 0.5, text, ha="center", va="center", color=MUTED, fontsize=7.5)
        ax.set(xlim=(-0.05, 18), ylim=(9.5, -0.05), aspect="equal")
        ax.set_axis_off()
        ax.set_title(title)
        bar = ax.inset_axes((3.2, 1.15, 6.6, 0.32), transform=ax.transData)
        fig.colorbar(mpl.cm.ScalarMappable(norm, _SHADES), cax=bar, orientation="horizontal",
                     format=lambda n, _: short_count(n))  # fmt: skip
        bar.set_title("Crystals that contain the element", fontsize=9.5, weight="normal", pad=4)
        bar.tick_params(labelsize=9, which="both")
        bar.grid(visible=False)
    return fig


def _element_cell(ax: Axes, symbol: str, count: float, corner: tuple[float, float], norm: Normalize) -> None:
    x, y = corner
    colour = _SHADES(norm(count)) if count > 0 else GRID
    dark = np.dot(mpl.colors.to_rgb(colour), (0.299, 0.587, 0.114)) < 0.52
    ink = _ON_CELL[int(dark)] if count > 0 else MUTED
    cell = Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor=colour, linewidth=0, gid=f"element {symbol}")
    ax.add_patch(cell)
    written = f"{count:,.0f}".replace(",", "\u2009") if count > 0 else "–"
    for down, text, size, weight in ((0.36, symbol, 11, 600), (0.76, written, 7, 400)):
        ax.text(x + 0.5, y + down, text, ha="center", va="center", color=ink, fontsize=size, weight=weight)


# One look for each part of the work, from light to dark as it takes longer.
_LOOKS = {
    "random batches": ("#B5830F", "^"),
    "building graphs": ("#17808D", "s"),
    "training steps": ("#1F83C4", "o"),
}


def read_growth(path: Path) -> pd.DataFrame:
    """What ``python -m benchmarks.growth`` measured: [crystals, task, microseconds, own_mb, resident_mb, disk_mb].

    Microseconds of processor time per crystal; the highest memory of a process that did the task alone, its own and
    with the pages of the files that it maps; table and graphs on disk. MB are 10^6 bytes. ``attrs`` has sentences for
    a caption, ``crystals`` and ``machine``.

    Raises:
        CgatError: the file is not there or not such a file.
    """
    try:
        content = json.loads(Path(path).read_text())
        rows, machine = pd.DataFrame(content["rows"]), content["provenance"]["machine"]
        memory = {f"{what}_mb": rows[what] / 1e6 for what in ("own", "resident", "disk")}
        data = rows[["crystals", "task"]].assign(microseconds=1e6 * rows["seconds_per_crystal"], **memory)
        data.attrs["crystals"] = content["crystals"]
        data.attrs["machine"] = f"One core of {machine['processor']}; batches of {content['batch']}."
    except FileNotFoundError as error:
        raise CgatError(f"{path} does not exist; python -m benchmarks.growth writes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CgatError(f"{path} is not what python -m benchmarks.growth writes: {error}") from error
    return data


def growth(data: pd.DataFrame) -> Figure:
    """Time per crystal and memory of each task against the number of crystals, of a table of `read_growth`."""
    data = data.sort_values("crystals")
    dashed: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.1}  # what may be taken back
    with style():
        fig = NotebookFigure(figsize=(8.2, 3.5), layout="constrained")
        times, memory = fig.subplots(1, 2)
        panel_titles((times, memory), ("Processor time per crystal", "Highest memory"))
        for task, (colour, marker) in reversed(_LOOKS.items()):
            rows, look = data[data["task"] == task], {"color": colour, "marker": marker, "label": task}
            for ax, column in ((times, "microseconds"), (memory, "own_mb")):
                ax.plot(rows["crystals"], rows[column], markersize=6, markeredgecolor=PAGE, **look)
            memory.plot(rows["crystals"], rows["resident_mb"], color=colour, **dashed)
        for ax in (times, memory):
            ax.set_xlim(data["crystals"].min() / 1.6, data["crystals"].max() * 1.6)
            ax.set_xlabel("Crystals")
        _times_axis(times)
        _memory_axis(memory, data)
        for ax in (times, memory):
            size_axis(ax, data["crystals"])
        handles, labels = times.get_legend_handles_labels()
        handles.append(Line2D([], [], color=MUTED, **dashed))
        fig.legend(handles, [*labels, "with the pages of mapped files"], loc="outside lower center", ncols=4)
    return fig


def _times_axis(ax: Axes) -> None:
    """Whole decades around the data, so that what is flat looks flat."""
    ax.set_yscale("log")
    low, high = ax.dataLim.intervaly
    ax.set_ylim(low / 3, high * 5)
    ax.yaxis.set_major_locator(LogLocator(10))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: EngFormatter("s")(1e-6 * value)))


def _memory_axis(ax: Axes, data: pd.DataFrame) -> None:
    """From zero; next to what is in memory what lies on disk, as it grows."""
    disk = data.groupby("crystals")["disk_mb"].min()
    sizes = np.geomspace(disk.index[0], disk.index[-1], 100)  # straight between sizes, which is bent on this axis
    ax.plot(sizes, np.interp(sizes, disk.index, disk), color=MUTED, linestyle=(0, (1, 1.5)), gid="disk")
    ax.annotate("on disk: table and graphs", (sizes[-12], np.interp(sizes[-12], disk.index, disk)), (-8, 4),
                textcoords="offset points", ha="right", va="center", color=MUTED, fontsize=9.5)  # fmt: skip
    ax.set_ylim(0, 1.12 * max(data["resident_mb"].max(), disk.max()))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} MB" if value else "0"))
