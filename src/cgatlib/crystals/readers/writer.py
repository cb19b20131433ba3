"""Rows out: checked, counted, in groups into the table or one by one into the rejects file."""

from __future__ import annotations

import csv
import os
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.crystals.checks import Crystal, Reject, check
from cgatlib.crystals.readers.request import ImportRequest
from cgatlib.crystals.readers.rows import VOLUME
from cgatlib.crystals.schema import rows_to_arrow, table_schema

ROW_GROUP = 8192
FAILURE = "file not read to its end"
REJECT_COLUMNS = ("material_id", "reason", "source")


class Writer:
    """Checks each row and writes it to the table or to the rejects, both under temporary names until finished."""

    def __init__(self, request: ImportRequest, labels: Sequence[str], metadata: dict[bytes, bytes]) -> None:
        self.request, self.labels = request, labels
        self.read = self.taken = 0
        self.reasons: Counter[str] = Counter()
        self.labelled: Counter[str] = Counter()
        self.failures: list[str] = []
        self._group: list[Crystal] = []
        self._ids = _SeenIds()
        self._table_part, self._rejects_part = _part(request.out), _part(request.rejects_path)
        schema = table_schema(labels).with_metadata(metadata)
        try:
            for path in (self._table_part, self._rejects_part):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = self._rejects_part.open("w", encoding="utf-8", newline="")
            self._table = pq.ParquetWriter(self._table_part, schema, compression="zstd")
        except OSError as error:
            raise CgatError(f"cannot write {request.out} and {request.rejects_path}: {error}") from error
        self._rejects = csv.writer(self._file)
        self._rejects.writerow(REJECT_COLUMNS)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.close()
        self._file.close()
        self._ids.close()
        for path in (self._table_part, self._rejects_part):
            path.unlink(missing_ok=True)

    def add(self, row: Crystal | Reject) -> None:
        """Count one row and put it where it belongs."""
        self.read += 1
        reject = row if isinstance(row, Reject) else self._refuse(row)
        if reject is not None:
            self.reasons[reject.kind] += 1
            self._rejects.writerow((reject.material_id, reject.reason, reject.source))
            if reject.kind == FAILURE:
                self.failures.append(reject.reason.removeprefix(f"{FAILURE}: "))
            return
        assert isinstance(row, Crystal)
        labels = {VOLUME: row.volume_per_atom, **row.labels}
        self.taken += 1
        self.labelled.update(labels.keys())
        self._group.append(replace(row, labels=labels))
        if len(self._group) == ROW_GROUP:
            self._flush()

    def _refuse(self, crystal: Crystal) -> Reject | None:
        reason = check(crystal, self.request.noble_gases, self.request.neighbours)
        if reason is None and not self._ids.add(crystal.material_id):
            reason = "duplicate id: a crystal with this id was taken before"
        return Reject(crystal.material_id, reason, crystal.source) if reason else None

    def _flush(self) -> None:
        if self._group:
            self._table.write_table(rows_to_arrow(self._group, self.labels))
            self._group.clear()

    def finish(self, keep: bool) -> None:
        """Give the rejects, and the table if it is to be kept, their names."""
        self._flush()
        self._table.close()
        self._file.close()
        os.replace(self._rejects_part, self.request.rejects_path)
        if keep:
            os.replace(self._table_part, self.request.out)


class _SeenIds:
    """The ids taken so far, in a private database that sqlite keeps on disk and removes."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute("PRAGMA cache_size = -4096")
        self._database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, material_id: str) -> bool:
        """Remember an id; False if it was there."""
        return self._database.execute("INSERT OR IGNORE INTO ids VALUES (?)", (material_id,)).rowcount == 1

    def close(self) -> None:
        self._database.close()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
