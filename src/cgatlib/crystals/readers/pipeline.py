"""The import: every source row by row through the checks into one table, what is not taken into the rejects file.

Nothing of what was read is kept: rows are written in groups, ids seen are kept in a temporary database on disk, so
the memory needed does not depend on the number of files or rows.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cgatlib import CgatError
from cgatlib.crystals.checks import Crystal, Reject, labels_among
from cgatlib.crystals.readers.formats import FORMATS, Format, detect
from cgatlib.crystals.readers.request import ImportReport, ImportRequest
from cgatlib.crystals.readers.rows import VOLUME, ReadOptions, UnreadableFile
from cgatlib.crystals.readers.writer import FAILURE, Writer, is_rejects
from cgatlib.crystals.schema import functional_name, is_crystal_table, table_metadata
from cgatlib.files import replacing

NOISE = ("undecodable", "id missing")
MOST_NOISE = 10_000


def import_crystals(
    request: ImportRequest, progress: Callable[[Iterator[Crystal | Reject]], Iterator[Crystal | Reject]] = iter
) -> ImportReport:
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
    labels = labels_among([VOLUME, *(name for source in sources for name in source.labels)])
    names = ", ".join(path.name for path in request.sources[:20])
    metadata = table_metadata(functional, labels, names)
    complete = False
    with (
        replacing(request.rejects_path, "a rejects file", is_rejects) as rejects,
        suppress(_NotKept),
        replacing(request.out, "a crystal table", is_crystal_table) as table,
    ):
        with Writer(request, labels, metadata, table, rejects) as writer:
            for row in chain(failures, progress(_rows(sources, request.options))):
                writer.add(row)
        complete = writer.taken > 0 and (request.partial or not writer.failures)
        if not complete:
            raise _NotKept
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


class _NotKept(Exception):
    """The table is not to be given its name."""


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
        return _Source(path, fmt, fmt.plan(path, request.options).names, fmt.functional(path))
    except (UnreadableFile, OSError) as error:
        failures.append(_failure(path, error))
        return None


def _failure(path: Path, error: UnreadableFile | OSError) -> Reject:
    sentence = str(error) if isinstance(error, UnreadableFile) else f"{path} cannot be opened (byte 0): {error}"
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


def _rows(sources: Sequence[_Source], options: ReadOptions) -> Iterator[Crystal | Reject]:
    for source in sources:
        try:
            yield from _unless_all_is_noise(source.path, source.format.read(source.path, options))
        except (UnreadableFile, OSError) as error:
            yield _failure(source.path, error)


def _unless_all_is_noise(path: Path, rows: Iterator[Crystal | Reject]) -> Iterator[Crystal | Reject]:
    """The rows, up to a long series of those that hold nothing: a small packed file can have billions of them.

    Raises:
        UnreadableFile: that is the case.
    """
    noise = 0
    for row in rows:
        noise = noise + 1 if isinstance(row, Reject) and row.reason.startswith(NOISE) else 0
        yield row
        if noise == MOST_NOISE:
            raise UnreadableFile(
                f"{path} has {noise:,} rows one after the other without a crystal; it is not read further"
            )
