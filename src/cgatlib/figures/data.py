"""Figures of data sets: label histograms (Fig. 2) and element counts (Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from cgatlib import CgatError
from cgatlib.figures.style import (
    FUNCTIONAL_NAMES,
    INK,
    MUTED,
    QUANTITIES,
    NotebookFigure,
    functional_colour,
    number,
    panel_titles,
    quantity,
    require_columns,
    short_count,
    style,
)

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


def label_histograms(
    labels: pd.DataFrame, *, bins: int = 60, coverage: float = 0.995, announce_missing: bool = False
) -> Figure:
    """Densities of the labels by functional in the arrangement of Fig. 2, medians solid and means dotted.

    Args:
        labels: Long table [label, functional, value] in the units of the labels; nulls are not drawn.
        bins: Number of bins, common to the functionals of a panel.
        coverage: Central share of the values that the axis spans; a panel says how many lie outside.
        announce_missing: Keep the place of a label without data, saying so, instead of leaving it out.
    """
    require_columns(labels, ("label", "functional", "value"), "label_histograms")
    known = labels.dropna(subset="value")
    for label in known["label"].unique():
        quantity(label)
    shown = [q for q in QUANTITIES if announce_missing or (known["label"] == q).any()]
    if not shown:
        raise CgatError("label_histograms has no values to draw")
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    with style():
        fig = NotebookFigure(figsize=(3.8 * columns if columns > 1 else 4.6, 3.0 * lines), layout="constrained")
        axes = fig.subplots(lines, columns, squeeze=False).ravel()
        panel_titles(axes, [QUANTITIES[label].name for label in shown])
        for ax, label in zip(axes, shown, strict=False):
            _histogram_panel(ax, known[known["label"] == label], label, bins, coverage)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        used = [name for name in FUNCTIONAL_NAMES if name in set(known["functional"])]
        handles: list[Artist] = [
            Rectangle((0, 0), 1, 1, facecolor=functional_colour(f), alpha=0.6, label=FUNCTIONAL_NAMES[f]) for f in used
        ]
        handles.append(Line2D([], [], color=MUTED, linestyle="-", label="median"))
        handles.append(Line2D([], [], color=MUTED, linestyle=":", label="mean"))
        fig.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return fig


def _histogram_panel(ax: Axes, rows: pd.DataFrame, label: str, bins: int, coverage: float) -> None:
    ax.set_yticks([])
    ax.grid(visible=False)
    if rows.empty:
        ax.text(0.5, 0.5, "no data in this profile", transform=ax.transAxes, ha="center", color=MUTED)
        ax.spines[:].set_visible(False)
        ax.set_xticks([])
        return
    low, high = np.quantile(rows["value"], [(1 - coverage) / 2, (1 + coverage) / 2])
    least = rows["value"].min()
    low = least if low - least < 0.02 * (high - low) else low  # a bound such as zero is shown
    edges = np.linspace(low, high, bins + 1) if high > low else np.linspace(low - 0.5, low + 0.5, bins + 1)
    log = label == "band_gap"  # most crystals are metals: on a linear axis only their bin would be seen
    densities = [_density(ax, values, str(name), edges) for name, values in _by_functional(rows)]
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(NullLocator())
        ax.yaxis.set_minor_locator(NullLocator())
    seen = np.concatenate(densities)
    ax.set_ylim(0.5 * seen[seen > 0].min() if log else 0, seen.max() * (3 if log else 1.3))  # room for the summary
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylabel("Density, log scale" if log else "Density")
    outside = float(((rows["value"] < edges[0]) | (rows["value"] > edges[-1])).mean())
    note = f"  ({100 * outside:.1f} % outside)" if outside > 0 else ""
    ax.set_xlabel(f"{QUANTITIES[label].symbol} ({QUANTITIES[label].unit}){note}")
    _summary(ax, rows)


def _by_functional(rows: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Values of each functional in the fixed order, which refuses functionals without a colour."""
    for name in rows["functional"].unique():
        functional_colour(name)
    present = [name for name in FUNCTIONAL_NAMES if (rows["functional"] == name).any()]
    return [(name, rows.loc[rows["functional"] == name, "value"]) for name in present]


def _density(ax: Axes, values: pd.Series, functional: str, edges: np.ndarray) -> np.ndarray:
    """Draw and return the density (bins,) as a share of all values, so that a cut tail does not lift the rest."""
    colour = functional_colour(functional)
    density = np.histogram(values, edges)[0] / len(values) / np.diff(edges)
    ax.stairs(density, edges, color=colour, fill=True, alpha=0.28)
    ax.stairs(density, edges, color=colour, linewidth=1.2)
    ax.axvline(values.median(), color=colour, linewidth=1.2, gid=f"median {functional}")
    ax.axvline(values.mean(), color=colour, linewidth=1.4, linestyle=":", gid=f"mean {functional}")
    return density


def _summary(ax: Axes, rows: pd.DataFrame) -> None:
    """Number, median and mean of each functional in the panel's upper right corner, in its colour."""
    lines = [("crystals, median, mean", MUTED, "normal")]
    for functional, values in _by_functional(rows):
        text = f"{short_count(len(values))},  {number(values.median(), '#.3g')},  {number(values.mean(), '#.3g')}"
        lines.append((text, functional_colour(functional), "semibold"))
    for row, (text, colour, weight) in enumerate(lines):
        ax.annotate(
            text, (1, 1), (-4, -4 - 13 * row), xycoords="axes fraction", textcoords="offset points", ha="right",
            va="top", fontsize=9, color=colour, weight=weight,
        )  # fmt: skip


def element_counts(counts: Mapping[str, int], title: str, *, log: bool = False) -> Figure:
    """A periodic table coloured by the number of crystals that contain each element (Fig. 9)."""
    places = {
        symbol: (row, column)
        for row, line in enumerate(PERIODIC_TABLE)
        for column, symbol in enumerate(line.split())
        if symbol.isalpha()
    }
    unknown = sorted(set(counts) - set(places))
    if unknown:
        raise CgatError(f"no place in the periodic table for {', '.join(unknown)}")
    positive = [n for n in counts.values() if n > 0]
    if not positive:
        raise CgatError("element_counts has no element to colour")
    norm = LogNorm(min(positive), max(positive)) if log else Normalize(0, max(positive))
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
        mappable = mpl.cm.ScalarMappable(norm, mpl.colormaps["YlGnBu"])
        fig.colorbar(mappable, cax=bar, orientation="horizontal", format=lambda n, _: short_count(n))
        bar.set_title("Crystals that contain the element", fontsize=9.5, weight="normal", pad=4)
        bar.tick_params(labelsize=9)
        bar.grid(visible=False)
    return fig


def _element_cell(ax: Axes, symbol: str, count: int, corner: tuple[float, float], norm: Normalize) -> None:
    x, y = corner
    colour = mpl.colormaps["YlGnBu"](norm(count)) if count > 0 else (0.955, 0.96, 0.965, 1.0)
    dark = np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.52
    ink = "white" if dark else (INK if count > 0 else "#8A949E")
    cell = Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor=colour, linewidth=0, gid=f"element {symbol}")
    ax.add_patch(cell)
    ax.text(x + 0.5, y + 0.36, symbol, ha="center", va="center", color=ink, fontsize=11, weight=600)
    text = f"{count:,}".replace(",", "\u2009") if count > 0 else "–"
    ax.text(x + 0.5, y + 0.76, text, ha="center", va="center", color=ink, fontsize=7)
