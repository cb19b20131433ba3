"""Large JSON files entry by entry, compressed or not, without holding more than one entry and one chunk.

Written because a broken entry must cost only itself, ``NaN`` (which Python writes) must be read, and a cut archive
must say where; event parsers give up at the first of these.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cgatlib.crystals.crystal import BadRow, UnreadableFile
from cgatlib.crystals.text_stream import LARGEST_ENTRY, READ_ERRORS, Stream

CHUNK = 1 << 20
SPACE = re.compile(r"[ \t\r\n]*")
STRUCTURAL = re.compile(r'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)  # possessive: else as much memory as text
BRACKET = re.compile(r"[{\[]")
KEY = re.compile(r',\s{0,99}"[^"\\]{0,99}"\s{0,99}:')
HEADER = ("columns", "index")
NAMES = 1000
DEPTH, BRACKETS = 1000, 500_000  # json decodes no more at a time; a large cell has 30,000
FAILED, OTHER = 1000, 100  # characters that a value counts at least, when the next entry is looked for among others


class JsonItems:
    """The items of the one long array in a JSON text, read as they come.

    The array is the text itself or the value of ``key`` in an object; of the object's other values, those of a split
    table that were read so far are in ``header``. A broken item is yielded as a ``BadRow``; the reading goes on behind.

    Args:
        is_item: whether a value has what an item has; the next one is found by it where brackets or quotes are broken.
    """

    def __init__(self, path: Path, stream: Stream, raw: BinaryIO, key: str, is_item: Callable[[Any], bool]) -> None:
        self.path, self.stream, self.raw, self.key, self.is_item = path, stream, raw, key, is_item
        self.header: dict[str, Any] = {}
        self._text, self._pos, self._bytes_before = "", 0, 0
        self._count = 0
        self._ended = False
        self._break: Exception | None = None
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
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
                if name in HEADER:
                    self.header[name] = value
            if names > NAMES:
                raise self._unreadable(f"has more than {NAMES} values outside its entries")
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
        where = self._bytes_before + len(self._text[:start].encode())
        self._skip_item(start)
        return BadRow(f"undecodable entry: {why} in the entry at byte {where} of the text")

    def _ends_item(self) -> bool:
        """Whether an item ends before the position; if so, move to the next one or to the end of the list."""
        found = self._peek()
        if found != ",":
            return found in ("]", "")
        if KEY.match(self._text, self._pos):  # the brackets of an object were closed too early
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
        end = self._closing(start)
        after = -1
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
        while left > 0 and (bracket := self._next_bracket(start, end)) >= 0:
            self._pos = bracket
            try:
                value = self._value()
            except (ValueError, RecursionError) as error:
                left -= max(FAILED, getattr(error, "pos", 0) - bracket)
                start = bracket + 1
            else:
                start = self._pos
                left -= max(OTHER, start - bracket)
                if self.is_item(value) and self._ends_item():
                    self._pos = bracket
                    return True
        return False

    def _next_bracket(self, start: int, end: int) -> int:
        """Position of the first opening bracket in a part of the text; -1 if there is none."""
        while not (found := BRACKET.search(self._text, start, end)) and len(self._text) < end:
            self._pos = start
            if not self._more():
                break
        return found.start() if found else -1

    def _closing(self, start: int) -> int:
        """Position behind the bracket that closes the object or array at ``start``; -1 if none does."""
        depth, scan, left = 0, start, BRACKETS
        self._pos = start
        while True:
            for match in STRUCTURAL.finditer(self._text, scan):
                token = match.group()
                if token == '"':  # a string without its end
                    break
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token, 0)
                scan, left = match.end(), left - 1
                if depth > DEPTH or not left:
                    return -1
                if depth <= 0 and token in "}]":
                    return scan if depth == 0 else -1
            if not self._more():
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
        while True:
            match = SPACE.match(self._text, self._pos)
            assert match
            if match.end() < len(self._text):
                self._pos = match.end()
                return self._text[self._pos]
            try:
                more = self._fill()
            except _TooLong as error:
                raise self._unreadable(f"has {error} of space") from error
            if not more:
                self._pos = match.end()
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
        """Drop the text before the position, if it is worth the copy."""
        if self._pos > CHUNK:
            self._bytes_before += len(self._text[: self._pos].encode())
            self._text, self._pos = self._text[self._pos :], 0

    def _fill(self) -> bool:
        """Double the text behind the position, at least by a chunk; False at the end or at a break.

        Raises:
            _TooLong: there is more than an entry may have.
        """
        ahead = len(self._text) - self._pos
        if ahead > LARGEST_ENTRY:
            raise _TooLong(f"more than {LARGEST_ENTRY:,} characters")
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

    def _more(self) -> bool:
        """`_fill`; False also beyond the limit."""
        try:
            return self._fill()
        except _TooLong:
            return False

    def _unreadable(self, what: str) -> UnreadableFile:
        at = self._bytes_before + len(self._text[: self._pos].encode())
        below = f", byte {self.raw.tell()} of the file" if self.path.suffix != ".json" else ""
        why = f": {self._break}" if self._break else ""
        return UnreadableFile(f"{self.path} {what} (after {self._count} entries, at byte {at} of the text{below}){why}")


class _TooLong(ValueError):
    """An entry has more characters than it may have."""


def why_no_json(error: Exception) -> str:
    """What is wrong with a JSON text; the int of Python refuses long numbers with advice that does not help here."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, _TooLong):
        return str(error)
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of thousands of digits"
