"""Files of others, opened and read in pieces: however long they are, packed or damaged, memory and time are bounded."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cgatlib.crystals.crystal import BadRow, UnreadableFile

LARGEST_ENTRY = 1 << 23
"""Most characters of an entry, a line, a row or a structure file; 8 million hold some 20,000 sites."""
BLANK_LINES = 1_000_000
"""Most blank lines in a row; a packed file can hold billions."""
READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
CUT = "unexpected end of data"  # what csv says of a quoted field without its end


class Stream(Protocol):
    """The one thing asked of an open file: what is there now, so that nothing before a break is lost."""

    def read1(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, empty at the end."""


@contextmanager
def open_raw(path: Path) -> Iterator[tuple[Stream, BinaryIO]]:
    """Open a plain, ``.bz2`` or ``.gz`` file; yields the decompressed stream and the file below it."""
    with path.open("rb") as raw:
        if path.suffix == ".bz2":
            with bz2.BZ2File(raw) as stream:
                yield stream, raw
        elif path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw) as packed:
                yield packed, raw
        else:
            yield raw, raw


@contextmanager
def open_members(path: Path) -> Iterator[Iterator[tuple[Stream, BinaryIO]]]:
    """Open a file, or the ``.json`` members of a ``.zip`` one after the other.

    Raises:
        UnreadableFile: the archive is cut, encrypted or packed in an unknown way, or has no such member.
    """
    if path.suffix != ".zip":
        with open_raw(path) as opened:
            yield iter([opened])
        return
    with path.open("rb") as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
            size = path.stat().st_size
            raise UnreadableFile(f"{path} is truncated or no zip archive ({size} bytes): {error}") from error
        members = [m for m in archive.infolist() if m.filename.endswith(".json")]
        if not members:
            raise UnreadableFile(f"{path} holds no .json file")
        yield ((_open_member(path, archive, member), raw) for member in members)


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    try:
        return archive.open(member)
    # What is encrypted or packed in another way is a RuntimeError, a broken name or place of the member a ValueError.
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        raise UnreadableFile(f"{path} has a member {member.filename!r} that cannot be opened: {error}") from error


def text_lines(path: Path, stream: Any) -> Iterator[str]:
    """The lines of a text with their ends; a byte-order mark is dropped.

    Bytes that are not UTF-8 come through as surrogates, so that they cost one row and not the file.

    Raises:
        UnreadableFile: the file is cut or damaged, or has a line or a run of blank lines beyond the limits.
    """
    text = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    number = blank = 0
    try:
        while line := text.readline(LARGEST_ENTRY + 1):
            number += 1
            blank = 0 if line.strip() else blank + 1
            if len(line) > LARGEST_ENTRY or blank > BLANK_LINES:
                what = f"{BLANK_LINES:,} blank lines" if blank else f"{LARGEST_ENTRY:,} characters in one line"
                raise UnreadableFile(f"{path} has more than {what} at line {number}; it is not read further")
            yield line
    except READ_ERRORS as error:
        raise UnreadableFile(f"{path} is truncated or damaged after line {number}: {error}") from error


class CsvRows:
    """Rows of a CSV text, whose first is the header; where a quote is broken, reading goes on at the next whole row.

    Attributes:
        header: names of the columns. line: the last one that was read.
    """

    def __init__(self, path: Path, stream: Any) -> None:
        csv.field_size_limit(LARGEST_ENTRY)  # the default of 128 k is less than the CIF of a large cell
        self.path, self.line = path, 0
        self._lines, self._again = text_lines(path, stream), deque[str]()
        self._spent = 0  # characters since the last whole row
        try:
            self.header = self._record()[0]
        except csv.Error as error:
            raise UnreadableFile(f"{path} cannot be read at line 1 (byte 0): {error}") from error

    def __iter__(self) -> Iterator[list[str] | BadRow]:
        """Yield rows as they are, whatever their length, and one `BadRow` for the lines up to the next whole one.

        Raises:
            UnreadableFile: the text is cut, or the next whole row is too far away.
        """
        begin, broken, cut = self.line + 1, "", False
        while True:
            try:
                fields, lines = self._record()
            except csv.Error as error:
                broken, cut = broken or str(error), str(error) == CUT
                continue
            if broken and lines and len(fields) != len(self.header):
                continue
            if not lines and not broken:
                return
            short = fields and len(fields) != len(self.header) and not lines[-1].endswith(("\n", "\r"))
            if short or (not lines and cut):
                raise UnreadableFile(f"{self.path} is truncated: it ends inside line {begin}")
            if broken:
                self._unread(lines)
                yield BadRow(f"undecodable line: {broken} (lines {begin} to {self.line})")
            else:
                self._spent = 0
                if fields:
                    yield fields
            begin, broken = self.line + 1, ""

    def _record(self) -> tuple[list[str], list[str]]:
        """One row and the lines it stands in, none at the end; of a broken one, all but the first are read again."""
        lines: list[str] = []
        try:
            return next(csv.reader(self._feed(lines), strict=True), []), lines
        except csv.Error:
            self._unread(lines[1:])
            raise

    def _unread(self, lines: Sequence[str]) -> None:
        self._again.extendleft(reversed(lines))
        self.line -= len(lines)

    def _feed(self, lines: list[str]) -> Iterator[str]:
        while line := self._again.popleft() if self._again else next(self._lines, ""):
            lines.append(line)
            self.line += 1
            self._spent += len(line)
            if self._spent > LARGEST_ENTRY:
                where = f"in {LARGEST_ENTRY:,} characters at line {self.line}"
                raise UnreadableFile(f"{self.path} has no whole row {where}")
            yield line
