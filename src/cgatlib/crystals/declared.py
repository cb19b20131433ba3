"""Tables as a file declares them: imported through the same checks as any user's data, once, and kept."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable, joined, with_space_groups
from cgatlib.files import PACKAGE, made_once, source_digest

FIELDS = ("file", "functional", "labels", "agree", "space_groups")
"""What a declaration says about the import of a table."""
_TABLE, _REJECTS = "table.parquet", "rejects.csv"


@dataclass(frozen=True)
class Source:
    """A crystal table ready for graphs, and what was refused on the way in."""

    table: CrystalTable
    path: Path
    rejects: pd.DataFrame  # material_id, reason, source
    origin: str = ""  # what its labels come from, where that was said


def load_source(name: str, entry: Mapping[str, Any], data: Path, cache: Path) -> Source:
    """Import a declared table, or read what an earlier import kept.

    Args:
        name: of the table, for messages and file names.
        entry: ``file`` (in the folder `data`) and ``functional`` (never guessed); optional ``labels`` (our name ->
            column), ``agree`` (label -> [column, tolerance]: rows whose label differs from that column by more than
            this fraction are refused), ``space_groups`` (whether they are determined) and ``origin``.
        data: folder of the files. cache: folder of imported tables, each kept in a folder named by a hash of file
            and declaration.

    Raises:
        CgatError: file or functional is missing, or the file cannot be imported.
    """
    missing = [key for key in ("file", "functional") if key not in entry]
    if missing:
        raise CgatError(f"source {name} does not state its {missing[0]}")
    file = data / entry["file"]
    if not file.is_file():
        raise CgatError(f"source {name}: {file} does not exist")
    declared = {key: entry[key] for key in FIELDS if key in entry}
    kept = cache / f"{name}-{_digest(declared, file.read_bytes())}"
    made_once(kept, "an imported table", Path.is_dir, partial(_import, file, declared))
    return _read(kept, entry.get("origin", ""))


def join_sources(
    name: str, entry: Mapping[str, Any], parts: Sequence[Source], labels: Sequence[Collection[str]], cache: Path
) -> Source:
    """One table of several, as `joined` makes it, or what an earlier call kept.

    Args:
        name: of the table. entry: its declaration, of which ``space_groups`` and ``origin`` are as in `load_source`.
        parts: the tables. labels: which of their labels are taken; all that a table has, if none.
        cache: folder of imported tables.
    """
    taken = [sorted(names or part.table.labels) for names, part in zip(labels, parts, strict=True)]
    symmetric, fingerprints = entry.get("space_groups", False), [part.table.fingerprint for part in parts]
    kept = cache / f"{name}-{_digest({'join': fingerprints, 'labels': taken, 'space_groups': symmetric})}"

    def join(folder: Path) -> None:
        folder.mkdir()
        table = joined([part.table for part in parts], taken)
        (with_space_groups(table) if symmetric else table).write(folder / _TABLE)
        pd.concat([part.rejects for part in parts]).to_csv(folder / _REJECTS, index=False)

    made_once(kept, "a joined table", Path.is_dir, join)
    return _read(kept, entry.get("origin", ""))


def _read(kept: Path, origin: str) -> Source:
    path, rejects = kept / _TABLE, pd.read_csv(kept / _REJECTS, dtype=str, keep_default_na=False)
    return Source(CrystalTable.read(path), path, rejects, origin)


def _digest(entry: dict[str, Any], content: bytes = b"") -> str:
    """Fingerprint of how a table is declared, of the code that imports it, and of its file."""
    parts = [json.dumps(entry, sort_keys=True).encode(), source_digest(PACKAGE / "crystals").encode(), content]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _import(file: Path, entry: dict[str, Any], folder: Path) -> None:
    """Import one file, then drop the rows that disagree with their reference column, into a new folder."""
    from cgatlib.crystals.importing import ImportRequest, import_crystals
    from cgatlib.crystals.readers import ReadOptions

    folder.mkdir()
    path, refused = folder / _TABLE, folder / _REJECTS
    options = ReadOptions(labels=entry.get("labels", {}), allow_missing=True)  # not every row has every label
    report = import_crystals(
        ImportRequest([file], path, options=options, functional=entry["functional"], rejects=refused)
    )
    if report.out is None:
        raise CgatError(f"{file} could not be imported: {'; '.join(report.failures) or 'no row was taken'}")
    for label, (column, tolerance) in entry.get("agree", {}).items():
        original = CrystalTable.read(file, entry["functional"]).table
        if column not in original.column_names:
            raise CgatError(f"{file} has no column {column!r}; it has: {', '.join(original.column_names)}")
        names, values = original["material_id"].to_pylist(), original[column].to_pylist()
        reference = dict(zip(names[::-1], values[::-1], strict=True))  # of a repeated id, the first row was taken
        table = CrystalTable.read(path)
        expected = np.array([reference[i] or np.nan for i in table.ids], dtype=float)
        with np.errstate(invalid="ignore"):
            off = np.abs(table.label(label) / expected - 1) > tolerance
        reason = f"{label} differs from {column} by more than {tolerance:.0%}"
        rows = [{"material_id": table.ids[i], "reason": reason, "source": file.name} for i in np.flatnonzero(off)]
        known = pd.read_csv(refused, dtype=str, keep_default_na=False)
        pd.concat([known, pd.DataFrame(rows)]).to_csv(refused, index=False)
        path.unlink()  # of this folder, which nobody has seen: not a replacement to be told
        table.select(np.flatnonzero(~off)).write(path)
    if entry.get("space_groups"):
        table = with_space_groups(CrystalTable.read(path))
        path.unlink()
        table.write(path)
