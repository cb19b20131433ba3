"""A folder of structure files with ``id_prop.csv`` (the habit of CGCNN and ALIGNN), through pymatgen and ASE.

Each line of ``id_prop.csv`` is an id, or a file name, and one or more values. Without a header line the values are
named by their column number, the first is ``1``. Listed ids without a file, and structure files that are not
listed, are rejects.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from cgatlib import CgatError
from cgatlib.crystals.crystal import BadRow, Crystal, Geometry, Reject, UnreadableFile
from cgatlib.crystals.readers.rows import LabelPlan, ReadOptions, crystal_or_reject, is_text, place, usual_columns
from cgatlib.crystals.structures import PARSERS, parser_of, read_structure
from cgatlib.crystals.text_stream import open_raw, text_lines

INDEX = "id_prop.csv"


def plan(path: Path, options: ReadOptions) -> LabelPlan:
    """Return the labels to take; without a header the user must say what the values are.

    Raises:
        CgatError: the values of ``id_prop.csv`` are not named, or a column asked for is not there.
    """
    header, named = _header(path, next(_index(path), []))
    if not named and not options.labels:
        raise CgatError(f"{path / INDEX} does not say what its values are; name them, e.g. --label e_form=1")
    bare = [name for name, theirs in options.labels.items() if not theirs]
    if not named and len(bare) == 1 and len(header) == 2:
        options = ReadOptions({bare[0]: "1"}, options.allow_missing)
    return LabelPlan.make(options, usual_columns(), columns=header[1:])


def read(path: Path, options: ReadOptions) -> Iterator[Crystal | Reject]:
    """Yield the crystals and rejects of the folder, in the order of ``id_prop.csv``.

    Raises:
        UnreadableFile: ``id_prop.csv`` cannot be read, named with line.
    """
    labels = plan(path, options)
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name != INDEX and parser_of(p))
    by_name: dict[str, Path] = {}
    for file in files:
        for name in (file.name, file.stem, file.stem.removeprefix("POSCAR-"), file.name.removeprefix("POSCAR-")):
            by_name.setdefault(name, file)
    listed: set[Path] = set()
    header: list[str] = []
    for number, row in enumerate(_index(path), start=1):
        if not header:
            header, named = _header(path, row)
            if named:
                continue
        where = place(path / INDEX, number)
        found = by_name.get(row[0].strip())
        if found is not None:
            listed.add(found)
        yield _crystal(row, header, found, where, labels)
    for unlisted in (file for file in files if file not in listed):
        yield Reject(unlisted.stem, f"label missing: not listed in {INDEX}", str(unlisted))


def _crystal(row: list[str], header: list[str], file: Path | None, where: str, labels: LabelPlan) -> Crystal | Reject:
    def make() -> tuple[Geometry, dict[str, float]]:
        if len(row) != len(header):
            raise BadRow(f"undecodable line: {len(row)} fields, {len(header)} in the first line")
        if not all(map(is_text, row)):
            raise BadRow("undecodable line: not UTF-8")
        if file is None:
            raise BadRow("structure file missing: no CIF, POSCAR or extxyz file has this name")
        return read_structure(file), labels.pick(dict(zip(header, row, strict=True)))

    name = row[0].strip()
    known = Path(name).stem if Path(name).suffix.lower() in PARSERS else name
    return crystal_or_reject(where, known, make)


def _index(path: Path) -> Iterator[list[str]]:
    number = 0
    try:
        with open_raw(path / INDEX) as (stream, _):
            for number, row in enumerate(csv.reader(text_lines(path / INDEX, stream)), start=1):  # noqa: B007 - named below
                if row:
                    yield row
    except (OSError, csv.Error) as error:
        raise UnreadableFile(f"{path / INDEX} cannot be read after line {number}: {error}") from error


def _header(path: Path, row: list[str]) -> tuple[list[str], bool]:
    """Return the column names, and whether the first line gave them (its values are words, not numbers)."""
    if len(row) < 2:
        raise UnreadableFile(f"{path / INDEX} has no line of an id and a value at line 1")
    first = [field.strip() for field in row]
    if any(_is_number(field) for field in first[1:]):
        return ["id", *(str(i) for i in range(1, len(first)))], False
    return first, True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
