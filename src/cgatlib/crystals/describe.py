"""What a crystal table holds, in numbers."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from cgatlib.crystals.checks import PROPERTIES, SYMBOLS
from cgatlib.crystals.table import CrystalTable

VOLUME_STEP = 1e-3
"""Relative difference in volume below which two cells of one formula and size are called alike."""


def describe(table: CrystalTable) -> dict[str, Any]:
    """Return counts, functional, label statistics, element counts and duplicates of a table.

    Two rows are alike when formula and number of atoms agree and their volumes per atom differ by less than one
    part in a thousand; that is a hint to look, since polymorphs may agree by chance.
    """
    atoms = np.asarray(table.table["n_atoms"].to_numpy(), dtype=np.int64)
    return {
        "crystals": len(table),
        "functional": table.functional,
        "source": table.source,
        "fingerprint": table.fingerprint,
        "formulas": len(set(table.formulas)),
        "atoms": {"min": int(atoms.min()), "mean": float(atoms.mean()), "max": int(atoms.max())} if len(atoms) else {},
        "labels": {name: _statistics(table, name) for name in table.labels},
        "elements": _elements(table),
        "duplicates": _duplicates(table),
    }


def _statistics(table: CrystalTable, name: str) -> dict[str, Any]:
    values = table.label(name)
    values = values[~np.isnan(values)]
    return {
        "unit": PROPERTIES[name].unit,
        "count": len(values),
        "missing": len(table) - len(values),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }


def _elements(table: CrystalTable) -> dict[str, int]:
    """Number of crystals that contain each element, most frequent first."""
    counts: Counter[int] = Counter()
    for crystal in table:
        counts.update(set(crystal.numbers.tolist()))
    return {SYMBOLS[z - 1]: n for z, n in counts.most_common()}


def _duplicates(table: CrystalTable) -> dict[str, int]:
    """Rows beyond the first with the same id, and with a cell like an earlier one."""
    cells = sorted((c.formula, len(c.numbers), c.volume_per_atom) for c in table)
    alike = sum(
        before[:2] == after[:2] and after[2] < before[2] * (1 + VOLUME_STEP) for before, after in pairwise(cells)
    )
    return {"same_id": len(table) - len(set(table.ids)), "alike": alike}
