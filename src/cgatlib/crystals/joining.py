"""One table made of several, of different functionals: a crystal of two of them is one row with the labels of both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cgatlib import CgatError
from cgatlib.crystals.checks import Crystal
from cgatlib.crystals.table import CrystalTable


def joined(tables: Sequence[CrystalTable], labels: Sequence[Collection[str]]) -> CrystalTable:
    """All rows of several tables, those of one id and one geometry in one.

    A structure that was relaxed again under another functional keeps a row of its own, under the same id.

    Args:
        tables: the first gives the functional. A label of another functional is called ``label@FUNCTIONAL``.
        labels: which labels are taken of each table.

    Raises:
        CgatError: two tables give a crystal different values of one label.
    """
    functional = tables[0].functional
    found: dict[tuple[str | bytes, ...], Crystal] = {}
    for table, taken in zip(tables, labels, strict=True):
        names = {label: _name(label, table.functional, functional) for label in taken}
        for crystal in table:
            named = {names[label]: value for label, value in crystal.labels.items() if label in names}
            geometry = (crystal.lattice, crystal.numbers, crystal.frac_coords)
            key = (crystal.material_id, *(array.tobytes() for array in geometry))
            known = found[key].labels if key in found else {}
            for name in named.keys() & known.keys():
                if named[name] != known[name]:
                    raise CgatError(f"{crystal.material_id} has two values of {name}: {known[name]} and {named[name]}")
            found[key] = replace(crystal, labels=known | named)
    return CrystalTable.from_crystals(found.values(), functional, "; ".join(table.source for table in tables))


def _name(label: str, functional: str, new: str) -> str:
    """What a label of a table of one functional is called in a table of another."""
    name, _, stated = label.partition("@")
    return name if (stated or functional) == new else f"{name}@{stated or functional}"
