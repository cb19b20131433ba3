"""A crystal table that stays on disk: read in pieces, from the first row to the last, however long it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.crystals.checks import labels_among
from cgatlib.crystals.schema import CORE_SCHEMA, PARQUET_ERRORS, counted, fingerprint, first_line, table_schema, to_core
from cgatlib.crystals.table import origin

_BUFFER = 1 << 20  # bytes of a column that are read at a time
_ROWS = 8192  # rows of a column that are decoded at a time


@dataclass(frozen=True)
class CrystalFile:
    """A parquet table of crystals of one functional, for what needs every row once.

    Attributes:
        functional: as `CrystalTable` has it. source: where the rows came from, in words.
    """

    path: Path
    functional: str
    source: str

    @classmethod
    def open(cls, path: str | Path, functional: str | None = None) -> CrystalFile:
        """Look at the file's schema; the rows are checked when they are read.

        Args:
            functional: needed when the file's metadata does not state it; must agree with it otherwise.

        Raises:
            CgatError: not parquet, a core column is missing, or the functional is unknown or contradicted.
        """
        path = Path(path)
        try:
            schema = pq.read_schema(path)
        except PARQUET_ERRORS as error:
            raise CgatError(f"cannot read {path} as a parquet table: {first_line(error)}") from error
        to_core(path, schema.empty_table())
        return cls(path, *origin(path, schema, functional))

    def __len__(self) -> int:
        return int(pq.read_metadata(self.path).num_rows)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns that hold at least one value, as `labels_among` orders them."""
        carried = labels_among(pq.read_schema(self.path).names)
        return tuple(name for name in carried if any(part.null_count < len(part) for part in self._column(name)))

    @cached_property
    def fingerprint(self) -> str:
        """That of the same table in memory."""
        return fingerprint(self.functional, self._counted, self._column)

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """The rows in order, at most `rows` at a time: core columns, labels and space groups.

        Raises:
            CgatError: a row does not fit the schema.
        """
        first = 0
        for part in self._parts([*CORE_SCHEMA.names, *self._counted], rows):
            yield to_core(self.path, part, first)
            first += len(part)

    @property
    def _counted(self) -> list[str]:
        return counted(self.labels, pq.read_schema(self.path).names)

    def _column(self, name: str) -> Iterator[pa.ChunkedArray]:
        kind = table_schema(counted(labels_among([name]), [name])).field(name).type
        for part in self._parts([name], _ROWS):
            try:
                yield part[name].cast(kind)
            except (pa.ArrowException, ValueError) as error:
                raise CgatError(f"{self.path} is no crystal table: {first_line(error)}") from error

    def _parts(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        try:
            # Without these two, columns are read whole.
            with pq.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        except PARQUET_ERRORS as error:
            raise CgatError(f"{self.path} is damaged: {first_line(error)}") from error
