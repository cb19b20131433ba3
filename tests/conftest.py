"""Crystals and files that several tests make use of."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cgatlib.crystals import SYMBOLS, Crystal

REPOSITORY = Path(__file__).parents[1]

MakeCrystal = Callable[..., Crystal]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real tables: $CGATLIB_DATA, or shared/data/mp beside the repository."""
    folder = Path(os.environ.get("CGATLIB_DATA", REPOSITORY.parent / "shared/data/mp"))
    if not (folder / "pbe.parquet").is_file():
        pytest.skip(f"no real tables in {folder}; set CGATLIB_DATA")
    return folder


@pytest.fixture(scope="session")
def make_crystal() -> MakeCrystal:
    """Return a maker of rock salt cells: lattice constant, two atomic numbers, id, labels."""

    def make(material_id: str = "x-1", numbers: tuple[int, int] = (11, 17), a: float = 5.6, **labels: float) -> Crystal:
        lattice = a / 2 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
        coords = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
        return Crystal(material_id, lattice, np.array(numbers), coords, labels)

    return make


@pytest.fixture(scope="session")
def structure_dict() -> Callable[[Crystal], dict[str, Any]]:
    """Return a writer of pymatgen's dictionary of a crystal, without pymatgen."""

    def write(crystal: Crystal) -> dict[str, Any]:
        sites = [
            {"species": [{"element": SYMBOLS[z - 1], "occu": 1}], "abc": abc, "properties": {"magmom": 0.0}}
            for z, abc in zip(crystal.numbers, crystal.frac_coords.tolist(), strict=True)
        ]
        return {"@class": "Structure", "lattice": {"matrix": crystal.lattice.tolist()}, "sites": sites}

    return write


@pytest.fixture(scope="session")
def alexandria_entry(
    make_crystal: MakeCrystal, structure_dict: Callable[[Crystal], dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Return a writer of one Alexandria entry; keywords change its ``data``, None removes a key."""

    def write(material_id: str = "agm1", crystal: Crystal | None = None, **data: Any) -> dict[str, Any]:
        values = {"mat_id": material_id, "e_form": -1.5, "e_above_hull": 0.01, "band_gap_ind": 5.0} | data
        return {
            "@class": "ComputedStructureEntry",
            "energy": -7.0,
            "data": {k: v for k, v in values.items() if v is not None},
            "structure": structure_dict(crystal or make_crystal()),
        }

    return write
