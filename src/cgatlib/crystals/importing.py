"""The import: every source row by row through the checks into one table, what is not taken into the rejects file.

Rows are written in groups, and ids seen are kept in a temporary database on disk, so that the memory needed does not
depend on the number of files or rows.
"""

from __future__ import annotations

import csv
import resource
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.crystals.crystal import Crystal, Reject, UnreadableFile, check, functional_name, labels_among
from cgatlib.crystals.labels import VOLUME, LabelPlan, ReadOptions
from cgatlib.crystals.readers import FORMATS, Format, Row, detect
from cgatlib.crystals.table import (
    is_crystal_table,
    rows_to_arrow,
    table_metadata,
    table_schema,
)
from cgatlib.files import refuse_same, replacing

ROW_GROUP = 8192
FAILURE = "file not read to its end"
REJECT_COLUMNS = ("material_id", "reason", "source")
NOISE = ("undecodable", "id missing")
MOST_NOISE = 10_000


@dataclass(frozen=True)
class ImportRequest:
    """What to import and how.

    Attributes:
        sources: files and folders, read in this order. out: the parquet table to write.
        format: a name of ``FORMATS``; told from each source when None. options: labels and columns to take.
        functional: needed unless every source states the same one.
        rejects: where to write the rejects; beside ``out`` when None.
        noble_gases: take crystals with noble gases. neighbours: that each atom must have within 18 Å.
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
        if self.out.name in ("", ".."):
            raise CgatError(f"{self.out} is a folder, not a name for a table")
        refuse_same(self.out, *self.sources)
        refuse_same(self.rejects_path, *self.sources, self.out)
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
        out: the table, None when none was written. rejects: the rejects file. sources: their number.
        read: rows read; a place where a file breaks off counts as one, and is rejected.
        reasons: kind of reason -> rows. labels: label -> rows that carry it.
        failures: one sentence per source that could not be read to its end.
        seconds: wall time. peak_memory_mb: largest resident size of the process so far.
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


def import_crystals(request: ImportRequest, progress: Callable[[Iterator[Row]], Iterator[Row]] = iter) -> ImportReport:
    """Read all sources into one table and one rejects file.

    The table appears under its name only when every source was read to its end (or ``partial`` is asked for) and at
    least one row was taken; the rejects file is written in every case. ``progress`` may wrap the stream of rows.

    Raises:
        CgatError: a request that no source can meet (format or functional unknown, column not there), or an output
            that cannot be written or would replace something else.
    """
    started = time.perf_counter()
    failures: list[Reject] = []
    sources = [source for path in request.sources if (source := _open(path, request, failures))]
    functional = _agreed_functional(request, sources)
    labels = labels_among([VOLUME, *(name for source in sources for name in source.labels.names)])
    metadata = table_metadata(functional, labels, ", ".join(path.name for path in request.sources[:20]))
    counts = _Counts()
    with (
        replacing(request.rejects_path, "a rejects file", _is_rejects) as rejects,
        suppress(_NotKept),
        replacing(request.out, "a crystal table", is_crystal_table) as table,
    ):
        taken = _taken(chain(failures, progress(_rows(sources, request.options))), request, rejects, counts)
        with pq.ParquetWriter(table, table_schema(labels).with_metadata(metadata), compression="zstd") as file:
            while group := list(islice(taken, ROW_GROUP)):
                file.write_table(rows_to_arrow(group, labels))
        if not counts.worth_a_table(request):
            raise _NotKept
    return counts.report(request, functional, labels, time.perf_counter() - started)


class _NotKept(Exception):
    """The table is not to be given its name."""


@dataclass
class _Counts:
    """Rows that were taken, refused and carried a label, and the sentences on sources that could not be read."""

    taken: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    labelled: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def worth_a_table(self, request: ImportRequest) -> bool:
        return self.taken > 0 and (request.partial or not self.failures)

    def report(self, request: ImportRequest, functional: str, labels: Sequence[str], seconds: float) -> ImportReport:
        unit = 1 if sys.platform == "darwin" else 1024
        return ImportReport(
            out=str(request.out) if self.worth_a_table(request) else None,
            rejects=str(request.rejects_path),
            functional=functional,
            sources=len(request.sources),
            read=self.taken + self.reasons.total(),
            taken=self.taken,
            rejected=self.reasons.total(),
            reasons=dict(self.reasons.most_common()),
            labels={name: self.labelled[name] for name in labels},
            failures=tuple(self.failures),
            seconds=round(seconds, 3),
            peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1),
        )


def _taken(rows: Iterable[Row], request: ImportRequest, rejects: Path, counts: _Counts) -> Iterator[Crystal]:
    """The crystals that pass the checks, with their volume; the other rows go to the rejects file."""
    with (
        closing(sqlite3.connect("")) as ids,  # a private file that sqlite removes
        rejects.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file,  # halves of characters
    ):
        ids.execute("PRAGMA cache_size = -4096")
        ids.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        writer = csv.writer(file)
        writer.writerow(REJECT_COLUMNS)
        for row in rows:
            if isinstance(row, Crystal) and (reason := _refusal(row, request, ids)):
                row = Reject(row.material_id, reason, row.source)
            if isinstance(row, Reject):
                counts.reasons[row.kind] += 1
                writer.writerow((row.material_id, row.reason, row.source))
                if row.kind == FAILURE:
                    counts.failures.append(row.reason.removeprefix(f"{FAILURE}: "))
            else:
                counts.taken += 1
                labels = {VOLUME: row.volume_per_atom, **row.labels}
                counts.labelled.update(labels.keys())
                yield replace(row, labels=labels)


def _refusal(crystal: Crystal, request: ImportRequest, ids: sqlite3.Connection) -> str | None:
    reason = check(crystal, request.noble_gases, request.neighbours)
    if reason is None and not ids.execute("INSERT OR IGNORE INTO ids VALUES (?)", (crystal.material_id,)).rowcount:
        return "duplicate id: a crystal with this id was taken before"
    return reason


@dataclass(frozen=True)
class _Source:
    path: Path
    format: Format
    labels: LabelPlan
    functional: str | None


def _open(path: Path, request: ImportRequest, failures: list[Reject]) -> _Source | None:
    """Look at the start of a source; one that cannot be read at all becomes a failure."""
    try:
        fmt = FORMATS[request.format or detect(path)]
        return _Source(path, fmt, fmt.plan(path, request.options), fmt.functional(path))
    except (UnreadableFile, OSError) as error:
        failures.append(_failure(path, error))
        return None


def _failure(path: Path, error: UnreadableFile | OSError) -> Reject:
    sentence = error if isinstance(error, UnreadableFile) else f"{path} cannot be opened (byte 0): {error}"
    return Reject("", f"{FAILURE}: {sentence}", str(path))


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


def _rows(sources: Sequence[_Source], options: ReadOptions) -> Iterator[Row]:
    """Rows of all sources; of one that cannot be read on, or has a long series of rows without a crystal, a failure.

    A small packed file can have billions of rows that hold nothing.
    """
    for source in sources:
        noise = 0
        try:
            for row in source.format.read(source.path, options, source.labels):
                noise = noise + 1 if isinstance(row, Reject) and row.reason.startswith(NOISE) else 0
                yield row
                if noise == MOST_NOISE:
                    what = f"{noise:,} rows one after the other without a crystal"
                    raise UnreadableFile(f"{source.path} has {what}; it is not read further")
        except (UnreadableFile, OSError) as error:
            yield _failure(source.path, error)


def _is_rejects(path: Path) -> bool:
    """Whether a file is a rejects file, by its first line."""
    try:
        with path.open("rb") as file:
            return file.readline(100).rstrip() == ",".join(REJECT_COLUMNS).encode()
    except OSError:
        return False
