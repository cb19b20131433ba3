"""Tables as a plan declares them: imported or joined once, and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cgatlib import CgatError
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.importing import ImportRequest, import_crystals
from cgatlib.crystals.labels import ReadOptions
from cgatlib.crystals.table import SPACE_GROUP, CrystalTable, read_parquet
from cgatlib.files import PACKAGE, made_once, source_digest

_FIELDS = ("file", "functional", "labels", "agree", "space_groups")  # of a declaration, that decide what is imported
_TABLE, _REJECTS = "table.parquet", "rejects.csv"
_SYMMETRY_TOLERANCE = 0.01  # Å; how far an atom may lie from where a symmetry puts it: pymatgen's default


@dataclass(frozen=True)
class Source:
    """A crystal table ready for graphs, and what was refused on the way in."""

    table: CrystalTable
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
        CgatError: there is no such file, or it cannot be imported.
    """
    file = data / entry["file"]
    if not file.is_file():
        raise CgatError(f"source {name}: {file} does not exist")
    declared = {key: entry[key] for key in _FIELDS if key in entry}

    def make(folder: Path) -> tuple[CrystalTable, pd.DataFrame]:
        options = ReadOptions(labels=entry.get("labels", {}), allow_missing=True)  # not every row has every label
        asked = {"functional": entry["functional"], "rejects": folder / _REJECTS}
        report = import_crystals(ImportRequest([file], folder / _TABLE, options=options, **asked))
        if report.out is None:
            raise CgatError(f"{file} could not be imported: {'; '.join(report.failures) or 'no row was taken'}")
        return _agreeing(file, entry.get("agree", {}), CrystalTable.read(report.out), _read_rejects(folder))

    return _kept(cache / f"{name}-{_digest(declared, file.read_bytes())}", entry, make)


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
    tables = [part.table for part in parts]
    declared = {"join": [table.fingerprint for table in tables], "labels": taken}
    digest = _digest(declared | {"space_groups": entry.get("space_groups", False)})
    rejects = pd.concat([part.rejects for part in parts])
    return _kept(cache / f"{name}-{digest}", entry, lambda _: (joined(tables, taken), rejects))


def _kept(kept: Path, entry: Mapping[str, Any], make: Callable[[Path], tuple[CrystalTable, pd.DataFrame]]) -> Source:
    """The table and rejects in a folder, which is made first if it is not there."""

    def write(folder: Path) -> None:
        folder.mkdir()
        table, rejects = make(folder)
        rejects.to_csv(folder / _REJECTS, index=False)
        (folder / _TABLE).unlink(missing_ok=True)  # of this folder, which nobody has seen: no replacement to be told
        (with_space_groups(table) if entry.get("space_groups") else table).write(folder / _TABLE)

    made_once(kept, "an imported table", Path.is_dir, write)
    return Source(CrystalTable.read(kept / _TABLE), _read_rejects(kept), entry.get("origin", ""))


def _read_rejects(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / _REJECTS, dtype=str, keep_default_na=False)


def _digest(entry: dict[str, Any], content: bytes = b"") -> str:
    """Fingerprint of how a table is declared, of the code that imports it, and of its file."""
    parts = [json.dumps(entry, sort_keys=True).encode(), source_digest(PACKAGE / "crystals").encode(), content]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _agreeing(
    file: Path, agree: Mapping[str, tuple[str, float]], table: CrystalTable, rejects: pd.DataFrame
) -> tuple[CrystalTable, pd.DataFrame]:
    """The rows that agree with their reference columns in the file, and the rejects with the others added."""
    for label, (column, tolerance) in agree.items():
        original = read_parquet(file)
        if column not in original.column_names:
            raise CgatError(f"{file} has no column {column!r}; it has: {', '.join(original.column_names)}")
        rows = original.select(["material_id", column]).to_pandas().drop_duplicates("material_id")  # as the import did
        expected = rows.set_index("material_id")[column].reindex(table.ids).to_numpy(dtype=float)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.abs(table.label(label) / expected - 1) > tolerance
        reason = f"{label} differs from {column} by more than {tolerance:.0%}"
        ids = np.array(table.ids)[off]
        refused = pd.DataFrame({"material_id": ids, "reason": reason, "source": file.name})
        rejects, table = pd.concat([rejects, refused]), table.select(np.flatnonzero(~off))
    return table, rejects


def joined(tables: Sequence[CrystalTable], labels: Sequence[Collection[str]]) -> CrystalTable:
    """All rows of several tables of different functionals, those of one id and one geometry in one.

    A structure that was relaxed again under another functional keeps a row of its own, under the same id.

    Args:
        tables: the first gives the functional. A label of another functional is called ``label@FUNCTIONAL``.
        labels: which labels are taken of each table; `CgatError` where two tables give one of a crystal two values.
    """
    functional = tables[0].functional
    found: dict[tuple[str, bytes], Crystal] = {}
    for table, taken in zip(tables, labels, strict=True):
        names = {label: _joined_name(label, table.functional, functional) for label in taken}
        for crystal in table:
            named = {names[label]: value for label, value in crystal.labels.items() if label in names}
            geometry = (crystal.lattice, crystal.numbers, crystal.frac_coords)
            key = crystal.material_id, b"".join(array.tobytes() for array in geometry)
            known = found[key].labels if key in found else {}
            for name in named.keys() & known.keys():
                if named[name] != known[name]:
                    raise CgatError(f"{crystal.material_id} has two values of {name}: {known[name]} and {named[name]}")
            found[key] = replace(crystal, labels=known | named)
    return CrystalTable.from_crystals(found.values(), functional, "; ".join(table.source for table in tables))


def _joined_name(label: str, functional: str, new: str) -> str:
    """What a label of a table of one functional is called in a table of another."""
    name, _, stated = label.partition("@")
    return name if (stated or functional) == new else f"{name}@{stated or functional}"


def with_space_groups(table: CrystalTable) -> CrystalTable:
    """The same table with the numbers of the space groups, which are determined here unless it has them."""
    if SPACE_GROUP in table.table.column_names:
        return table
    numbers = pa.array([_space_group(crystal) for crystal in table], pa.int16())
    return replace(table, table=table.table.append_column(SPACE_GROUP, numbers))


def _space_group(crystal: Crystal) -> int:
    from pymatgen.core import Lattice, Structure
    from pymatgen.symmetry.analyzer import SymmetryUndeterminedError

    structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac_coords)
    try:
        return int(structure.get_space_group_info(_SYMMETRY_TOLERANCE)[1])
    except SymmetryUndeterminedError as error:
        raise CgatError(f"the space group of {crystal.material_id} cannot be determined: {error}") from error
