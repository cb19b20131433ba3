"""Large JSON files entry by entry, compressed or not, without holding more than one entry and one chunk.

Written because a broken entry must cost only itself, ``NaN`` (which Python writes) must be read, and a cut archive
must say where; event parsers give up at the first of these.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cgatlib.crystals.readers.rows import BadRow, UnreadableFile

CHUNK = 1 << 20
READ_ERRORS = (EOFError, OSError, zlib.error, zipfile.BadZipFile)
SPACE = re.compile(r"[ \t\r\n]*")
STRUCTURAL = re.compile(r'"(?:[^"\\]|\\.)*"|["{}\[\]]', re.DOTALL)


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
        UnreadableFile: the archive is cut or has no such member.
    """
    if path.suffix != ".zip":
        with open_raw(path) as opened:
            yield iter([opened])
        return
    with path.open("rb") as raw:
        try:
            archive = zipfile.ZipFile(raw)
        except zipfile.BadZipFile as error:
            size = path.stat().st_size
            raise UnreadableFile(f"{path} is truncated or no zip archive ({size} bytes): {error}") from error
        members = [m for m in archive.infolist() if m.filename.endswith(".json")]
        if not members:
            raise UnreadableFile(f"{path} holds no .json file")
        yield ((archive.open(member), raw) for member in members)  # type: ignore[misc]


class JsonItems:
    """The items of the one long array in a JSON text, read as they come.

    The array is the text itself or the value of ``key`` in an object; the object's other values that stand before
    it are in ``header``. An item that cannot be decoded is yielded as a ``BadRow``; the reading goes on behind it.
    """

    def __init__(self, path: Path, stream: Stream, raw: BinaryIO, key: str) -> None:
        self.path, self.stream, self.raw, self.key = path, stream, raw, key
        self.header: dict[str, Any] = {}
        self._text, self._pos, self._bytes_before = "", 0, 0
        self._count = 0
        self._ended = False
        self._break: Exception | None = None
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        first = self._peek()
        if first == "[":
            yield from self._array()
        elif first == "{":
            yield from self._object()
        else:
            raise self._unreadable("is not JSON")
        if self._peek():
            raise self._unreadable("goes on behind the end of its JSON value")

    def _object(self) -> Iterator[Any]:
        found = False
        self._expect("{")
        while self._peek() != "}":
            name = self._outer_value()
            self._expect(":")
            if name == self.key and self._peek() == "[":
                found = True
                yield from self._array()
            else:
                self.header[str(name)] = self._outer_value()
            if self._peek() != "}":
                self._expect(",")
        self._expect("}")
        if not found:
            raise self._unreadable(f"has no list under {self.key!r}")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        while self._peek() != "]":
            yield self._item()
            self._count += 1
            if self._peek() != "]":
                self._expect(",")
        self._expect("]")

    def _item(self) -> Any:
        try:
            return self._value()
        except (json.JSONDecodeError, RecursionError) as error:
            start = self._pos
            if not self._skip_item():
                raise self._unreadable(f"breaks off inside entry {self._count}") from error
            where = self._bytes_before + len(self._text[:start].encode())
            why = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            return BadRow(f"undecodable entry: {why} in the entry at byte {where} of the text")

    def _outer_value(self) -> Any:
        self._peek()
        try:
            return self._value()
        except (json.JSONDecodeError, RecursionError) as error:
            raise self._unreadable("is not JSON outside its entries") from error

    def _value(self) -> Any:
        """Decode the value at the position, reading on until it is whole."""
        failed_at = -1
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._pos)
            except json.JSONDecodeError as error:
                # What fails at the same place with more text at hand is broken, not unfinished; only a string fails
                # at its start until its end is there.
                broken = error.pos == failed_at and not error.msg.startswith("Unterminated string")
                if broken or not self._fill():
                    raise
                failed_at = error.pos
                continue
            if end == len(self._text) and self._fill():  # a number may go on
                continue
            self._pos = end
            return value

    def _skip_item(self) -> bool:
        """Move behind the object or array at the position by counting brackets; False if it has no end."""
        depth = 0
        scan = self._pos
        while True:
            for match in STRUCTURAL.finditer(self._text, scan):
                token = match.group()
                if token == '"':  # a string without its end
                    break
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token, 0)
                scan = match.end()
                if depth <= 0 and token in "}]":
                    self._pos = scan
                    return depth == 0
            if not self._fill():
                return False

    def _peek(self) -> str:
        """Return the next character that is no space, empty at the end, with the position on it."""
        if self._pos > CHUNK:
            self._trim()
        while True:
            match = SPACE.match(self._text, self._pos)
            self._pos = match.end() if match else self._pos
            if self._pos < len(self._text):
                return self._text[self._pos]
            if not self._fill():
                if self._break:
                    raise self._unreadable("is truncated or damaged")
                return ""

    def _expect(self, char: str) -> None:
        found = self._peek()
        if not found:
            raise self._unreadable("is truncated")
        if found != char:
            raise self._unreadable(f"has {found!r} where {char!r} should stand")
        self._pos += 1

    def _trim(self) -> None:
        """Drop the text before the position."""
        self._bytes_before += len(self._text[: self._pos].encode())
        self._text, self._pos = self._text[self._pos :], 0

    def _fill(self) -> bool:
        """Append a chunk to the text; False at the end or at a break."""
        parts, size = [], 0
        try:
            while size < CHUNK and not self._ended:
                part = self.stream.read1(CHUNK)
                self._ended = not part
                parts.append(self._utf8.decode(part, final=self._ended))
                size += len(part)
        except (*READ_ERRORS, UnicodeDecodeError) as error:
            self._ended, self._break = True, error
        self._text += "".join(parts)
        return any(parts)

    def _unreadable(self, what: str) -> UnreadableFile:
        at = self._bytes_before + len(self._text[: self._pos].encode())
        below = f", byte {self.raw.tell()} of the file" if self.path.suffix != ".json" else ""
        why = f": {self._break}" if self._break else ""
        return UnreadableFile(f"{self.path} {what} (after {self._count} entries, at byte {at} of the text{below}){why}")
