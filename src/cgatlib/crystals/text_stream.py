"""Files of others, opened and read in pieces: however long they are, packed or damaged, memory and time are bounded."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cgatlib.crystals.crystal import UnreadableFile

LARGEST_ENTRY = 1 << 23
"""Most characters of an entry, a line, a row or a structure file; 8 million hold some 20,000 sites."""
BLANK_LINES = 1_000_000
"""Most blank lines in a row; a packed file can hold billions."""
READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
ZIP_ERRORS = (*READ_ERRORS, NotImplementedError, RuntimeError, ValueError, struct.error)
"""What zipfile raises on archives that are damaged, encrypted or packed in a way it does not know."""


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
        except ZIP_ERRORS as error:
            size = path.stat().st_size
            raise UnreadableFile(f"{path} is truncated or no zip archive ({size} bytes): {error}") from error
        members = [m for m in archive.infolist() if m.filename.endswith(".json")]
        if not members:
            raise UnreadableFile(f"{path} holds no .json file")
        yield ((_open_member(path, archive, member), raw) for member in members)


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    try:
        return archive.open(member)
    except ZIP_ERRORS as error:
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
