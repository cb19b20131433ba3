"""The embedded demo set: what its files promise, and known compounds against the literature."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres

from cgatlib.crystals.crystal import SYMBOLS, check
from cgatlib.crystals.table import CrystalTable

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
LEVELS = {"PBE": "pbe.parquet", "r2SCAN": "r2scan.parquet"}
LABELS = ("e_form", "e_above_hull", "volume_per_atom")
NOBLE = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}

# (formula, prototype) -> experimental volume (Å³/atom) at room temperature, from lattice parameters in
# R. W. G. Wyckoff, Crystal Structures (Wiley, 1963), and enthalpy of formation (eV/atom) at 298 K, from
# M. W. Chase, NIST-JANAF Thermochemical Tables (1998) and CRC Handbook of Chemistry and Physics (97th ed.);
# NiAl, Cu3Au: O. Kubaschewski et al., Materials Thermochemistry (1993). None where no value was looked up.
KNOWN: dict[tuple[str, str], tuple[float, float | None]] = {
    ("NaCl", "AB_cF8_225_a_b"): (22.43, -2.131),
    ("LiF", "AB_cF8_225_a_b"): (8.17, -3.192),
    ("KCl", "AB_cF8_225_a_b"): (31.16, -2.262),
    ("MgO", "AB_cF8_225_a_b"): (9.34, -3.118),
    ("CaO", "AB_cF8_225_a_b"): (13.93, -3.291),
    ("CsCl", "AB_cP2_221_b_a"): (35.04, -2.296),
    ("AlNi", "AB_cP2_221_b_a"): (12.03, -0.61),
    ("ZnS", "AB_cF8_216_c_a"): (19.78, -1.068),
    ("GaAs", "AB_cF8_216_c_a"): (22.58, -0.368),
    ("ZnS", "AB_hP4_186_b_b"): (19.81, None),
    ("ZnO", "AB_hP4_186_b_b"): (11.91, -1.816),
    ("CaF2", "AB2_cF12_225_a_c"): (13.59, -4.242),
    ("TiO2", "A2B_tP6_136_f_a"): (10.41, -3.261),
    ("SrTiO3", "AB3C_cP5_221_a_c_b"): (11.91, -3.467),
    ("Al2O3", "A2B3_hR10_167_c_e"): (8.49, -3.473),
    ("Cu3Au", "AB3_cP4_221_a_c"): (13.12, -0.074),
    ("Si", "A_cF8_227_a"): (20.02, 0.0),
}
VOLUME_TOLERANCE = 0.09  # relative; PBE itself is up to 7 % too large for soft ionic crystals and GaAs
FORMATION_TOLERANCE = 0.25  # eV/atom


@cache
def table(level: str) -> CrystalTable:
    return CrystalTable.read(DEMO / LEVELS[level])


@cache
def statistics() -> dict[str, dict[str, dict[str, object]]]:
    return dict(json.loads((DEMO / "statistics.json").read_text()))


@cache
def rows(level: str) -> dict[tuple[str, str], int]:
    """(formula, prototype) -> row."""
    found = table(level)
    return {pair: i for i, pair in enumerate(zip(found.formulas, prototypes(level), strict=True))}


@cache
def prototypes(level: str) -> list[str]:
    return list(table(level).table["prototype"].to_pylist())


@cache
def label(level: str, name: str) -> NDArray[np.float64]:
    return table(level).label(name)


@cache
def shared() -> NDArray[np.int64]:
    """Row in the PBE table of each r2SCAN crystal."""
    place = {material_id: i for i, material_id in enumerate(table("PBE").ids)}
    return np.array([place[material_id] for material_id in table("r2SCAN").ids])


def test_sizes() -> None:
    assert len(table("PBE")) >= 12_000
    assert 3_000 <= len(table("r2SCAN")) <= 4_000
    assert len(set(prototypes("PBE"))) >= 60
    assert table("PBE").table["n_atoms"].to_numpy().max() <= 10
    assert sum((DEMO / name).stat().st_size for name in LEVELS.values()) <= 6_000_000


@pytest.mark.parametrize("level", LEVELS)
def test_metadata(level: str) -> None:
    assert table(level).functional == level
    assert table(level).labels == LABELS
    assert "surrogate" in table(level).source
    assert "not DFT" in table(level).source


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", LEVELS)
def test_every_row_is_importable(level: str, step: int) -> None:
    for crystal in table(level).select(range(0, len(table(level)), step)):
        assert check(crystal, noble_gases=False, neighbours=24) is None, crystal.material_id


@pytest.mark.parametrize("level", LEVELS)
def test_ids_and_crystals_are_unique(level: str) -> None:
    assert len(set(table(level).ids)) == len(table(level))
    decorations = {
        (prototype, tuple(numbers))
        for prototype, numbers in zip(prototypes(level), table(level).table["numbers"].to_pylist(), strict=True)
    }
    assert len(decorations) == len(table(level))


def test_shells_are_clear_cut() -> None:
    """Neighbour distances are equal or clearly different, so that rounding cannot move an atom between shells."""
    first = dict(zip(reversed(prototypes("PBE")), reversed(range(len(table("PBE")))), strict=True))
    for prototype, row in first.items():
        crystal = table("PBE").crystal(row)
        lattice, cartesian = crystal.lattice, crystal.frac_coords @ crystal.lattice
        radius = 3.0 * crystal.volume_per_atom ** (1 / 3)
        centre, _, _, distance = find_points_in_spheres(
            cartesian, cartesian, radius, np.ones(3, dtype=np.int64), np.ascontiguousarray(lattice), 1e-8
        )
        for atom in range(len(cartesian)):
            shells = np.sort(distance[centre == atom])[1:]
            gaps = np.diff(shells) / shells[1:]
            assert not np.any((gaps > 1e-9) & (gaps < 1e-7)), prototype


def test_r2scan_is_a_subset_of_the_same_crystals() -> None:
    pbe, r2scan = table("PBE"), table("r2SCAN")
    assert set(r2scan.ids) <= set(pbe.ids)
    for i, j in enumerate(shared()[::50]):
        first, second = pbe.crystal(int(j)), r2scan.crystal(50 * i)
        assert first.numbers.tolist() == second.numbers.tolist()
        assert np.array_equal(first.frac_coords, second.frac_coords)
        ratio = second.lattice[np.abs(first.lattice) > 1e-6] / first.lattice[np.abs(first.lattice) > 1e-6]
        assert np.ptp(ratio) < 1e-9  # the cells differ by a scale


@pytest.mark.parametrize("level", LEVELS)
def test_hull_is_consistent_with_formation_energies(level: str) -> None:
    e_form, above = label(level, "e_form"), label(level, "e_above_hull")
    assert np.all(above >= e_form - 2e-6)  # the hull never lies above the elements
    elemental = np.array([len(set(z)) == 1 for z in table(level).table["numbers"].to_pylist()])
    assert elemental.sum() > 80
    assert np.all(e_form[elemental] >= -1e-6)
    assert np.allclose(e_form[elemental], above[elemental], atol=2e-6)
    assert (above < 1e-6).sum() > 0.02 * len(above)


@pytest.mark.parametrize("level", LEVELS)
def test_polymorphs_of_one_formula_share_one_hull(level: str) -> None:
    distance = label(level, "e_form") - label(level, "e_above_hull")  # height of the hull at the formula
    heights: dict[str, list[float]] = {}
    for formula, height in zip(table(level).formulas, distance, strict=True):
        heights.setdefault(formula, []).append(float(height))
    polymorphs = [values for values in heights.values() if len(values) > 1]
    assert len(polymorphs) > 100
    assert max(max(values) - min(values) for values in polymorphs) < 1e-5


def test_r2scan_subset_is_skewed_towards_stable_crystals() -> None:
    above = label("PBE", "e_above_hull")
    assert np.median(above[shared()]) < 0.5 * np.median(above)
    assert np.median(label("r2SCAN", "e_above_hull")) < 0.5 * np.median(above)
    assert 0.1 < (above[shared()] > 0.2).mean() < 0.5  # the random tail


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compound", KNOWN)
def test_known_compounds(compound: tuple[str, str], level: str) -> None:
    volume, e_form = KNOWN[compound]
    row = rows(level)[compound]
    assert label(level, "volume_per_atom")[row] == pytest.approx(volume, rel=VOLUME_TOLERANCE)
    if e_form is not None:
        assert label(level, "e_form")[row] == pytest.approx(e_form, abs=FORMATION_TOLERANCE)


def test_statistics_agree_with_the_tables() -> None:
    for level, name in LEVELS.items():
        stated = statistics()["levels"][level]
        assert stated["rows"] == len(table(level))
        assert stated["fingerprint"] == table(level).fingerprint
        assert stated["file_bytes"] == (DEMO / name).stat().st_size
        assert stated["prototype_counts"] == dict(Counter(prototypes(level)))
        assert stated["on_hull"] == (label(level, "e_above_hull") < 1e-6).sum()
        for quantity in LABELS:
            assert stated["labels"][quantity]["mean"] == pytest.approx(label(level, quantity).mean(), abs=1e-4)


def test_elements() -> None:
    counts = statistics()["levels"]["PBE"]["element_counts"]
    present = {SYMBOLS[z - 1] for numbers in table("PBE").table["numbers"].to_pylist() for z in numbers}
    assert set(counts) == present
    assert not present & NOBLE
    assert len(present) >= 80
    assert set(statistics()["references"]["PBE"]) >= present


def test_datasheet_carries_the_numbers() -> None:
    text = (DEMO / "DATASHEET.md").read_text()
    for level in LEVELS:
        assert f"{len(table(level))}" in text
    for phrase in ("not DFT", "10.1038/s42256-023-00716-3", "10.1016/j.commatsci.2017.01.017"):
        assert phrase in text
