"""What a crystal table holds, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from cgatlib.crystals.crystal import PROPERTIES, SYMBOLS
from cgatlib.crystals.table import CrystalTable

VOLUME_STEP = 1e-3  # relative difference below which two cells of one formula and size are alike


def describe(table: CrystalTable) -> dict[str, Any]:
    """Counts, functional, label statistics, element counts and duplicates of a table.

    Rows are alike when formula and number of atoms agree and volumes per atom differ by less than one part in a
    thousand: a hint to look, since polymorphs may agree by chance.
    """
    atoms = np.asarray(table.table["n_atoms"].to_numpy(), dtype=np.int64)
    cells = pd.DataFrame({"formula": table.formulas, "atoms": atoms, "volume": [c.volume_per_atom for c in table]})
    steps = cells.sort_values("volume").groupby(["formula", "atoms"])["volume"].pct_change()
    return {
        "crystals": len(table),
        "functional": table.functional,
        "source": table.source,
        "fingerprint": table.fingerprint,
        "formulas": len(set(table.formulas)),
        "atoms": {"min": int(atoms.min()), "mean": float(atoms.mean()), "max": int(atoms.max())} if len(atoms) else {},
        "labels": {name: _statistics(table, name) for name in table.labels},
        "elements": dict(sorted(element_counts(table).items(), key=lambda item: -item[1])),
        "duplicates": {"same_id": len(table) - len(set(table.ids)), "alike": int((steps < VOLUME_STEP).sum())},
    }


def _statistics(table: CrystalTable, name: str) -> dict[str, Any]:
    values = table.label(name)
    values = values[~np.isnan(values)]
    numbers = {what: float(getattr(np, what)(values)) for what in ("mean", "std", "min", "median", "max")}
    return {"unit": PROPERTIES[name].unit, "count": len(values), "missing": len(table) - len(values), **numbers}


def element_counts(table: CrystalTable) -> dict[str, int]:
    """Number of crystals that contain each element, by symbol, in the order of the atomic number."""
    counts = Counter(z for numbers in table.table["numbers"].to_pylist() for z in set(numbers))
    return {SYMBOLS[z - 1]: counts[z] for z in sorted(counts)}
