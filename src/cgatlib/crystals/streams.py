"""Files of others, opened and read entry by entry: however long, packed or damaged, memory and time are bounded.

The JSON reader is ours because a broken entry must cost only itself, ``NaN`` (which Python writes) must be read, and a
cut archive must say where; event parsers give up at the first of these.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import json
import lzma
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import Any

from cgatlib.crystals.crystal import BadRow, UnreadableFile

LARGEST_ENTRY = 1 << 23
"""Most characters of an entry, a line, a row or a structure file; 8 million hold some 20,000 sites."""
BLANK_LINES = 1_000_000
"""Most blank lines in a row; a packed file can hold billions."""
READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
CHUNK = 1 << 20

_CUT = "unexpected end of data"  # what csv says of a quoted field without its end
_SPACE = re.compile(r"[ \t\r\n]*")
_STRUCTURAL = re.compile(r'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)  # possessive: else as much memory as text
_BRACKET = re.compile(r"[{\[]")
_KEY = re.compile(r',\s{0,99}"[^"\\]{0,99}"\s{0,99}:')
_HEADER = ("columns", "index")
_NAMES = 1000
_DEPTH, _BRACKETS = 1000, 500_000  # json decodes no more at a time; a large cell has 30,000
_FAILED, _OTHER = 1000, 100  # characters that a value counts at least, when the next entry is looked for among others
_LINES = 500  # of the text before an error, of which json counts the lines, one in so many counts


@contextmanager
def open_raw(path: Path) -> Iterator[tuple[BufferedIOBase, BufferedIOBase]]:
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


def open_members(path: Path) -> Generator[tuple[Any, BufferedIOBase], None, None]:
    """Open a file, or the ``.json`` members of a ``.zip`` one after the other, each with the file below it.

    Raises:
        UnreadableFile: the archive is cut, encrypted or packed in an unknown way, or has no such member.
    """
    if path.suffix != ".zip":
        with open_raw(path) as opened:
            yield opened
        return
    with path.open("rb") as raw:
        try:
            archive = zipfile.ZipFile(raw)
        # A version of the format that Python does not read is a NotImplementedError.
        except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
            size = path.stat().st_size
            raise UnreadableFile(f"{path} is truncated or no zip archive ({size} bytes): {error}") from error
        members = [member for member in archive.infolist() if member.filename.endswith(".json")]
        if not members:
            raise UnreadableFile(f"{path} holds no .json file")
        for member in members:
            try:
                stream = archive.open(member)
            # What is encrypted or packed otherwise is a RuntimeError, a broken name or place of it a ValueError.
            except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
                which = f"a member {member.filename!r} that cannot be opened"
                raise UnreadableFile(f"{path} has {which}: {error}") from error
            yield stream, raw


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

    The separator is that of comma, semicolon (as many Excels write it) and tab that its first line has most of.

    Attributes:
        header: names of the columns. line: the last one that was read.
    """

    def __init__(self, path: Path, stream: Any) -> None:
        csv.field_size_limit(LARGEST_ENTRY)  # the default of 128 k is less than the CIF of a large cell
        self.path, self.line = path, 0
        self._lines = text_lines(path, stream)
        self._again = deque([first := next(self._lines, "")])
        self._separator = max(",;\t", key=first.count)
        self._spent = 0  # characters since the last whole row
        try:
            self.header = [name.strip() for name in self._record()[0]]
        except csv.Error as error:
            raise UnreadableFile(f"{path} cannot be read at line 1 (byte 0): {error}") from error

    def __iter__(self) -> Iterator[list[str] | BadRow]:
        """Yield rows with a field for each column; of other rows, and of lines up to the next whole one, a `BadRow`.

        Raises:
            UnreadableFile: the text is cut, or the next whole row is too far away.
        """
        begin, broken, cut = self.line + 1, "", False
        while True:
            try:
                fields, lines = self._record()
            except csv.Error as error:
                broken, cut = broken or str(error), str(error) == _CUT
                continue
            whole = len(fields) == len(self.header)
            if broken and lines and not whole:
                continue
            if not lines and not broken:
                return
            if (not lines and cut) or (fields and not whole and not lines[-1].endswith(("\n", "\r"))):
                raise UnreadableFile(f"{self.path} is truncated: it ends inside line {begin}")
            if broken:
                self._unread(lines)
                yield BadRow(f"undecodable line: {broken} (lines {begin} to {self.line})")
            else:
                self._spent = 0
                if fields:
                    odd = f"undecodable line: {len(fields)} fields where the header has {len(self.header)}"
                    yield fields if whole else BadRow(odd)
            begin, broken = self.line + 1, ""

    def _record(self) -> tuple[list[str], list[str]]:
        """One row and the lines it stands in, none at the end; of a broken one, all but the first are read again."""
        lines: list[str] = []
        try:
            return next(csv.reader(self._feed(lines), delimiter=self._separator, strict=True), []), lines
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


class JsonItems:
    """The items of the one long array in a JSON text, read as they come: one item and one chunk are held.

    The array is the text itself or the value of ``key`` in an object; of the object's other values, those of a split
    table that were read so far are in ``header``. A broken item is yielded as a ``BadRow``; the reading goes on behind.

    Args:
        is_item: whether a value has what an item has; the next one is found by it where brackets or quotes are broken.
    """

    def __init__(self, path: Path, stream: Any, raw: BufferedIOBase, key: str, is_item: Callable[[Any], bool]) -> None:
        self.path, self.stream, self.raw, self.key, self.is_item = path, stream, raw, key, is_item
        self.header: dict[str, Any] = {}
        self._text, self._pos, self._bytes_before = "", 0, 0
        self._count, self._ended = 0, False
        self._break: Exception | None = None
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        first = self._peek()
        if first not in ("[", "{"):
            raise self._unreadable(f"is not JSON: it begins with {first!r}" if first else "is empty")
        yield from self._array() if first == "[" else self._object()
        if self._peek():
            raise self._unreadable("goes on behind the end of its JSON value")

    def _object(self) -> Iterator[Any]:
        found, names = False, 0
        self._expect("{")
        while self._peek() != "}":
            name = self._outer_value()
            self._expect(":")
            if name == self.key and self._peek() == "[":
                found = True
                yield from self._array()
            else:
                value = self._outer_value()
                names += 1
                if name in _HEADER:
                    self.header[name] = value
            if names > _NAMES:
                raise self._unreadable(f"has more than {_NAMES} values outside its entries")
            self._trim()
            if self._peek() != "}":
                self._expect(",")
        self._expect("}")
        if not found:
            raise self._unreadable(f"has no list under {self.key!r}")

    def _array(self) -> Iterator[Any]:
        self._expect("[")
        while self._peek() != "]":
            self._trim()
            yield self._item()
            self._count += 1
        self._expect("]")

    def _item(self) -> Any:
        """Read the item at the position and the comma behind it, or skip what is none up to the next item."""
        start = self._pos
        try:
            value = self._value()
            if self._ends_item():
                return value
            why = "more follows where it should end"
        except (ValueError, RecursionError) as error:
            why = why_no_json(error)
        where = self._bytes_at(start)
        self._skip_item(start)
        return BadRow(f"undecodable entry: {why} in the entry at byte {where} of the text")

    def _ends_item(self) -> bool:
        """Whether an item ends before the position; if so, move to the next one or to the end of the list."""
        found = self._peek()
        if found != ",":
            return found in ("]", "")
        if _KEY.match(self._text, self._pos):  # the brackets of an object were closed too early
            return False
        self._pos += 1
        if self._peek() == "]":
            raise self._unreadable("has nothing between the last comma and the end of its list")
        return True

    def _skip_item(self, start: int) -> None:
        """Move from a broken item to the next one, or to the end of the list.

        Where its brackets match, it ends with them, unless a whole item stands between: a broken quote turns text into
        brackets and brackets into text.
        """
        end, after = self._closing(start), -1
        if end >= 0:
            self._pos = end
            after = self._pos if self._ends_item() else -1
        if not self._find_item(start + 1, end if after >= 0 else LARGEST_ENTRY + start):
            if after < 0:
                self._pos = start
                long = f"has no whole entry in {LARGEST_ENTRY:,} characters from entry {self._count} on"
                raise self._unreadable(f"breaks off inside entry {self._count}" if self._ended else long)
            self._pos = after

    def _find_item(self, start: int, end: int) -> bool:
        """Move to the first whole item that begins in a part of the text."""
        left = LARGEST_ENTRY
        while left > 0:
            self._pos = start
            if not (found := _BRACKET.search(self._text, start, end)):
                if len(self._text) >= end or not self._fill():
                    return False
                continue
            self._pos = bracket = found.start()
            try:
                value = self._value()
            except (ValueError, RecursionError) as error:
                at = getattr(error, "pos", 0)
                left -= max(_FAILED, at - bracket, at // _LINES)
                start = bracket + 1
            else:
                start = self._pos
                left -= max(_OTHER, start - bracket)
                if self.is_item(value) and self._ends_item():
                    self._pos = bracket
                    return True
        return False

    def _closing(self, start: int) -> int:
        """Position behind the bracket that closes the object or array at ``start``; -1 if none does."""
        depth, scan, left = 0, start, _BRACKETS
        self._pos = start
        while True:
            for match in _STRUCTURAL.finditer(self._text, scan):
                token = match.group()
                if token == '"':  # a string without its end
                    break
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token, 0)
                scan, left = match.end(), left - 1
                if depth > _DEPTH or not left:
                    return -1
                if depth <= 0 and token in "}]":
                    return scan if depth == 0 else -1
            if not self._fill():
                return -1

    def _outer_value(self) -> Any:
        self._peek()
        try:
            return self._value()
        except (ValueError, RecursionError) as error:
            raise self._unreadable(f"is not JSON outside its entries: {why_no_json(error)}") from error

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

    def _peek(self) -> str:
        """Return the next character that is no space, empty at the end, with the position on it."""
        while (match := _SPACE.match(self._text, self._pos)) and match.end() == len(self._text):
            if not self._fill():
                self._pos = match.end()
                if not self._ended:
                    raise self._unreadable(f"has more than {LARGEST_ENTRY:,} characters of space")
                if self._break:
                    raise self._unreadable("is truncated or damaged")
                return ""
        assert match
        self._pos = match.end()
        return self._text[self._pos]

    def _expect(self, char: str) -> None:
        if (found := self._peek()) != char:
            raise self._unreadable(f"has {found!r} where {char!r} should stand" if found else "is truncated")
        self._pos += 1

    def _trim(self) -> None:
        """Drop the text before the position, if it is worth the copy."""
        if self._pos > CHUNK:
            self._bytes_before = self._bytes_at(self._pos)
            self._text, self._pos = self._text[self._pos :], 0

    def _fill(self) -> bool:
        """Double the text behind the position, at least by a chunk; False at the end, a break or the limit."""
        ahead = len(self._text) - self._pos
        if ahead > LARGEST_ENTRY:
            return False
        parts, size = [], 0
        try:
            while size < max(CHUNK, ahead) and not self._ended:
                part = self.stream.read1(CHUNK)
                self._ended = not part
                parts.append(self._utf8.decode(part, final=self._ended))
                size += len(part)
        except (*READ_ERRORS, UnicodeDecodeError) as error:
            self._ended, self._break = True, error
        self._text += "".join(parts)
        return any(parts)

    def _bytes_at(self, position: int) -> int:
        return self._bytes_before + len(self._text[:position].encode())

    def _unreadable(self, what: str) -> UnreadableFile:
        below = f", byte {self.raw.tell()} of the file" if self.path.suffix != ".json" else ""
        why = f": {self._break}" if self._break else ""
        at = f"(after {self._count} entries, at byte {self._bytes_at(self._pos)} of the text{below})"
        return UnreadableFile(f"{self.path} {what} {at}{why}")


def why_no_json(error: Exception) -> str:
    """What is wrong with a JSON text; the int of Python refuses long numbers with advice that does not help here."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of thousands of digits"
