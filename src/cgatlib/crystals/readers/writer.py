"""Rows out: checked, counted, in groups into the table or one by one into the rejects file."""

from __future__ import annotations

import csv
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from cgatlib.crystals.checks import Crystal, Reject, check
from cgatlib.crystals.readers.request import ImportRequest
from cgatlib.crystals.readers.rows import VOLUME
from cgatlib.crystals.schema import rows_to_arrow, table_schema

ROW_GROUP = 8192
FAILURE = "file not read to its end"
REJECT_COLUMNS = ("material_id", "reason", "source")


def is_rejects(path: Path) -> bool:
    """Whether a file is a rejects file, by its first line."""
    try:
        with path.open("rb") as file:
            return file.readline(100).rstrip() == ",".join(REJECT_COLUMNS).encode()
    except OSError:
        return False


class Writer:
    """Checks each row and writes it to the table or to the rejects.

    Args:
        request: what to check. labels: of the table. table, rejects: files to make.
    """

    def __init__(
        self,
        request: ImportRequest,
        labels: Sequence[str],
        metadata: dict[bytes, bytes],
        table: Path,
        rejects: Path,
    ) -> None:
        self.request, self.labels = request, labels
        self.read = self.taken = 0
        self.reasons: Counter[str] = Counter()
        self.labelled: Counter[str] = Counter()
        self.failures: list[str] = []
        self._group: list[Crystal] = []
        with ExitStack() as stack:
            self._ids = stack.enter_context(closing(_SeenIds()))
            # Reasons quote what was read, halves of characters included.
            opened = rejects.open("w", encoding="utf-8", newline="", errors="backslashreplace")
            self._rejects = csv.writer(stack.enter_context(opened))
            self._rejects.writerow(REJECT_COLUMNS)
            schema = table_schema(labels).with_metadata(metadata)
            self._table = stack.enter_context(pq.ParquetWriter(table, schema, compression="zstd"))
            self._opened = stack.pop_all()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._opened:
            if kind is None:
                self._flush()

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
