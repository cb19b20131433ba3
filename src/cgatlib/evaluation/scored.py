"""Predictions of several seeds on one test set, brought into one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatlib import CgatError

Array = NDArray[np.float64]
Seeds = Sequence[pd.DataFrame]
"""Predictions of the seeds of one kind of run: tables with ``material_id``, ``target``, ``prediction``."""

_SHOWN = 3  # ids named in a message


@dataclass(frozen=True, eq=False)
class Scored:
    """Test crystals in the order of their ids with the predictions of all seeds.

    Attributes:
        ids, formulas: (T,) text. targets: (T,). predictions: (S, T), both in the label's unit.
    """

    ids: NDArray[np.str_]
    formulas: NDArray[np.str_]
    targets: Array
    predictions: Array

    @classmethod
    def of(cls, seeds: Seeds, formulas: Mapping[str, str], name: str = "the predictions") -> Scored:
        """Bring the predictions of the seeds into one order.

        Args:
            seeds: one table per seed. formulas: reduced formula by material id. name: of the seeds, for messages.

        Raises:
            CgatError: there are no seeds, two seeds have other test crystals or targets, a crystal occurs twice, a
                number is not finite, or a formula is not known.
        """
        if not seeds:
            raise CgatError(f"{name}: no seed was given")
        parts = [_one_seed(frame, f"{name}, seed number {i}") for i, frame in enumerate(seeds, start=1)]
        ids = parts[0].index
        unknown = [i for i in ids if i not in formulas]
        if unknown:
            raise CgatError(f"{name}: the formula of {_some(unknown)} is not known")
        for i, part in enumerate(parts[1:], start=2):
            _require_same(parts[0]["target"], part["target"], f"{name}, seed number 1", f"seed number {i}")
        return cls(
            ids=ids.to_numpy(dtype=str),
            formulas=np.array([formulas[i] for i in ids], dtype=str),
            targets=parts[0]["target"].to_numpy(dtype=float),
            predictions=np.stack([part["prediction"].to_numpy(dtype=float) for part in parts]),
        )

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        """Number of each crystal's formula among the sorted formulas, (T,): what is drawn together."""
        return np.unique(self.formulas, return_inverse=True)[1]

    @property
    def errors(self) -> Array:
        """Absolute errors, (S, T)."""
        return np.abs(self.predictions - self.targets)

    def at(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Scored:
        """The crystals `rows` alone."""
        return Scored(self.ids[rows], self.formulas[rows], self.targets[rows], self.predictions[:, rows])

    def require_same(self, other: Scored, name: str, other_name: str) -> None:
        """Raise `CgatError` unless `other` has the same test crystals with the same targets."""
        _require_same(pd.Series(self.targets, self.ids), pd.Series(other.targets, other.ids), name, other_name)


def restrict(seeds: Seeds, ids: Sequence[str]) -> list[pd.DataFrame]:
    """The predictions for the crystals `ids` alone; `CgatError` when one of them was not predicted."""
    kept = []
    for frame in seeds:
        absent = set(ids) - set(frame["material_id"])
        if absent:
            raise CgatError(f"{_some(sorted(absent))} of the wanted crystals have no prediction")
        kept.append(frame[frame["material_id"].isin(ids)])
    return kept


def _one_seed(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """One seed's table, indexed and sorted by material id."""
    missing = {"material_id", "target", "prediction"} - set(frame.columns)
    if missing:
        raise CgatError(f"{name}: column {min(missing)!r} is missing")
    if frame.empty:
        raise CgatError(f"{name}: there is no test crystal")
    part = frame.set_index("material_id")[["target", "prediction"]].sort_index()
    twice = part.index[part.index.duplicated()]
    if len(twice):
        raise CgatError(f"{name}: {_some(twice.unique())} occurs twice")
    broken = part.index[~np.isfinite(part.to_numpy(dtype=float)).all(axis=1)]
    if len(broken):
        raise CgatError(f"{name}: {_some(broken)} has a target or a prediction that is not finite")
    return part


def _require_same(first: pd.Series, second: pd.Series, first_name: str, second_name: str) -> None:
    only_first, only_second = first.index.difference(second.index), second.index.difference(first.index)
    if len(only_first) or len(only_second):
        sides = [
            f"only {name} has {_some(only)}"
            for name, only in ((first_name, only_first), (second_name, only_second))
            if len(only)
        ]
        raise CgatError(f"the test crystals differ: {' and '.join(sides)}")
    off = ~np.isclose(first.to_numpy(dtype=float), second.to_numpy(dtype=float), rtol=1e-6, atol=1e-9)
    if off.any():
        place = int(np.flatnonzero(off)[0])
        raise CgatError(
            f"the targets of {int(off.sum())} test crystals differ, that of {first.index[place]} is "
            f"{first.iloc[place]:.6g} in {first_name} and {second.iloc[place]:.6g} in {second_name}"
        )


def _some(ids: Sequence[str] | pd.Index) -> str:
    """The first few ids and the number of all, for messages."""
    named = ", ".join(str(i) for i in ids[:_SHOWN])
    return f"{named} and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else named
