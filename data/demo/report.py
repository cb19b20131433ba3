"""Numbers about the demo set: statistics.json and the tables inside DATASHEET.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cgatlib.crystals.crystal import SYMBOLS
from cgatlib.crystals.table import CrystalTable

BEGIN, END = "<!-- begin: written by make_demo.py -->", "<!-- end -->"
# compounds whose labels the datasheet shows: (formula, prototype)
SHOWN = (
    ("NaCl", "AB_cF8_225_a_b"),
    ("MgO", "AB_cF8_225_a_b"),
    ("CsCl", "AB_cP2_221_b_a"),
    ("Si", "A_cF8_227_a"),
    ("GaAs", "AB_cF8_216_c_a"),
    ("ZnS", "AB_cF8_216_c_a"),
    ("ZnS", "AB_hP4_186_b_b"),
    ("CaF2", "AB2_cF12_225_a_c"),
    ("TiO2", "A2B_tP6_136_f_a"),
    ("Al2O3", "A2B3_hR10_167_c_e"),
    ("SrTiO3", "AB3C_cP5_221_a_c_b"),
    ("AlNi", "AB_cP2_221_b_a"),
    ("Cu3Au", "AB3_cP4_221_a_c"),
)
ON_HULL = 1e-6  # eV/atom
LABELS = {"e_form": "eV/atom", "e_above_hull": "eV/atom", "volume_per_atom": "Å³/atom"}


def table_statistics(table: CrystalTable, path: Path) -> dict[str, Any]:
    """Counts and label statistics of one level, as they can be checked against the parquet file."""
    formulas, prototypes = Counter(table.formulas), Counter(table.table["prototype"].to_pylist())
    elements: Counter[str] = Counter()
    for numbers in table.table["numbers"].to_pylist():
        elements.update({SYMBOLS[z - 1] for z in numbers})
    hull = table.label("e_above_hull")
    return {
        "rows": len(table),
        "fingerprint": table.fingerprint,
        "file_bytes": path.stat().st_size,
        "formulas": len(formulas),
        "formulas_with_polymorphs": sum(count > 1 for count in formulas.values()),
        "rows_with_polymorphs": sum(count for count in formulas.values() if count > 1),
        "prototypes": len(prototypes),
        "on_hull": int((hull < ON_HULL).sum()),
        "within_0.1_eV_of_hull": int((hull < 0.1).sum()),
        "atoms_per_cell": _counts(table.table["n_atoms"].to_pylist()),
        "elements_per_crystal": _counts([len(set(z)) for z in table.table["numbers"].to_pylist()]),
        "labels": {name: _label_statistics(table.label(name)) for name in LABELS},
        "element_counts": {symbol: elements[symbol] for symbol in SYMBOLS if elements[symbol]},
        "prototype_counts": dict(sorted(prototypes.items())),
    }


def _counts(values: list[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


def _label_statistics(values: np.ndarray) -> dict[str, float]:
    quantiles = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}
    statistics = {name: float(np.percentile(values, q)) for name, q in quantiles.items()}
    return {name: round(x, 5) for name, x in (statistics | {"mean": values.mean(), "std": values.std()}).items()}


def comparison(pbe: CrystalTable, r2scan: CrystalTable) -> dict[str, float]:
    """How the two levels differ on the crystals they share: mean of r2SCAN - PBE, and Pearson's r."""
    place = {material_id: i for i, material_id in enumerate(pbe.ids)}
    rows = [place[material_id] for material_id in r2scan.ids]
    result = {}
    for name in LABELS:
        first, second = pbe.label(name)[rows], r2scan.label(name)
        result[f"{name}_mean_difference"] = round(float((second - first).mean()), 5)
        result[f"{name}_mean_absolute_difference"] = round(float(np.abs(second - first).mean()), 5)
        result[f"{name}_correlation"] = round(float(np.corrcoef(first, second)[0, 1]), 5)
    return result


def shown_compounds(tables: Mapping[str, CrystalTable]) -> list[list[str]]:
    """Formula, prototype, then volume and formation energy at each level, for the compounds in SHOWN."""
    lines = [[*pair] for pair in SHOWN]
    for table in tables.values():
        pairs = list(zip(table.formulas, table.table["prototype"].to_pylist(), strict=True))
        volumes, energies = table.label("volume_per_atom"), table.label("e_form")
        for line, pair in zip(lines, SHOWN, strict=True):
            row = pairs.index(pair)
            line += [f"{volumes[row]:.2f}", f"{energies[row]:.3f}"]
    return lines


def write_statistics(statistics: Mapping[str, Any], path: Path) -> None:
    """Write statistics.json."""
    path.write_text(json.dumps(statistics, indent=1, ensure_ascii=False) + "\n")


def write_datasheet_tables(statistics: Mapping[str, Any], path: Path) -> None:
    """Replace what stands between the two markers of the datasheet."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} must hold the lines {BEGIN!r} and {END!r} once each")
    head, rest = text.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n\n{_tables(statistics)}\n\n{END}{rest.split(END)[1]}")


def _tables(statistics: Mapping[str, Any]) -> str:
    levels = statistics["levels"]
    parts = [
        _markdown(["", *levels], [[label, *(levels[x][key] for x in levels)] for key, label in _COUNT_ROWS.items()]),
        _label_table(levels),
        _markdown(
            ["compound", "prototype", *(f"{x} {y}" for x in levels for y in ("V (Å³/atom)", "E_form (eV/atom)"))],
            statistics["known_compounds"],
        ),
        _markdown(
            ["dropped because", *statistics["dropped"]],
            [[reason, *counts] for reason, counts in _drop_rows(statistics["dropped"])],
        ),
        _markdown(["rule of the decoration", "candidates", "in the PBE table"], statistics["rules"]),
        _markdown(["r2SCAN minus PBE, same crystals", "value"], list(statistics["comparison"].items())),
    ]
    return "\n\n".join(parts)


_COUNT_ROWS = {
    "rows": "crystals",
    "formulas": "reduced formulas",
    "rows_with_polymorphs": "crystals that share their formula with another",
    "prototypes": "prototypes",
    "on_hull": "on the hull of the set",
    "within_0.1_eV_of_hull": "within 0.1 eV/atom of the hull",
    "file_bytes": "bytes of the file",
}


def _drop_rows(dropped: Mapping[str, Mapping[str, int]]) -> list[tuple[str, list[int]]]:
    reasons = sorted({reason for counts in dropped.values() for reason in counts})
    return [(reason, [counts.get(reason, 0) for counts in dropped.values()]) for reason in reasons]


def _label_table(levels: Mapping[str, Any]) -> str:
    names = ("min", "p5", "median", "mean", "p95", "max", "std")
    rows = [
        [f"{level} {label} ({unit})", *(f"{statistics['labels'][label][name]:.3f}" for name in names)]
        for level, statistics in levels.items()
        for label, unit in LABELS.items()
    ]
    return _markdown(["label", *names], rows)


def _markdown(header: list[str], rows: list[Any]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
