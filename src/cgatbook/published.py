"""The paper's printed numbers by name, each with the half unit that its rounding leaves open."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cgatlib import CgatError
from cgatlib.figures.style import short_count

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
        digits = text.removesuffix("%")
        try:
            value = float(digits)
        except ValueError as error:
            raise CgatError(f"{text!r} is not a number") from error
        half, unit = _half(digits), 100 if text.endswith("%") else 1
        shown = short_count(value) if abs(value) >= _THOUSAND else text
        return cls(value / unit, (value - half) / unit, (value + half) / unit, shown)

    def over(self, other: "Printed") -> "Printed":
        """The quotient of two positive numbers."""
        value = self.value / other.value
        return Printed(value, self.low / other.high, self.high / other.low, f"{self.text} / {other.text}")


def _half(digits: str) -> float:
    """Half of the last digit that counts."""
    if "e" in digits.lower():
        raise CgatError(f"{digits} does not show which of its digits count")
    if "." in digits:
        return float(0.5 * 10.0 ** -len(digits.partition(".")[2]))
    zeros = len(digits) - len(digits.rstrip("0")) if abs(float(digits)) >= _THOUSAND else 0
    return float(0.5 * 10**zeros)


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
        known: dict[str, Callable[[list[str]], str]] = {
            "table1": self._of_table1,
            "numbers": self._of_numbers,
            "elements": self._of_elements,
        }
        kind, *rest = str(name).split("/")
        if str(name).isdigit():
            return Printed(float(name), float(name), float(name), str(name))
        if kind not in known:
            return Printed.of(str(name))
        try:
            return Printed.of(known[kind](rest))
        except (LookupError, ValueError) as error:
            raise CgatError(f"data/published has no {name}") from error

    def fill(self, text: str) -> str:
        """A sentence with the names in braces replaced by their numbers."""
        return re.sub(r"\{([^}]+)\}", lambda found: self[found[1]].text, text)

    def _of_table1(self, path: list[str]) -> str:
        label, functional, mode, *gain = path
        own = self.table1[(self.table1[["label", "functional", "mode"]] == [label, functional, mode]).all(axis=1)]
        return f"{own['gain_percent'].iloc[0]}%" if gain else str(own["mae"].iloc[0])

    def _of_numbers(self, path: list[str]) -> str:
        name, *place = path
        entry = self.numbers[name]
        value = entry["value"][int(place[0])] if place else entry["value"]
        if isinstance(value, list):
            raise LookupError(name)
        return f"{value}%" if entry["unit"] == "%" else str(value)

    def _of_elements(self, path: list[str]) -> str:
        counted, symbol = path
        return f"{self.elements.loc[symbol, counted]:.1f}"
