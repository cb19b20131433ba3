"""Space groups of crystals, for splits that hold out whole ones."""

from __future__ import annotations

import pyarrow as pa

from cgatlib import CgatError
from cgatlib.crystals.checks import Crystal
from cgatlib.crystals.schema import SPACE_GROUP
from cgatlib.crystals.table import CrystalTable

TOLERANCE = 0.01
"""Å; how far an atom may lie from where a symmetry puts it: pymatgen's default."""


def with_space_groups(table: CrystalTable) -> CrystalTable:
    """The same table with the numbers of the space groups, which are determined here unless it has them.

    Raises:
        CgatError: the space group of a crystal cannot be determined.
    """
    if SPACE_GROUP in table.table.column_names:
        return table
    numbers = pa.array([_space_group(crystal) for crystal in table], pa.int16())
    return CrystalTable(table.table.append_column(SPACE_GROUP, numbers), table.functional, table.source)


def _space_group(crystal: Crystal) -> int:
    from pymatgen.core import Lattice, Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac_coords)
    try:
        return int(SpacegroupAnalyzer(structure, TOLERANCE).get_space_group_number())
    except SymmetryUndeterminedError as error:
        raise CgatError(f"the space group of {crystal.material_id} cannot be determined: {error}") from error
