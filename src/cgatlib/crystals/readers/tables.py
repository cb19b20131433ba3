"""Tables with one structure per row: CSV with CIF text (MP-20, CDVAE), JSON records (JARVIS-tools and others),
JSON lines, and pandas' split JSON (Matbench).

A structure is CIF text, a pymatgen dictionary or a JARVIS ``atoms`` dictionary, or the JSON text of either.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.checks import Crystal, Reject
from cgatlib.crystals.readers.json_stream import READ_ERRORS, JsonItems, open_members, open_raw
from cgatlib.crystals.readers.rows import (
    BadRow,
    Geometry,
    LabelPlan,
    ReadOptions,
    UnreadableFile,
    crystal_or_reject,
    place,
    row_id,
)
from cgatlib.crystals.readers.structures import from_cif, from_dict

KNOWN = {
    "e_form": ("e_form", "formation_energy_per_atom", "formation_energy_peratom"),
    "e_above_hull": ("e_above_hull", "ehull", "energy_above_hull"),
    "band_gap": ("band_gap", "band_gap_ind", "optb88vdw_bandgap"),
}
ID_COLUMNS = ("material_id", "mat_id", "jid", "id", "mbid")
STRUCTURE_COLUMNS = ("structure", "cif", "atoms")
LARGEST_CELL = 1 << 24
"""Characters in a CSV field; the csv module's default of 128 k is less than the CIF of a large cell."""


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take; JSON names its keys row by row, so they are not checked in advance."""
    return LabelPlan.make(options, KNOWN)


def plan_csv(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take from the columns that the CSV's header names.

    Raises:
        CgatError: a column asked for is not there.
    """
    with open_raw(path) as (stream, _):
        try:
            header = next(csv.reader(_text(stream)), [])
        except (*READ_ERRORS, csv.Error) as error:
            raise UnreadableFile(f"{path} cannot be read at line 1 (byte 0): {error}") from error
    _columns(path, header, options)
    return LabelPlan.make(options, KNOWN, columns=header)


def read_json(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of JSON records or of a split table (``columns``, ``index``, ``data``).

    Raises:
        UnreadableFile: the file is cut, damaged or no such JSON, named with byte and entry.
    """
    labels = plan(path, options)
    index = 0
    with open_members(path) as members:
        for stream, raw in members:
            items = JsonItems(path, stream, raw, "data")
            for item in items:
                where = place(path, index)
                if isinstance(item, BadRow):
                    yield Reject("", str(item), where)
                else:
                    yield _crystal(_named(item, index, items.header), where, labels, options)
                index += 1


def _named(item: Any, i: int, header: Mapping[str, Any]) -> Any:
    """Give the values of a split table's row their column names and the row its id."""
    if not isinstance(item, list) or "columns" not in header:
        return item
    row = dict(zip(header["columns"], item, strict=False))
    if len(item) != len(header["columns"]):
        return None
    ids = header.get("index", ())
    row.setdefault("material_id", ids[i] if i < len(ids) else i)
    return row


def read_lines(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of a file with one JSON record per line.

    Raises:
        UnreadableFile: the file is cut or damaged, named with line.
    """
    labels = plan(path, options)
    with open_raw(path) as (stream, _):
        for number, line in _lines(path, stream):
            where = place(path, number)
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                yield Reject("", f"undecodable line: {error}", where)
                continue
            yield _crystal(row, where, labels, options)


def _lines(path: Path, stream: Any) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(_text(stream), start=1):
            if line.strip():
                yield number, line
    except READ_ERRORS as error:
        raise UnreadableFile(f"{path} is truncated or damaged after line {number}: {error}") from error


def read_csv(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of a CSV file.

    Raises:
        UnreadableFile: the file is cut or damaged, named with line.
        CgatError: no id or structure column is known.
    """
    labels = plan_csv(path, options)
    csv.field_size_limit(LARGEST_CELL)
    with open_raw(path) as (stream, _):
        lines = csv.reader(_text(stream), strict=True)
        header = next(lines)
        id_column, structure_column = _columns(path, header, options)
        known = ReadOptions(options.labels, options.allow_missing, id_column, structure_column)
        while True:
            try:
                fields = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                if str(error) == "unexpected end of data":
                    raise UnreadableFile(f"{path} is truncated: it ends inside line {lines.line_num}") from error
                yield Reject("", f"undecodable line: {error}", place(path, lines.line_num))
                continue
            except READ_ERRORS as error:
                raise UnreadableFile(f"{path} is truncated or damaged after line {lines.line_num}: {error}") from error
            if fields:
                yield _csv_crystal(header, fields, place(path, lines.line_num), labels, known)


def _csv_crystal(
    header: Sequence[str], fields: Sequence[str], where: str, labels: LabelPlan, options: ReadOptions
) -> Crystal | Reject:
    row = dict(zip(header, fields, strict=False))
    material_id = row_id(row, (options.id_column or "",))
    if not all(map(_is_utf8, fields)):
        return Reject(material_id.encode("utf-8", "replace").decode(), "undecodable line: not UTF-8", where)
    if len(fields) != len(header):
        reason = f"undecodable line: {len(fields)} fields where the header has {len(header)}"
        return Reject(material_id, reason, where)
    return _crystal(row, where, labels, options)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(stream: Any) -> TextIOWrapper:
    # Bytes that are not UTF-8 come through as surrogates, so that they cost one row and not the file.
    return TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")


def _columns(path: Path, header: Sequence[str], options: ReadOptions) -> tuple[str, str]:
    """Return the names of the id and the structure column."""
    found = []
    for what, given, known in (
        ("id", options.id_column, ID_COLUMNS),
        ("structure", options.structure_column, STRUCTURE_COLUMNS),
    ):
        names = [name for name in ((given,) if given else known) if name in header]
        if not names:
            asked = repr(given) if given else " or ".join(known)
            raise CgatError(
                f"{path} has no {what} column {asked}; name it with --{what}-column, "
                f"there are: {', '.join(header) or 'none'}"
            )
        found.append(names[0])
    return found[0], found[1]


def _crystal(row: Any, where: str, labels: LabelPlan, options: ReadOptions) -> Crystal | Reject:
    if not isinstance(row, Mapping):
        return Reject("", f"undecodable row: a {type(row).__name__} where a record should stand", where)
    ids = (options.id_column,) if options.id_column else ID_COLUMNS
    structures = (options.structure_column,) if options.structure_column else STRUCTURE_COLUMNS

    def make() -> tuple[Geometry, dict[str, float]]:
        found = [row[name] for name in structures if row.get(name)]
        if not found:
            raise BadRow(f"undecodable row: no structure under {' or '.join(structures)}")
        return _structure(found[0]), labels.pick(row)

    return crystal_or_reject(where, row_id(row, ids), make)


def _structure(cell: Any) -> Geometry:
    if isinstance(cell, str) and cell.lstrip().startswith("{"):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise BadRow(f"undecodable structure: {error}") from error
    if isinstance(cell, str):
        return from_cif(cell)
    if isinstance(cell, Mapping):
        return from_dict(cell)
    raise BadRow(f"undecodable structure: a {type(cell).__name__} where CIF or a dictionary should stand")
