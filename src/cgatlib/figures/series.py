"""Lines of the size figures: measured points, their fit, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import matplotlib as mpl
import numpy as np
import pandas as pd

from cgatlib import CgatError
from cgatlib.figures.style import (
    FUNCTIONAL_NAMES,
    MODES,
    LineStyle,
    functional_colour,
    mode_style,
    require_columns,
    short_count,
)
from cgatlib.scaling.extrapolation import crossing
from cgatlib.scaling.powerlaws import Points, PowerLaw, fit_power_law
from cgatlib.scaling.resampling import ScalingFit, bootstrap

SHADE_MARKERS = "oDv^P*X<>h"
FARTHEST = 30.0  # a crossing beyond this multiple of the largest size is not drawn


@dataclass(frozen=True)
class Series:
    """Measured points of one line and how it is drawn; `fit` and `law` are None where the points allow none."""

    label: str
    sizes: np.ndarray  # (P,)
    maes: np.ndarray  # (P,)
    law: PowerLaw | None
    fit: ScalingFit | None
    colour: str
    line: LineStyle
    marker: str  # empty: the points were not measured, and are not drawn
    filled: bool = True
    common: np.ndarray | float = 0.0  # shift of all lines by the test crystals, which bands leave out

    def band(self, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """95 % band of the fit at n."""
        if self.fit is None:
            raise CgatError(f"{self.label} has no band, because its points allow no fit")
        return self.fit.band(n, common=self.common)


def aligned(series: Sequence[Series]) -> list[Series]:
    """Lines on one test set, whose bands leave out what an easier or harder one would do to all of them alike."""
    shifts = [one.fit.shifts for one in series if one.fit is not None]
    return [replace(one, common=np.mean(shifts, axis=0)) for one in series] if shifts else list(series)


def curve_points(rows: pd.DataFrame, size: str = "train_size") -> Points:
    """Points of a table [<size>, seed, mae] in the order of sizes and seeds, which paired resampling needs.

    A column `errors` of equally long arrays (absolute errors on common test crystals) is taken along.
    """
    require_columns(rows, (size, "seed", "mae"), "a size scaling")
    ordered = rows.sort_values([size, "seed"])
    errors = np.stack(ordered["errors"].to_list()) if "errors" in ordered else None
    return Points(ordered[size].to_numpy(float), ordered["mae"].to_numpy(float), errors)


def shaded(rows: pd.DataFrame, by: str, against: str) -> list[Series]:
    """One series per value of `by`, the largest first and darkest."""
    values = sorted(rows[by].unique(), reverse=True)
    shades = np.linspace(0.95, 0.42, len(values)) if len(values) > 1 else [0.8]
    series = []
    for index, (value, shade) in enumerate(zip(values, shades, strict=True)):
        colour = mpl.colors.to_hex(mpl.colormaps["Blues"](shade))
        marker = SHADE_MARKERS[index % len(SHADE_MARKERS)]
        series.append(_series(rows[rows[by] == value], against, short_count(value), colour, "-", marker))
    return series


def panel_series(rows: pd.DataFrame, noise: float | None = None) -> list[Series]:
    """Series of one panel in the order of functionals and modes; `noise` as in `transfer_scaling`."""
    functionals = list(dict.fromkeys(rows["functional"]))
    for mode in rows["mode"].unique():
        mode_style(mode)  # refuses what has no fixed look
    series: list[Series] = []
    for functional in functionals:
        own = []
        for mode in MODES:
            runs = rows[(rows["functional"] == functional) & (rows["mode"] == mode)]
            if runs.empty:
                continue
            several = len(functionals) > 1
            name = MODES[mode].name
            label = f"{FUNCTIONAL_NAMES.get(functional, functional)}, {name}" if several else name
            colour = functional_colour(functional) if several else MODES[mode].colour
            own.append(mode_series(runs, mode, label, colour, noise))
        series += aligned(own)
    return series


def mode_series(rows: pd.DataFrame, mode: str, label: str, colour: str, noise: float | None = None) -> Series:
    """One line of a training mode against training size; no transfer has open markers."""
    look = MODES[mode]
    marker = look.marker if noise is None else ""
    return _series(rows, "train_size", label, colour, look.line, marker, filled=mode != "none", noise=noise)


def _series(
    rows: pd.DataFrame,
    against: str,
    label: str,
    colour: str,
    line: LineStyle,
    marker: str,
    filled: bool = True,
    noise: float | None = None,
) -> Series:
    law, fit = None, None
    if rows[against].min() < rows[against].max():
        points = curve_points(rows, against)
        law = fit_power_law(points)
        fit = bootstrap(points, noise=noise) if points.has_spread or noise is not None else None
    sizes, maes = rows[against].to_numpy(float), rows["mae"].to_numpy(float)
    return Series(label, sizes, maes, law, fit, colour, line, marker, filled)


def crossings(series: Sequence[Series]) -> list[tuple[float, PowerLaw]]:
    """Crossings of each no-transfer line with the transfer lines that follow it, where near enough to draw."""
    found, none = [], None
    for one in series:
        if not one.filled:
            none = one
        elif none is not None and none.law is not None and one.law is not None:
            n = crossing(none.law, one.law)
            largest = float(max(none.sizes.max(), one.sizes.max()))
            if isfinite(n) and largest < n <= FARTHEST * largest:
                found.append((n, one.law))
    return found
