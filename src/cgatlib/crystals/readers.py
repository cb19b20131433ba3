"""Crystals from the files of others: one function a format, which streams rows and never guesses the functional.

A reader gets a path, what was asked of it and the plan of its labels. It yields a `Crystal` or a `Reject` for every
row, in the order of the file; where a file breaks off it raises `UnreadableFile`, which names byte, line or entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.crystals.crystal import (
    PROPERTIES,
    BadRow,
    Crystal,
    Geometry,
    Reject,
    UnreadableFile,
    functional_name,
    labels_among,
)
from cgatlib.crystals.labels import VOLUME, LabelPlan, ReadOptions
from cgatlib.crystals.streams import READ_ERRORS, CsvRows, JsonItems, open_members, open_raw, text_lines, why_no_json
from cgatlib.crystals.structures import PARSERS, atomic_number, decoding, from_cif, from_dict, parser_of, read_structure
from cgatlib.crystals.table import PARQUET_ERRORS, first_line, stated

INDEX = "id_prop.csv"
HEAD = 1 << 16
BATCH = 2048  # rows of a parquet file that are held at a time

_HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON and files may hold them, and they cannot be written
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+|nan|inf)(e[-+]?\d+)?", re.IGNORECASE)

Row: TypeAlias = Crystal | Reject


# What every format does with a row


def _row(where: str, row: Any, ids: Sequence[str], labels: LabelPlan, read: Callable[[Any], Geometry]) -> Row:
    """The crystal of a row, whose geometry `read` gives, or the reject that a `BadRow` explains."""
    if not isinstance(row, Mapping):
        odd = f"undecodable row: a {type(row).__name__} where a record should stand"
        return Reject("", str(row) if isinstance(row, BadRow) else odd, where)
    values = [v for v in map(row.get, ids) if isinstance(v, str | int) and not isinstance(v, bool) and str(v).strip()]
    if not values:
        return Reject("", f"id missing: no text or whole number under {' or '.join(ids)}", where)
    material_id = str(values[0]).strip()
    if _HALF.search(material_id):
        return Reject(material_id, "undecodable id: not UTF-8", where)
    try:
        return Crystal(material_id, *read(row), labels=labels.pick(row), source=where)
    except BadRow as reason:
        return Reject(material_id, str(reason), where)


def _records(items: Iterable[tuple[str, Any]], labels: LabelPlan, options: ReadOptions) -> Iterator[Row]:
    """Crystals of rows with their structure in them: CIF text, a dictionary of pymatgen or JARVIS, or one as JSON."""
    read = partial(_structure_in, keys=options.structures)
    return (_row(where, row, options.ids, labels, read) for where, row in items)


def _structure_in(row: Mapping[str, Any], keys: Sequence[str]) -> Geometry:
    cell = next((row[name] for name in keys if row.get(name)), None)
    if cell is None:
        raise BadRow(f"undecodable row: no structure under {' or '.join(keys)}")
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


# JSON: records (JARVIS-tools, MatPES and others), one a line or in a list, pandas' split tables (Matbench), and the
# entries of Alexandria and DCGAT, {"entries": [ComputedStructureEntry dictionaries]}, with labels, per atom, in "data"


def plan_json(path: Path, options: ReadOptions, always: Collection[str] = ()) -> LabelPlan:
    """JSON names its keys row by row, so they are not checked in advance."""
    return LabelPlan.make(options, always=always)


def read_alexandria(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Entries of one file or archive, one at a time; no pymatgen object is made."""

    def record(entry: Any) -> Any:
        """Labels, id and structure side by side; an id may stand outside the data, as ``entry_id`` does."""
        if not isinstance(entry, Mapping):
            return entry
        if not isinstance(data := entry.get("data"), Mapping):
            return BadRow("undecodable entry: no dictionary under 'data'")
        outside = {name: entry[name] for name in options.ids if name in entry}
        return {**outside, **data, **{name: entry[name] for name in options.structures if name in entry}}

    return _records(_json_items(path, "entries", options, record), labels, options)


def read_json(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Rows of JSON records or of a split table (``columns``, ``index``, ``data``)."""
    return _records(_json_items(path, "data", options, lambda item: item), labels, options)


def read_lines(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Rows of a file with one JSON record per line."""
    return _records(_json_lines(path), labels, options)


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with open_raw(path) as (stream, _):
        for number, line in enumerate(text_lines(path, stream), start=1):
            if not line.strip():
                continue
            try:
                row: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(("\n", "\r")):
                    raise UnreadableFile(f"{path} is truncated: it ends inside line {number}") from error
                row = BadRow(f"undecodable line: {why_no_json(error)}")
            yield f"{path}#{number}", row


def _json_items(path: Path, key: str, options: ReadOptions, record: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    """Place and record of every item of a file, or of the members of an archive; a broken one is a `BadRow`."""

    def is_item(value: Any) -> bool:
        row = record(value)
        keys = (options.ids, options.structures)
        return isinstance(row, Mapping) and all(any(name in row for name in names) for names in keys)

    index = 0
    for stream, raw in open_members(path):
        for item in _named_rows(path, JsonItems(path, stream, raw, key, is_item)):
            yield f"{path}#{index}", record(item)
            index += 1


def _named_rows(path: Path, items: JsonItems) -> Iterator[Any]:
    """Records as they are; rows of a split table by column, with their ids, which follow from their places alone."""
    count, columns, ids = 0, None, None
    for item in items:
        if not count and items.header:
            columns, ids = _split_header(path, items.header)
        yield item if columns is None else _split_row(path, item, count, columns, ids)
        count += 1
    if count and items.header.get("index") is not ids:
        raise UnreadableFile(f"{path} is no split table: its ids stand behind its rows")
    if ids is not None and len(ids) != count:
        raise UnreadableFile(f"{path} holds {count} rows and an index of {len(ids)}: which id is whose is not sure")


def _split_header(path: Path, header: Mapping[str, Any]) -> tuple[list[str], list[Any] | None]:
    columns, ids = header.get("columns"), header.get("index")
    if not (isinstance(columns, list) and all(isinstance(c, str) for c in columns) and len({*columns}) == len(columns)):
        raise UnreadableFile(f"{path} is no split table: its columns are not a list of different names before its rows")
    if ids is not None and not isinstance(ids, list):
        raise UnreadableFile(f"{path} is no split table: its index is a {type(ids).__name__}, not a list")
    return columns, ids


def _split_row(path: Path, item: Any, i: int, columns: list[str], ids: list[Any] | None) -> Any:
    if isinstance(item, BadRow):
        raise UnreadableFile(f"{path} is damaged: row {i}: {item}; the ids of the rows behind it are not known")
    if not isinstance(item, list) or len(item) != len(columns):
        return BadRow(f"undecodable row: not a list of {len(columns)} values, one for each column")
    named = {"material_id": i} if ids is None else {"material_id": ids[i]} if i < len(ids) else {}
    return named | dict(zip(columns, item, strict=True))


# CSV with CIF text (MP-20, CDVAE) or a dictionary as JSON


def plan_csv(path: Path, options: ReadOptions) -> LabelPlan:
    """Labels among the columns that the header names; `CgatError` where a column asked for is not there."""
    with open_raw(path) as (stream, _):
        header = CsvRows(path, stream).header
    for what, given, known in (
        ("id", options.id_column, options.ids),
        ("structure", options.structure_column, options.structures),
    ):
        if not set(known) & set(header):
            asked, there = repr(given) if given else " or ".join(known), ", ".join(map(repr, header)) or "none"
            raise CgatError(f"{path} has no {what} column {asked}; name it with --{what}-column, there are: {there}")
    return LabelPlan.make(options, columns=header)


def read_csv(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Rows of a CSV file; `plan_csv` refuses one in which no column of ids or structures is known."""
    return _records(_csv_rows(path), labels, options)


def _csv_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[str, Any]]:
    """Place and named values of every row; where `columns` are given, the first line is a row, too."""
    with open_raw(path) as (stream, _):
        rows = CsvRows(path, stream)
        for row in chain([rows.header] if columns else [], rows):
            named = row if isinstance(row, BadRow) else dict(zip(columns or rows.header, row, strict=True))
            yield f"{path}#{rows.line}", named


# A folder of structure files with id_prop.csv (the habit of CGCNN and ALIGNN): each line is an id, or a file name, and
# one or more values. Without a header line the values are named by their column number, the first is "1".


def plan_folder(path: Path, options: ReadOptions) -> LabelPlan:
    """Labels among the columns of ``id_prop.csv``; without a header the user must say what the values are."""
    columns, named = _folder_columns(path / INDEX)
    if not named and not options.labels:
        raise CgatError(f"{path / INDEX} does not say what its values are; name them, e.g. --label e_form=1")
    bare = [name for name, theirs in options.labels.items() if not theirs]
    if not named and len(bare) == 1 and len(columns) == 2:
        options = replace(options, labels={bare[0]: "1"})
    return LabelPlan.make(options, columns=columns[1:])


def read_folder(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Crystals in the order of ``id_prop.csv``; ids without a file and files that are not listed are rejects."""
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name != INDEX and parser_of(p))
    by_name: dict[str, Path] = {}
    for file in files:
        for name in (file.name, file.stem, file.stem.removeprefix("POSCAR-"), file.name.removeprefix("POSCAR-")):
            by_name.setdefault(name, file)
    columns, named = _folder_columns(path / INDEX)
    listed: set[Path | None] = set()
    for where, row in _csv_rows(path / INDEX, None if named else columns):
        name = row[columns[0]].strip() if isinstance(row, Mapping) else ""
        listed.add(by_name.get(name))
        if isinstance(row, Mapping):
            row = {**row, columns[0]: Path(name).stem if Path(name).suffix.lower() in PARSERS else name}
        yield _row(where, row, columns[:1], labels, partial(_listed_structure, by_name.get(name)))
    for unlisted in (file for file in files if file not in listed):
        yield Reject(unlisted.stem, f"label missing: not listed in {INDEX}", str(unlisted))


def _listed_structure(file: Path | None, row: object) -> Geometry:
    if file is None:
        raise BadRow("structure file missing: no CIF, POSCAR or extxyz file has this name")
    return read_structure(file)


def _folder_columns(index: Path) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first line gives them (its values are words, not numbers)."""
    with open_raw(index) as (stream, _):
        first = [text.strip() for text in CsvRows(index, stream).header]
    if len(first) < 2:
        raise UnreadableFile(f"{index} has no line of an id and a value at line 1")
    if any(map(_NUMBER.fullmatch, first[1:])):
        return ["id", *map(str, range(1, len(first)))], False
    return first, True


# Parquet: crystal tables, ours or those of others, and LeMat-Bulk, whose columns its card on Hugging Face documents


CORE = ("lattice", "numbers", "frac_coords")
LEMAT = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")
"""(3, 3) and (n, 3) in Å, (n,) symbols; its energies are total ones, so that it has no label but the volume."""


def plan_parquet(path: Path, options: ReadOptions) -> LabelPlan:
    """Labels among the columns; where structures are in one column, as pandas writes them, those of a CSV file."""
    if whole := _structure_column(path, options):
        return LabelPlan.make(options, columns=_parquet_columns(path, _id_column(path, options), whole))
    columns = _parquet_columns(path, options.id_column or "material_id", *CORE)
    return LabelPlan.make(options, {name: (name,) for name in labels_among([*PROPERTIES, *columns])}, columns=columns)


def read_parquet(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Rows of a table with the core columns, whatever the types of its numbers, or with a column of structures."""
    if whole := _structure_column(path, options):
        read = partial(_structure_in, keys=[whole])
        return _parquet_rows(path, labels, _id_column(path, options), [whole], read)
    return _parquet_rows(path, labels, options.id_column or "material_id", CORE, _core_geometry)


def _structure_column(path: Path, options: ReadOptions) -> str | None:
    """The column of structures that is asked for, or of a table without the core columns; None where there is none."""
    columns = _parquet_columns(path)
    if options.structure_column or set(CORE) <= set(columns):
        return options.structure_column
    return next((name for name in options.structures if name in columns), None)


def _id_column(path: Path, options: ReadOptions) -> str:
    columns = _parquet_columns(path)
    return next((name for name in options.ids if name in columns), options.ids[0])


def stated_functional(path: Path) -> str | None:
    """The functional in the file's metadata, if it is a table of ours; `CgatError` where these are damaged."""
    with _open_parquet(path) as file:
        return stated(path, file.schema_arrow)[0]


def _core_geometry(row: Mapping[str, Any]) -> Geometry:
    lattice, numbers, coords = (np.array(row[name] or (), dtype=np.float64) for name in CORE)
    for name, array, expected in (("lattice", lattice, 9), ("frac_coords", coords, 3 * len(numbers))):
        if array.shape != (expected,):
            raise BadRow(f"undecodable row: {name} has {array.size} numbers, not {expected}")
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
    if (odd := whole != numbers).any():
        raise BadRow(f"unknown element: atomic number {numbers[odd][0]:g} is not whole")
    return Geometry(lattice.reshape(3, 3), whole, coords.reshape(-1, 3))


def plan_lemat(path: Path, options: ReadOptions) -> LabelPlan:
    """The volume, and columns that are asked for."""
    columns = _parquet_columns(path, options.id_column or "immutable_id", *LEMAT, "functional")
    asked = options if options.labels else replace(options, labels={VOLUME: ""})
    return LabelPlan.make(asked, {VOLUME: (VOLUME,)}, columns=columns)


def read_lemat(path: Path, options: ReadOptions, labels: LabelPlan) -> Iterator[Row]:
    """Rows of a file of LeMat-Bulk; those of another functional than the first are rejects."""
    functional = lemat_functional(path)

    def geometry(row: Mapping[str, Any]) -> Geometry:
        other = row["functional"]
        if not isinstance(other, str) or not other.strip() or functional_name(other) != functional:
            raise BadRow(f"another functional: {other!r} in a file that begins with {functional}")
        numbers = np.array([atomic_number(species) for species in row["species_at_sites"]], dtype=np.int64)
        lattice = np.array(row["lattice_vectors"], dtype=np.float64).reshape(3, 3)
        positions = np.array(row["cartesian_site_positions"], dtype=np.float64).reshape(len(numbers), 3)
        return Geometry(lattice, numbers, np.linalg.solve(lattice.T, positions.T).T.astype(np.float64))

    return _parquet_rows(path, labels, options.id_column or "immutable_id", (*LEMAT, "functional"), geometry)


def lemat_functional(path: Path) -> str | None:
    """The functional of the first row; None where it states none."""
    with _open_parquet(path) as file:
        try:
            first = next(file.iter_batches(1, columns=["functional"]), None)
        except PARQUET_ERRORS as error:
            raise UnreadableFile(f"{path} is damaged at row 0: {first_line(error)}") from error
    name = first.column(0).to_pylist()[0] if first is not None else None
    return functional_name(name) if isinstance(name, str) and name.strip() else None


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except PARQUET_ERRORS as error:
        size = path.stat().st_size
        raise UnreadableFile(f"{path} is truncated or no parquet ({size} bytes): {first_line(error)}") from error


def _parquet_columns(path: Path, *needed: str) -> list[str]:
    """Names of all columns, among which each of those that are needed is once."""
    with _open_parquet(path) as file:
        columns = list(file.schema_arrow.names)
    for name in needed:
        if columns.count(name) != 1:
            there = "no column" if name not in columns else "more than one column"
            raise UnreadableFile(f"{path} has {there} {name!r}; it has: {', '.join(map(repr, columns))}")
    return columns


def _parquet_rows(
    path: Path, labels: LabelPlan, key: str, columns: Sequence[str], geometry: Callable[[Mapping[str, Any]], Geometry]
) -> Iterator[Row]:
    number = 0
    with _open_parquet(path) as file:
        try:
            for batch in file.iter_batches(BATCH, columns=sorted({key, *columns, *sum(labels.keys.values(), ())})):
                for row in batch.to_pylist():
                    yield _row(f"{path}#{number}", row, [key], labels, decoding("structure")(geometry))
                    number += 1
        except PARQUET_ERRORS as error:
            raise UnreadableFile(f"{path} is damaged after row {number}: {first_line(error)}") from error


# The formats by name, and how a source's format is told


class Format(NamedTuple):
    """A format: which labels and functional a source of it states, and how it is read row by row."""

    plan: Callable[[Path, ReadOptions], LabelPlan]
    read: Callable[[Path, ReadOptions, LabelPlan], Iterator[Row]]
    functional: Callable[[Path], str | None] = lambda path: None


FORMATS: dict[str, Format] = {
    "alexandria": Format(partial(plan_json, always=("e_form", "e_above_hull")), read_alexandria),
    "jarvis": Format(plan_json, read_json),
    "json": Format(plan_json, read_json),
    "jsonl": Format(plan_json, read_lines),
    "csv": Format(plan_csv, read_csv),
    "folder": Format(plan_folder, read_folder),
    "parquet": Format(plan_parquet, read_parquet, stated_functional),
    "lemat": Format(plan_lemat, read_lemat, lemat_functional),
}


def detect(path: Path) -> str:
    """Name of a source's format, told by its suffix and its columns or, for JSON, its first 64 KiB.

    Raises:
        CgatError: it cannot be told, or an archive or parquet file is damaged.
    """
    if path.is_dir():
        if (path / INDEX).is_file():
            return "folder"
        raise CgatError(f"{path} is a folder without {INDEX}, where each line is a file's name and its values")
    suffix = next((s for s in reversed(path.suffixes[-2:]) if s not in (".bz2", ".gz")), "")
    if suffix == ".parquet":
        with _open_parquet(path) as file:
            return "lemat" if set(LEMAT) <= set(file.schema_arrow.names) else "parquet"
    if suffix in (".csv", ".tsv"):
        return "csv"
    if suffix == ".jsonl":
        return "jsonl"
    if suffix in (".json", ".zip"):
        return _json_kind(path)
    if parser_of(path):
        raise CgatError(f"{path} is a single structure without labels; name its folder, with the values in {INDEX}")
    raise CgatError(f"the format of {path} is not known by its name; give --format: {', '.join(FORMATS)}")


def _json_kind(path: Path) -> str:
    head = ""
    with suppress(*READ_ERRORS), closing(open_members(path)) as members:  # the reader says what is wrong with it
        head = next(members)[0].read1(HEAD).decode("utf-8-sig", "replace").lstrip()
    entries = '"ComputedStructureEntry"' in head and '"data"' in head
    if head[:1] == "{":
        entries = re.search(r'"entries"\s*:\s*\[', head) is not None
    return "alexandria" if entries else "json"
