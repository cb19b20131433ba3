"""What an import is asked to do, and what it reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cgatlib import CgatError
from cgatlib.crystals.readers.formats import FORMATS
from cgatlib.crystals.readers.rows import ReadOptions
from cgatlib.files import refuse_same


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
