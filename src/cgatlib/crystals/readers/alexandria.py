"""Alexandria and DCGAT files: ``{"entries": [ComputedStructureEntry dictionaries]}``, plain, ``.bz2`` or ``.gz``.

Labels stand in each entry's ``data``, energies per atom. No pymatgen object is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cgatlib.crystals.crystal import BadRow, Crystal, Geometry, Reject
from cgatlib.crystals.json_stream import JsonItems
from cgatlib.crystals.readers.rows import LabelPlan, ReadOptions, crystal_or_reject, place, row_id
from cgatlib.crystals.structures import from_dict
from cgatlib.crystals.text_stream import open_members

KNOWN = {"e_form": ("e_form",), "e_above_hull": ("e_above_hull",), "band_gap": ("band_gap_ind",)}
ALWAYS = ("e_form", "e_above_hull")
"""Labels of every entry; gaps are absent from the older files."""
ID_KEYS = ("mat_id", "id", "material_id")


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take; the same for every file of this format."""
    return LabelPlan.make(options, KNOWN, ALWAYS)


def read(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the crystals and rejects of one file in its order, one at a time.

    Raises:
        UnreadableFile: the file is cut, damaged or no such JSON, named with byte and entry.
    """
    labels = plan(path, options)
    ids = (options.id_column, *ID_KEYS) if options.id_column else ID_KEYS
    structure = options.structure_column or "structure"

    def is_entry(value: Any) -> bool:
        return isinstance(value, Mapping) and "data" in value and structure in value

    index = 0
    with open_members(path) as members:
        for stream, raw in members:
            for entry in JsonItems(path, stream, raw, "entries", is_entry):
                yield _crystal(entry, place(path, index), labels, ids, structure)
                index += 1


def _crystal(entry: Any, where: str, labels: LabelPlan, ids: tuple[str, ...], structure: str) -> Crystal | Reject:
    if isinstance(entry, BadRow):
        return Reject("", str(entry), where)
    data = entry.get("data") if isinstance(entry, dict) else None
    if not isinstance(data, Mapping):
        return Reject("", "undecodable entry: no dictionary under 'data'", where)

    def make() -> tuple[Geometry, dict[str, float]]:
        if not isinstance(entry.get(structure), Mapping):
            raise BadRow(f"undecodable entry: no dictionary under {structure!r}")
        return from_dict(entry[structure]), labels.pick(data)

    return crystal_or_reject(where, row_id(data, ids), make)
