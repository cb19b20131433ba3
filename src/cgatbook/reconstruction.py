"""The paper's own lines, which its text does not print, rebuilt from Table 1 and the sizes that it quotes.

Four numbers fix the two lines of a property and functional in Fig. 4 (`laws_from_counts`): the errors
without and with transfer on the whole training set, N_equiv and N_cross. The lines then go through the functions that
our own runs go through. Their points are not known: intervals assume `NOISE` in the error of every one.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatbook.published import Printed, PublishedNumbers
from cgatlib import CgatError
from cgatlib.evaluation.scaling import (
    ComputeBudget,
    FloorLaw,
    Points,
    PowerLaw,
    ScalingFit,
    bootstrap,
    fit_power_law,
    r_squared,
)
from cgatlib.figures.style import QUANTITIES

NOISE = 0.02
"""Relative standard deviation of the error between seeds that is assumed for the paper's runs, which had one."""

PLACES = (("e_above_hull", "SCAN"), ("e_above_hull", "PBEsol"), ("e_form", "SCAN"), ("e_form", "PBEsol"))
"""Labels and functionals of Fig. 4."""

PRETRAINING_SETS = 4  # in Figs. 3 and 5; the text gives the smallest and the largest

Sizes = NDArray[np.float64]


def _stated(published: PublishedNumbers, label: str, functional: str) -> list[Printed]:
    """The arguments of `laws_from_counts`."""
    names = [f"table1/{label}/{functional}/none", f"table1/{label}/{functional}/full", "numbers/training_sizes/1"]
    names += [f"numbers/{what}_{label}_{functional}" for what in ("equivalent", "crossing")]
    return [published[name] for name in names]


def published_lines(published: PublishedNumbers, label: str, functional: str) -> tuple[PowerLaw, PowerLaw]:
    """The lines of Fig. 4 without and with full transfer, in meV/atom."""
    return laws_from_counts(*(number.value for number in _stated(published, label, functional)))


def laws_from_counts(
    none_mae: float, full_mae: float, size: float, equivalent: float, crossing: float
) -> tuple[PowerLaw, PowerLaw]:
    """The two lines (none, full) behind a pair of MAEs at one size and the quoted N_equiv and N_cross.

    The paper prints no slopes in its text; these four numbers fix them.
    """
    gain = math.log(none_mae / full_mae)
    if gain <= 0 or equivalent <= size or crossing <= size:
        raise CgatError("lines follow from the counts only if transfer is better and both counts exceed the size")
    none_slope = gain / math.log(equivalent / size)
    full_slope = none_slope - gain / math.log(crossing / size)
    return PowerLaw.through(size, none_mae, none_slope), PowerLaw.through(size, full_mae, full_slope)


def training_sizes(published: PublishedNumbers) -> Sizes:
    """The training sizes of Figs. 3 to 5, each twice the one before; the text gives the smallest and the largest."""
    smallest, largest = (published[f"numbers/training_sizes/{i}"].value for i in (0, 1))
    halvings = round(math.log2(largest / smallest))
    return np.asarray(largest / 2.0 ** np.arange(halvings, -1, -1))


def _noisy(law: PowerLaw, sizes: Sizes) -> ScalingFit:
    return bootstrap(Points(sizes, law.predict(sizes)), noise=NOISE)


def published_fits(published: PublishedNumbers, label: str, functional: str) -> tuple[ScalingFit, ScalingFit]:
    """`published_lines` with the uncertainty of a fit to the paper's training sizes under `NOISE`."""
    none, full = (_noisy(law, training_sizes(published)) for law in published_lines(published, label, functional))
    return none, full


def published_points(published: PublishedNumbers) -> pd.DataFrame:
    """The lines at the paper's sizes, [panel, functional, mode, train_size, seed, mae / meV/atom] for Fig. 4."""
    sizes = training_sizes(published)
    frames = []
    for label, functional in PLACES:
        for mode, law in zip(("none", "full"), published_lines(published, label, functional), strict=True):
            place = {"panel": QUANTITIES[label].symbol, "functional": functional, "mode": mode, "seed": 0}
            frames.append(pd.DataFrame({**place, "train_size": sizes, "mae": law.predict(sizes)}))
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class HiddenFloor:
    """A line fitted to errors that fall towards a floor: its R², and its relative error at a far size."""

    r_squared: float
    error: float


def hidden_floor(published: PublishedNumbers, floor: float) -> HiddenFloor:
    """What a floor (meV/atom) would do to the line of E_hull (SCAN) without transfer.

    The errors at the smallest and the largest size stay; between them they fall towards the floor. The line through
    them is followed to the size that the paper quotes as N_cross.
    """
    none, _ = published_lines(published, "e_above_hull", "SCAN")
    sizes, far = training_sizes(published), published["numbers/crossing_e_above_hull_SCAN"].value
    above = none.predict(sizes[[0, -1]]) - floor
    slope = math.log(above[0] / above[1]) / math.log(sizes[-1] / sizes[0])
    truth = FloorLaw(PowerLaw.through(sizes[-1], float(above[1]), slope).intercept, slope, floor)
    points = Points(sizes, truth.predict(sizes))
    line = fit_power_law(points)
    return HiddenFloor(r_squared(points, line), float(line.predict(far) / truth.predict(far)) - 1)


def published_budget(published: PublishedNumbers, n_pretrain: float, n_train: float) -> ComputeBudget:
    """The paper's Fig. 5 from a start.

    The slope against training size is that of E_hull (SCAN) with full transfer in Fig. 4; the slope against
    pre-training size follows from the ratio of sizes at which the paper finds both calculations equally good,
    c alpha / beta.
    """
    _, full = published_lines(published, "e_above_hull", "SCAN")
    cost, even = (published[f"numbers/{name}"].value for name in ("cost_ratio_SCAN", "balanced_ratio"))
    low, high = (published[f"numbers/pretraining_sizes/{i}"].value for i in (0, 1))
    pretraining = PowerLaw.through(high, float(full.predict(n_train)), full.slope * even / cost)
    training = PowerLaw.through(n_train, float(pretraining.predict(n_pretrain)), full.slope)
    return ComputeBudget(
        training=_noisy(training, training_sizes(published)),
        pretraining=_noisy(pretraining, np.geomspace(low, high, PRETRAINING_SETS)),
        n_train=n_train,
        n_pretrain=n_pretrain,
        cost_ratio=cost,
    )
