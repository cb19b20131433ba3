"""The paper's printed numbers by name, with the half unit that rounding leaves open, and the lines behind them.

Its text prints no slopes. Four numbers fix the two lines of a property and functional in Fig. 4: the errors without and
with transfer on the whole training set, N_equiv and N_cross. The lines then go through the functions that our own runs
go through. Their points are not known: intervals assume `NOISE` in the error of every one.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cgatlib import CgatError
from cgatlib.evaluation.scaling import ComputeBudget, Points, PowerLaw, ScalingFit, bootstrap, fit_power_law, r_squared
from cgatlib.evaluation.statistics import Array
from cgatlib.figures.style import QUANTITIES, short_count

NOISE = 0.02
"""Relative standard deviation of the error between seeds that is assumed for the paper's runs, which had one."""

PLACES = (("e_above_hull", "SCAN"), ("e_above_hull", "PBEsol"), ("e_form", "SCAN"), ("e_form", "PBEsol"))
"""Labels and functionals of Fig. 4."""

PRETRAINING_SETS = 4  # in Figs. 3 and 5; the text gives the smallest and the largest
_THOUSAND = 1000  # from here on the paper prints k and M


@dataclass(frozen=True)
class Printed:
    """A number as it stands in the paper; `low` and `high` are the smallest and the largest that are printed so."""

    value: float
    low: float
    high: float
    text: str

    @classmethod
    def of(cls, text: str) -> "Printed":
        """From its digits, ``0.24``, ``9%`` or ``178000``; the zeros at the end of thousands count as rounded.

        Raises:
            CgatError: it is no number.
        """
        try:
            digits = Decimal(text.removesuffix("%"))
        except InvalidOperation as error:
            raise CgatError(f"{text!r} is not a number") from error
        large = abs(digits) >= _THOUSAND
        last = (digits.normalize() if large and "." not in text else digits).as_tuple().exponent
        value, half, unit = float(digits), 0.5 * 10.0 ** int(last), 100 if text.endswith("%") else 1
        shown = short_count(value) if large else text
        return cls(value / unit, (value - half) / unit, (value + half) / unit, shown)

    def over(self, other: "Printed") -> "Printed":
        """The quotient of two positive numbers."""
        value = self.value / other.value
        return Printed(value, self.low / other.high, self.high / other.low, f"{self.text} / {other.text}")


@dataclass(frozen=True)
class PublishedNumbers:
    """The files of ``data/published``; numbers are named by a path.

    ``table1/LABEL/FUNCTIONAL/MODE`` is a MAE of Table 1 and ``.../gain`` the percentage beside it;
    ``numbers/NAME`` an entry of ``numbers.yml``, ``numbers/NAME/0`` the first of several;
    ``elements/SET/SYMBOL`` a count of Fig. 9. Anything else is the number itself, exact where it is a whole one.
    """

    folder: Path

    @cached_property
    def table1(self) -> pd.DataFrame:
        """Table 1, its numbers as texts."""
        return pd.read_csv(self.folder / "table1.csv", dtype=str, keep_default_na=False)

    @cached_property
    def numbers(self) -> Mapping[str, Mapping[str, Any]]:
        """Numbers of the text."""
        return dict(yaml.safe_load((self.folder / "numbers.yml").read_text()))

    @cached_property
    def elements(self) -> pd.DataFrame:
        """Compounds that contain an element, by symbol."""
        return pd.read_csv(self.folder / "element_counts.csv", index_col="symbol")

    def __getitem__(self, name: str) -> Printed:
        if name.isdigit():
            return Printed(float(name), float(name), float(name), name)
        try:
            text = self._text(name)
        except (LookupError, ValueError) as error:
            raise CgatError(f"data/published has no {name}") from error
        return Printed.of(text)

    def fill(self, text: str) -> str:
        """A sentence with the names in braces replaced by their numbers."""
        return re.sub(r"\{([^}]+)\}", lambda found: self[found[1]].text, text)

    def _text(self, name: str) -> str:
        match name.split("/"):
            case "table1", *place, "gain":
                return f"{self._of_table1(place)['gain_percent']}%"
            case "table1", *place:
                return str(self._of_table1(place)["mae"])
            case "numbers", key, *place:
                entry = self.numbers[key]
                value = entry["value"][int(place[0])] if place else entry["value"]
                if isinstance(value, list):
                    raise LookupError(name)
                return f"{value}%" if entry["unit"] == "%" else str(value)
            case "elements", counted, symbol:
                return str(float(self.elements.loc[symbol, counted]))
        return name

    def _of_table1(self, place: list[str]) -> pd.Series:
        return self.table1[(self.table1[["label", "functional", "mode"]] == place).all(axis=1)].iloc[0]


def laws_from_counts(
    none_mae: float, full_mae: float, size: float, equivalent: float, crossing: float
) -> tuple[PowerLaw, PowerLaw]:
    """The two lines (none, full) behind a pair of MAEs at one size and the quoted N_equiv and N_cross."""
    gain = math.log(none_mae / full_mae)
    none_slope = gain / math.log(equivalent / size)
    full_slope = none_slope - gain / math.log(crossing / size)
    return PowerLaw.through(size, none_mae, none_slope), PowerLaw.through(size, full_mae, full_slope)


def published_lines(published: PublishedNumbers, label: str, functional: str) -> tuple[PowerLaw, PowerLaw]:
    """The lines of Fig. 4 without and with full transfer, in meV/atom."""
    names = [f"table1/{label}/{functional}/none", f"table1/{label}/{functional}/full", "numbers/training_sizes/1"]
    names += [f"numbers/{what}_{label}_{functional}" for what in ("equivalent", "crossing")]
    return laws_from_counts(*(published[name].value for name in names))


def training_sizes(published: PublishedNumbers) -> Array:
    """The training sizes of Figs. 3 to 5, each twice the one before; the text gives the smallest and the largest."""
    smallest, largest = (published[f"numbers/training_sizes/{i}"].value for i in (0, 1))
    return np.asarray(largest / 2.0 ** np.arange(round(math.log2(largest / smallest)), -1, -1))


def _noisy(law: PowerLaw, sizes: Array) -> ScalingFit:
    return bootstrap(Points(sizes, law.predict(sizes)), NOISE)


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


def hidden_floor(published: PublishedNumbers, floor: float) -> tuple[float, float]:
    """What a floor (meV/atom) would do to the line of E_hull (SCAN) without transfer.

    The errors at the smallest and the largest size stay; between them they fall towards the floor.

    Returns:
        R² of the line through them, and its relative error at the size that the paper quotes as N_cross.
    """
    none, _ = published_lines(published, "e_above_hull", "SCAN")
    sizes, far = training_sizes(published), published["numbers/crossing_e_above_hull_SCAN"].value
    above = none.predict(sizes[[0, -1]]) - floor
    slope = math.log(above[0] / above[1]) / math.log(sizes[-1] / sizes[0])
    truth = PowerLaw(PowerLaw.through(sizes[-1], float(above[1]), slope).intercept, slope, floor)
    points = Points(sizes, truth.predict(sizes))
    line = fit_power_law(points)
    return r_squared(points, line), float(line.predict(far) / truth.predict(far)) - 1


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
    fits = _noisy(training, training_sizes(published)), _noisy(pretraining, np.geomspace(low, high, PRETRAINING_SETS))
    return ComputeBudget(*fits, n_train=n_train, n_pretrain=n_pretrain, cost_ratio=cost)
