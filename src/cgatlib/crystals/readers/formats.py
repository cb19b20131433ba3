"""The formats by name, and how a source's format is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cgatlib import CgatError
from cgatlib.crystals.crystal import Crystal, Reject, UnreadableFile
from cgatlib.crystals.readers import alexandria, folder, lemat, parquet, tables
from cgatlib.crystals.readers.rows import LabelPlan, ReadOptions
from cgatlib.crystals.text_stream import READ_ERRORS, open_members


@dataclass(frozen=True)
class Format:
    """A format: what it is, which labels and functional a source of it states, and how it is read row by row."""

    name: str
    description: str
    plan: Callable[[Path, ReadOptions], LabelPlan]
    read: Callable[[Path, ReadOptions], Iterator[Crystal | Reject]]
    functional: Callable[[Path], str | None] = lambda path: None


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("alexandria", "Alexandria/DCGAT entries (.json, .bz2, .gz)", alexandria.plan, alexandria.read),
        Format("jarvis", "JARVIS-tools records (.json, .bz2, .gz, .zip)", tables.plan, tables.read_json),
        Format("json", "records or pandas split table with structures", tables.plan, tables.read_json),
        Format("jsonl", "one JSON record per line", tables.plan, tables.read_lines),
        Format("csv", "CSV with a column of CIF or of structure JSON", tables.plan_csv, tables.read_csv),
        Format("folder", "CIF/POSCAR/extxyz files and id_prop.csv", folder.plan, folder.read),
        Format("parquet", "crystal tables", parquet.plan, parquet.read, parquet.stated_functional),
        Format("lemat", "LeMat-Bulk (.parquet)", lemat.plan, lemat.read, lemat.stated_functional),
    )
}

HEAD = 1 << 16
COMPRESSIONS = (".bz2", ".gz")


def detect(path: Path) -> Format:
    """Tell the format of a source by its suffix and its columns or, for JSON, its first 64 KiB.

    Raises:
        CgatError: it cannot be told; the formats are listed.
        UnreadableFile: the compressed file is damaged from its start.
    """
    if path.is_dir():
        if (path / folder.INDEX).is_file():
            return FORMATS["folder"]
        raise CgatError(f"{path} is a folder without {folder.INDEX}; name the files in it instead")
    suffixes = [s for s in path.suffixes[-2:] if s not in COMPRESSIONS]
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".parquet":
        return FORMATS["lemat" if lemat.is_lemat(path) else "parquet"]
    if suffix in (".csv", ".jsonl"):
        return FORMATS[suffix.removeprefix(".")]
    if suffix in (".json", ".zip"):
        return FORMATS[_json_kind(path)]
    raise CgatError(f"the format of {path} is not known by its name; give --format: {', '.join(FORMATS)}")


def _json_kind(path: Path) -> str:
    try:
        with open_members(path) as members:
            stream, _ = next(members)
            head = stream.read1(HEAD).decode("utf-8-sig", "replace")
    except READ_ERRORS as error:
        raise UnreadableFile(f"{path} is truncated or damaged at its start (byte 0): {error}") from error
    if not head:
        raise UnreadableFile(f"{path} is empty (byte 0)")
    head = head.lstrip()
    if not head:
        raise UnreadableFile(f"{path} begins with more than {HEAD:,} spaces, or holds nothing else (byte 0)")
    if head[0] == "{" and re.search(r'"entries"\s*:\s*\[', head):
        return "alexandria"
    if '"lattice_mat"' in head:
        return "jarvis"
    if head[0] == "[" and '"ComputedStructureEntry"' in head and '"data"' in head:
        return "alexandria"
    if head[0] in "[{":
        return "json"
    raise UnreadableFile(f"{path} is not JSON (byte 0 is {head[0]!r})")
