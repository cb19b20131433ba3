"""The import: every source row by row through the checks into one table, what is not taken into the rejects file.

Nothing of what was read is kept: rows are written in groups, ids seen are kept in a temporary database on disk, so
the memory needed does not depend on the number of files or rows.
"""

from __future__ import annotations

import csv
import os
import resource
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TextIO

import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.checks import PROPERTIES, Crystal, Reject, check
from cgatlib.readers import parquet
from cgatlib.readers.formats import FORMATS, Format, detect
from cgatlib.readers.rows import VOLUME, ReadOptions, UnreadableFile
from cgatlib.schema import functional_name, rows_to_arrow, table_metadata, table_schema

ROW_GROUP = 8192
FAILURE = "file not read to its end"
REJECT_COLUMNS = ("material_id", "reason", "source")


@dataclass(frozen=True)
class ImportRequest:
    """What to import and how.

    Attributes:
        sources: files and folders, read in this order.
        out: the parquet table to write.
        format: a name of ``FORMATS``; told from each source when None.
        options: labels and columns to take.
        functional: needed unless every source states the same one.
        rejects: where to write the rejects; beside ``out`` when None.
        noble_gases: take crystals with noble gases.
        neighbours: how many neighbours within 18 Å each atom must have.
        partial: write the table even though a source could not be read to its end.
    """

    sources: Sequence[Path]
    out: Path
    format: str | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    functional: str | None = None
    rejects: Path | None = None
    noble_gases: bool = True
    neighbours: int = 24
    partial: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise CgatError("nothing to import: no source is given")
        for source in self.sources:
            if not source.exists():
                raise CgatError(f"there is no file or folder {source}")
            if source.resolve() == self.out.resolve():
                raise CgatError(f"{source} is a source and the table to write at once")
        if self.format is not None and self.format not in FORMATS:
            raise CgatError(f"unknown format {self.format!r}; known: {', '.join(FORMATS)}")
        if self.neighbours < 1:
            raise CgatError(f"the number of neighbours must be positive, not {self.neighbours}")

    @property
    def rejects_path(self) -> Path:
        """Where the rejects go."""
        return self.rejects or self.out.with_suffix(".rejects.csv")


@dataclass(frozen=True)
class ImportReport:
    """What an import did; ``read == taken + rejected`` always.

    Attributes:
        out: the table, None when none was written.
        rejects: the rejects file.
        functional: of all rows.
        sources: number of sources.
        read: rows read; a place where a file breaks off counts as one, and is rejected.
        taken: rows in the table.
        rejected: rows in the rejects file.
        reasons: kind of reason -> rows.
        labels: label -> rows that carry it.
        failures: one sentence per source that could not be read to its end.
        seconds: wall time.
        peak_memory_mb: largest resident size of the process so far.
    """

    out: str | None
    rejects: str
    functional: str
    sources: int
    read: int
    taken: int
    rejected: int
    reasons: dict[str, int]
    labels: dict[str, int]
    failures: tuple[str, ...]
    seconds: float
    peak_memory_mb: float

    def __post_init__(self) -> None:
        if self.read != self.taken + self.rejected or self.rejected != sum(self.reasons.values()):
            raise AssertionError(f"rows do not add up: {self}")

    def as_dict(self) -> dict[str, object]:
        """Return the report for JSON."""
        return asdict(self)


def import_crystals(
    request: ImportRequest, progress: Callable[[Iterator[Crystal | Reject]], Iterator[Crystal | Reject]] = iter
) -> ImportReport:
    """Read all sources into one table and one rejects file.

    The table appears under its name only when every source was read to its end (or ``partial`` is asked for) and at
    least one row was taken; the rejects file is written in every case. ``progress`` may wrap the stream of rows.

    Raises:
        CgatError: a request that no source can meet: format or functional unknown, column not there.
    """
    started = time.perf_counter()
    failures: list[Reject] = []
    sources = [source for path in request.sources if (source := _open(path, request, failures))]
    functional = _agreed_functional(request, sources)
    labels = [name for name in PROPERTIES if name == VOLUME or any(name in s.labels for s in sources)]
    names = ", ".join(path.name for path in request.sources[:20])
    with _Writer(request, labels, table_metadata(functional, labels, names)) as writer:
        for failure in failures:
            writer.add(failure)
        for row in progress(_rows(sources, request.options)):
            writer.add(row)
        complete = writer.taken > 0 and (request.partial or not writer.failures)
        writer.finish(keep=complete)
    return ImportReport(
        out=str(request.out) if complete else None,
        rejects=str(request.rejects_path),
        functional=functional,
        sources=len(request.sources),
        read=writer.read,
        taken=writer.taken,
        rejected=writer.read - writer.taken,
        reasons=dict(writer.reasons.most_common()),
        labels={name: writer.labelled[name] for name in labels},
        failures=tuple(writer.failures),
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_mb=round(_peak_memory_mb(), 1),
    )


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@dataclass(frozen=True)
class _Source:
    path: Path
    format: Format
    labels: tuple[str, ...]
    functional: str | None


def _open(path: Path, request: ImportRequest, failures: list[Reject]) -> _Source | None:
    """Look at the start of a source; one that cannot be read at all becomes a failure."""
    try:
        fmt = FORMATS[request.format] if request.format else detect(path)
        stated = parquet.stated_functional(path) if fmt.name == "parquet" else None
        return _Source(path, fmt, fmt.plan(path, request.options).names, stated)
    except UnreadableFile as error:
        failures.append(_failure(path, error))
        return None


def _failure(path: Path, error: UnreadableFile) -> Reject:
    return Reject("", f"{FAILURE}: {error}", str(path))


def _agreed_functional(request: ImportRequest, sources: Sequence[_Source]) -> str:
    given = functional_name(request.functional) if request.functional is not None else None
    for source in sources:
        if source.functional is not None and given not in (None, source.functional):
            raise CgatError(f"{source.path} holds {source.functional} data, not {given}")
        if source.functional is None and request.functional is None:
            raise CgatError(f"{source.path} does not state its functional; name it, e.g. --functional PBE")
        given = given or source.functional
    if given is None:
        raise CgatError(f"the functional is not known, and {request.sources[0]} cannot be read; name it")
    return given


def _rows(sources: Sequence[_Source], options: ReadOptions) -> Iterator[Crystal | Reject]:
    for source in sources:
        try:
            yield from source.format.read(source.path, options)
        except UnreadableFile as error:
            yield _failure(source.path, error)


class _Writer:
    """Checks each row and writes it to the table or to the rejects, both under temporary names until finished."""

    def __init__(self, request: ImportRequest, labels: Sequence[str], metadata: dict[bytes, bytes]) -> None:
        self.request, self.labels = request, labels
        self.read = self.taken = 0
        self.reasons: Counter[str] = Counter()
        self.labelled: Counter[str] = Counter()
        self.failures: list[str] = []
        self._group: list[Crystal] = []
        self._ids = _SeenIds()
        for path in (request.out, request.rejects_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._table_part, self._rejects_part = _part(request.out), _part(request.rejects_path)
        schema = table_schema(labels).with_metadata(metadata)
        self._table = pq.ParquetWriter(self._table_part, schema, compression="zstd")
        self._file: TextIO = self._rejects_part.open("w", encoding="utf-8", newline="")
        self._rejects = csv.writer(self._file)
        self._rejects.writerow(REJECT_COLUMNS)

    def __enter__(self) -> _Writer:
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
