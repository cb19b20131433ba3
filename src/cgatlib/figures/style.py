"""One visual identity for every figure: font, colours, names, axes of sizes and errors, files to download."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from io import BytesIO, StringIO
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import matplotlib as mpl
import matplotlib.style as mpl_style
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from cgatlib.crystals.crystal import FUNCTIONALS, PROPERTIES, Property
from cgatlib.errors import CgatError

T = TypeVar("T")

INK, MUTED, GRID, PAGE = "#1F2933", "#52606D", "#E4E7EB", "#FFFFFF"
ACCURACY = "#9C4BBD"  # the chemical-accuracy line, purple as in the paper

# Told apart under deuteranopia and protanopia, and legible on a white and on a dark page.
_PALETTE = ("#7C8896", "#B5830F", "#17808D", "#C0476B", INK, "#5E8C31", "#8467B7", "#A0522D")
FUNCTIONAL_COLOURS: Mapping[str, str] = MappingProxyType(dict(zip(FUNCTIONALS, cycle(_PALETTE), strict=False)))
FUNCTIONAL_NAMES: Mapping[str, str] = FUNCTIONALS


@dataclass(frozen=True)
class Mode:
    """How a way of training is drawn and named."""

    name: str
    colour: str
    line: Any  # a dash name or (offset, dashes); matplotlib types names as literals only
    marker: str


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "none": Mode("no transfer", "#D66A00", "--", "s"),
        "untouched": Mode("zero-shot", "#7A8793", ":", "P"),
        "head": Mode("only regression head", "#009E73", "-.", "^"),
        "full": Mode("full transfer", "#0072B2", "-", "o"),
        "full_low_lr": Mode("full transfer, low learning rate", "#3F91CC", ":", "v"),
        "inter": Mode("full transfer, other property", "#9C4BBD", (0, (5, 1.2, 1, 1.2, 1, 1.2)), "D"),
    }
)


QUANTITIES: Mapping[str, Property] = PROPERTIES
"""How labels and their errors are written."""


@cache
def _register_fonts() -> None:
    files = sorted((Path(__file__).parent / "fonts").glob("*.ttf"))
    if not files:
        raise CgatError(f"the fonts of the figures are missing from {Path(__file__).parent / 'fonts'}")
    for file in files:
        font_manager.fontManager.addfont(file)


def style() -> AbstractContextManager[None]:
    """The context in which every figure is drawn and saved."""
    _register_fonts()
    return mpl_style.context(Path(__file__).parent / "figures.mplstyle")


class NotebookFigure(Figure):
    """A figure that a notebook shows as a cell's last expression, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        image = BytesIO()
        with style():
            self.savefig(image, format="png", dpi=150)
        return image.getvalue()


def looked_up(name: str, known: Mapping[str, T], what: str) -> T:
    """The entry of a table; CgatError listing the known ones."""
    if name not in known:
        raise CgatError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return known[name]


def mode_style(mode: str) -> Mode:
    """Look of a way of training."""
    return looked_up(mode, MODES, "training mode")


def functional_colour(functional: str) -> str:
    """Fixed colour of a functional."""
    return looked_up(functional, FUNCTIONAL_COLOURS, "functional")


def quantity(label: str) -> Property:
    """Names and units of a label."""
    return looked_up(label, QUANTITIES, "label")


def require_columns(data: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """CgatError naming the columns that `what` lacks, or saying that it has no rows."""
    missing = [column for column in columns if column not in data.columns]
    if missing:
        raise CgatError(f"{what} needs the columns {', '.join(missing)}, which are missing")
    if data.empty:
        raise CgatError(f"{what} has no rows to draw")


def short_count(n: float) -> str:
    """A count in three digits at most: 250, 11 k, 1.8 M."""
    for limit, suffix in ((999_500, " M"), (999.5, " k")):
        if n >= limit:
            return f"{n / (1e6 if suffix == ' M' else 1e3):.3g}{suffix}"
    return f"{n:.3g}"


def size_axis(ax: Axes, sizes: Iterable[float]) -> None:
    """Logarithmic x axis whose ticks are the sizes themselves, thinned where labels would touch."""
    ax.set_xscale("log")
    ticks: list[float] = []
    ordered = sorted(set(sizes))
    closest = 0.075 * np.log(ax.get_xlim()[1] / ax.get_xlim()[0])
    for size in reversed(ordered):  # the largest sizes are the ones read
        if not ticks or np.log(ticks[-1] / size) > closest:
            ticks.append(size)
    ticks.reverse()
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter([short_count(tick) for tick in ticks]))
    ax.xaxis.set_minor_locator(NullLocator())


def error_axis(ax: Axes) -> None:
    """Logarithmic y axis with at least four plain numbers, also when it spans less than a decade."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 6], [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8]):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 4:
            break
    else:  # less than half a decade: equal steps read better than the digits of a decade
        ticks = np.asarray(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    ax.yaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.yaxis.set_major_formatter(FixedFormatter([f"{tick:.4g}" for tick in ticks]))
    ax.yaxis.set_minor_locator(NullLocator())


def panel_titles(axes: Iterable[Axes], titles: Sequence[str]) -> None:
    """Titles with panel letters (a), (b), ...; a single panel needs no letter."""
    for letter, ax, title in zip("abcdefghijklmnopqrstuvwxyz", axes, titles, strict=False):
        ax.set_title(f"({letter})  {title}" if len(titles) > 1 else title)


def number(value: float, spec: str) -> str:
    """Format with a minus sign instead of a hyphen, and without one where only zeros are left."""
    text = format(value, spec)
    return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")


def save_figure(figure: Figure, data: pd.DataFrame, folder: Path, name: str) -> dict[str, Path]:
    """Write the figure as PNG (on white) and SVG (`themed_svg`) and its data as CSV; the paths by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"{name}.{kind}" for kind in ("png", "svg", "csv")}
    with style():
        figure.savefig(paths["png"], dpi=200, metadata={"Software": "cgatlib"})
    paths["svg"].write_text(themed_svg(figure, name))
    data.to_csv(paths["csv"], index=False)
    return paths


# What follows the theme: ink is the text colour around the figure, muted and grid are shares of it, the page is Canvas.
_THEMED = {
    INK: "currentColor",
    MUTED: "color-mix(in srgb, currentColor 72%, transparent)",
    GRID: "color-mix(in srgb, currentColor 15%, transparent)",
    PAGE: "Canvas",
}
# Only where the SVG is a document of its own; inside a page the ink is the page's.
_ALONE = (
    "<style>svg:root{color-scheme:light dark;color:#1F2933}"
    "@media (prefers-color-scheme:dark){svg:root{color:#DDE3E9}}@media print{svg:root{color:#000}}</style>"
)


def themed_svg(figure: Figure, name: str) -> str:
    """The figure as transparent SVG whose text, axes and grid take the colour of the text around it, light or dark.

    Every themed colour follows its value on white, which a viewer that does not know themes shows. Identifiers start
    with `name`, so that several figures can stand in one page.
    """
    file = StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})  # the same figure, the same file
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    for colour, themed in _THEMED.items():
        svg = re.sub(rf"(fill|stroke): {colour}\b", rf"\g<0>; \1: {themed}", svg, flags=re.IGNORECASE)
    svg = re.sub(r" <metadata>.*?</metadata>\n| *<style.*?</style>\n", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("<svg ", '<svg style="stroke-linejoin: round; stroke-linecap: butt" ', 1)
    return svg.replace("<defs>", f"{_ALONE}<defs>", 1)
