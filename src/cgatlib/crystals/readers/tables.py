"""Tables with one structure per row: CSV with CIF text (MP-20, CDVAE), JSON records (JARVIS-tools, MatPES and others),
JSON lines, and pandas' split JSON (Matbench).

A structure is CIF text, a pymatgen dictionary or a JARVIS ``atoms`` dictionary, or the JSON text of either.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.crystal import BadRow, Crystal, Geometry, Reject, UnreadableFile
from cgatlib.crystals.json_stream import JsonItems, why_no_json
from cgatlib.crystals.readers.rows import (
    LabelPlan,
    ReadOptions,
    crystal_or_reject,
    is_text,
    place,
    row_id,
    usual_columns,
)
from cgatlib.crystals.structures import from_cif, from_dict
from cgatlib.crystals.text_stream import LARGEST_ENTRY, open_members, open_raw, text_lines

ID_COLUMNS = ("material_id", "mat_id", "jid", "id", "mbid", "matpes_id")
STRUCTURE_COLUMNS = ("structure", "cif", "atoms")
CUT = "unexpected end of data"  # what csv says of a quoted field without its end


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take; JSON names its keys row by row, so they are not checked in advance."""
    return LabelPlan.make(options, usual_columns())


def plan_csv(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take from the columns that the CSV's header names.

    Raises:
        CgatError: a column asked for is not there.
    """
    with open_raw(path) as (stream, _):
        header = CsvRows(path, stream).header
    _columns(path, header, options)
    return LabelPlan.make(options, usual_columns(), columns=header)


def read_json(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of JSON records or of a split table (``columns``, ``index``, ``data``).

    Raises:
        UnreadableFile: the file is cut, damaged or no such JSON, named with byte and entry.
    """
    labels = plan(path, options)
    names = _names(options)

    def is_record(value: Any) -> bool:
        return isinstance(value, Mapping) and all(any(key in value for key in keys) for keys in names)

    index = 0
    with open_members(path) as members:
        for stream, raw in members:
            items = JsonItems(path, stream, raw, "data", is_record)
            first, ids = index, None
            for item in items:
                ids = items.header.get("index")
                where = place(path, index)
                if items.header:
                    yield _split_row(path, item, index - first, items.header, where, labels, options)
                elif isinstance(item, BadRow):
                    yield Reject("", str(item), where)
                else:
                    yield _crystal(item, where, labels, options)
                index += 1
            _check_index(path, index - first, ids, items.header.get("index"))


def _split_row(
    path: Path,
    item: Any,
    i: int,
    header: Mapping[str, Any],
    where: str,
    labels: LabelPlan,
    options: ReadOptions,
) -> Crystal | Reject:
    """The row of a split table: values without names, and an id by their place alone."""
    columns, ids = header.get("columns"), header.get("index")
    if not (isinstance(columns, list) and all(isinstance(c, str) for c in columns) and len({*columns}) == len(columns)):
        raise UnreadableFile(f"{path} is no split table: its columns are not a list of different names before its rows")
    if ids is not None and not isinstance(ids, list):
        raise UnreadableFile(f"{path} is no split table: its index is a {type(ids).__name__}, not a list")
    if isinstance(item, BadRow):
        raise UnreadableFile(f"{path} is damaged: row {i}: {item}; the ids of the rows behind it are not known")
    if not isinstance(item, list) or len(item) != len(columns):
        return Reject("", f"undecodable row: not a list of {len(columns)} values, one for each column", where)
    row = dict(zip(columns, item, strict=True))
    if ids is None:
        row.setdefault("material_id", i)
    elif i < len(ids):
        row.setdefault("material_id", ids[i])
    return _crystal(row, where, labels, options)


def _check_index(path: Path, rows: int, before: Any, ids: Any) -> None:
    """A list of ids that came too late, or of another length than the rows, says that rows or ids are lost."""
    if rows and ids is not before:
        raise UnreadableFile(f"{path} is no split table: its ids stand behind its rows")
    if isinstance(ids, list) and len(ids) != rows:
        raise UnreadableFile(f"{path} holds {rows} rows and an index of {len(ids)}: which id is whose is not sure")


def read_lines(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of a file with one JSON record per line.

    Raises:
        UnreadableFile: the file is cut or damaged, named with line.
    """
    labels = plan(path, options)
    with open_raw(path) as (stream, _):
        for number, line in enumerate(text_lines(path, stream), start=1):
            where = place(path, number)
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(("\n", "\r")):
                    raise UnreadableFile(f"{path} is truncated: it ends inside line {number}") from error
                yield Reject("", f"undecodable line: {why_no_json(error)}", where)
                continue
            yield _crystal(row, where, labels, options)


class CsvRows:
    """Rows of a CSV text, whose first is the header; where a quote is broken, reading goes on at the next whole row.

    Attributes:
        header: names of the columns. line: the last one that was read.
    """

    def __init__(self, path: Path, stream: Any) -> None:
        csv.field_size_limit(LARGEST_ENTRY)  # the default of 128 k is less than the CIF of a large cell
        self.path, self.line = path, 0
        self._lines, self._again = text_lines(path, stream), deque[str]()
        self._spent = 0  # characters since the last whole row
        try:
            self.header = self._record()[0]
        except csv.Error as error:
            raise UnreadableFile(f"{path} cannot be read at line 1 (byte 0): {error}") from error

    def __iter__(self) -> Iterator[list[str] | BadRow]:
        """Yield rows as they are, whatever their length, and one `BadRow` for the lines up to the next whole one.

        Raises:
            UnreadableFile: the text is cut, or the next whole row is too far away.
        """
        while True:
            begin = self.line + 1
            try:
                fields, lines = self._record()
            except csv.Error as error:
                yield self._skip(begin, error)
                continue
            if not lines:
                return
            if fields and len(fields) != len(self.header) and not lines[-1].endswith(("\n", "\r")):
                raise self._cut(begin)
            self._spent = 0
            if fields:
                yield fields

    def _skip(self, begin: int, error: csv.Error) -> BadRow:
        """Move to the next whole row behind a broken one, or to the end."""
        last = error
        while True:
            try:
                fields, lines = self._record()
            except csv.Error as another:
                last = another
                continue
            if not lines and str(last) == CUT:
                raise self._cut(begin)
            if not lines or len(fields) == len(self.header):
                self._unread(lines)
                return BadRow(f"undecodable line: {error} (lines {begin} to {self.line})")

    def _record(self) -> tuple[list[str], list[str]]:
        """One row and the lines it stands in, none at the end; of a broken one, all but the first are read again."""
        lines: list[str] = []
        try:
            return next(csv.reader(self._feed(lines), strict=True), []), lines
        except csv.Error:
            self._unread(lines[1:])
            raise

    def _unread(self, lines: Sequence[str]) -> None:
        self._again.extendleft(reversed(lines))
        self.line -= len(lines)

    def _cut(self, begin: int) -> UnreadableFile:
        return UnreadableFile(f"{self.path} is truncated: it ends inside line {begin}")

    def _feed(self, lines: list[str]) -> Iterator[str]:
        while line := self._again.popleft() if self._again else next(self._lines, ""):
            lines.append(line)
            self.line += 1
            self._spent += len(line)
            if self._spent > LARGEST_ENTRY:
                raise UnreadableFile(
                    f"{self.path} has no whole row in {LARGEST_ENTRY:,} characters at line {self.line}"
                )
            yield line


def read_csv(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the rows of a CSV file.

    Raises:
        UnreadableFile: the file is cut or damaged, named with line.
        CgatError: no id or structure column is known.
    """
    labels = plan_csv(path, options)
    with open_raw(path) as (stream, _):
        rows = CsvRows(path, stream)
        known = ReadOptions(options.labels, options.allow_missing, *_columns(path, rows.header, options))
        for fields in rows:
            where = place(path, rows.line)
            if isinstance(fields, BadRow):
                yield Reject("", str(fields), where)
            else:
                yield _csv_crystal(rows.header, fields, where, labels, known)


def _csv_crystal(
    header: Sequence[str], fields: Sequence[str], where: str, labels: LabelPlan, options: ReadOptions
) -> Crystal | Reject:
    row = dict(zip(header, fields, strict=False))
    material_id = row_id(row, (options.id_column or "",))
    if not all(map(is_text, fields)):
        return Reject(material_id, "undecodable line: not UTF-8", where)
    if len(fields) != len(header):
        reason = f"undecodable line: {len(fields)} fields where the header has {len(header)}"
        return Reject(material_id, reason, where)
    return _crystal(row, where, labels, options)


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
                f"there are: {', '.join(map(repr, header)) or 'none'}"
            )
        found.append(names[0])
    return found[0], found[1]


def _crystal(row: Any, where: str, labels: LabelPlan, options: ReadOptions) -> Crystal | Reject:
    if not isinstance(row, Mapping):
        return Reject("", f"undecodable row: a {type(row).__name__} where a record should stand", where)
    ids, structures = _names(options)

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
        except (ValueError, RecursionError) as error:
            raise BadRow(f"undecodable structure: {why_no_json(error)}") from error
    if isinstance(cell, str):
        return from_cif(cell)
    if isinstance(cell, Mapping):
        return from_dict(cell)
    raise BadRow(f"undecodable structure: a {type(cell).__name__} where CIF or a dictionary should stand")


def _names(options: ReadOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys under which an id and a structure may stand."""
    ids = (options.id_column,) if options.id_column else ID_COLUMNS
    return ids, (options.structure_column,) if options.structure_column else STRUCTURE_COLUMNS
