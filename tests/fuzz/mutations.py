"""Changes to whole files: bytes, numbers and lines of any of them; values and keys of JSON; cells of parquet; members
of archives. Compressed files are changed inside or outside."""

import bz2
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS = [
    *(b"NaN nan Infinity -Infinity inf 1e308 -1e308 1e999 1e9 -1e9 1e-300 1e-9 0 -1 0.0 -0.0 11.9 255 256 4e7".split()),
    *(b"2147483648 9223372036854775808 1e400 0x10 1_000 1,5 ?  . 1(2) true null".split()),
    b"9" * 5000,
]
TOKENS = [
    *(b"\xff\xfe \xef\xbb\xbf \x00 \xc3( \xed\xa0\x80 { } [ ] \" ' , : ; \\ \\ud800 \\u0000 # _ * & ! ---".split(b" ")),
    *(b"\r\n", b"\n", b"\r", b"\t", b"\x1a", "\u2028".encode(), "\U0001f600".encode(), b"loop_\n", b"data_\n"),
    *(b"[" * 3000, b'{"a":' * 3000, b"]" * 50, b'""', b"{}", b"[]", b"null", b" " * 300_000, b"x" * 300_000),
]
VALUES = [
    *("null", "true", '""', '"na"', '"NaN"', "NaN", "Infinity", "-Infinity", "0", "-1", "0.5", "1e308", "-1e308"),
    *("1e9", "1e-300", "11.9", "255", "300", "9223372036854775808", "1e999", "9" * 5000, '"\\ud800"', '"\\u0000"'),
    *('"\\n"', '"Xx"', '"D"', '"Fe3+,spin=5"', "[]", "{}", "[[]]", "[" * 3000 + "]" * 3000, f'"{"x" * 200_000}"'),
    *("[[4,0,0],[4e7,4,0],[0,0,4]]", "[[0,0,0],[0,0,0],[0,0,0]]", "[[1e-5,0,0],[0,1e-5,0],[0,0,1e12]]", "[0,1]"),
    *("[[4,0,0],[0,4,0],[0,0,4e9]]", "[[NaN,0,0],[0,4,0],[0,0,4]]", "[1e9,1e9,1e9]", "[[0,0],[0.5,0.5]]", '"../x"'),
    *("[[0.2,0,0],[0,500,0],[0,0,500]]", "[[-4,0,0],[0,4,0],[0,0,4]]", "[0.5,0.5]", '{"a":1}', "[1,2,3]", "1e-9"),
]
_MARK = "@@{}@@"  # stands for a value of VALUES, which json could not write


def mutate(data: bytes, random: Random) -> bytes:
    """A changed copy of a file."""
    if random.random() < 0.7:
        for magic, change in _FORMATS.items():
            if data.startswith(magic):
                return change(data, random)
    if data.lstrip()[:1] in (b"{", b"[") and random.random() < 0.6:
        return mutate_json(data, random)
    return mutate_bytes(data, random)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """One to three changes that know of numbers and lines at most."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(_BYTE_CHANGES)(data, random)
    return data


def _place(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + int(2 ** random.uniform(0, 10)))


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 32)) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _insert(data: bytes, random: Random) -> bytes:
    start, _ = _place(data, random)
    return data[:start] + random.choice(TOKENS) + data[start:]


def _delete(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:end] + data[start:]


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _splice(data: bytes, random: Random) -> bytes:
    (a, b), (c, d) = _place(data, random), _place(data, random)
    return data[:a] + data[c:d] + data[b:]


def _number(data: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not found:
        return data
    where = random.choice(found)
    return data[: where.start()] + random.choice(NUMBERS) + data[where.end() :]


def _line(data: bytes, random: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    i = random.randrange(len(lines))
    lines[i : i + 1] = random.choice(([], [lines[i], lines[i]], [random.choice(lines)], [lines[i].rstrip()]))
    return b"".join(lines)


_BYTE_CHANGES: list[Callable[[bytes, Random], bytes]] = [
    *(_flip, _insert, _delete, _repeat, _truncate, _splice, _number, _number, _number, _line)
]


def mutate_json(data: bytes, random: Random) -> bytes:
    """One to three changed values, keys or lengths of a JSON text, or of one line of several."""
    lines = data.splitlines()
    i = random.randrange(len(lines))
    try:
        value = json.loads(lines[i])
    except ValueError:
        return mutate_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if places:
            _change(*random.choice(places), random)
    text = json.dumps(value)
    for n, hostile in enumerate(VALUES):
        text = text.replace(f'"{_MARK.format(n)}"', hostile)
    return b"\n".join([*lines[:i], text.encode(), *lines[i + 1 :]])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index of it, those near the root more often than they are there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _change(container: Any, key: Any, random: Random) -> None:
    kind = random.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(key, container[random.randrange(len(container))])
    elif kind == 1:
        container[random.choice([*container, "x" + key])] = container.pop(key)
    elif kind == 2:
        container[key] = random.choice(([container[key]], {"a": container[key]}, str(container[key])))
    else:
        container[key] = _MARK.format(random.randrange(len(VALUES)))


def _gzip(data: bytes, random: Random) -> bytes:
    return gzip.compress(mutate(gzip.decompress(data), random), 1)


def _bz2(data: bytes, random: Random) -> bytes:
    return bz2.compress(mutate(bz2.decompress(data), random), 1)


def _zip(data: bytes, random: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    packed, name = io.BytesIO(), random.choice(list(members))
    kind = random.randrange(4)
    if kind == 0:
        members[f"{random.choice(('../x', '/x', 'a', 'ä'))}.json"] = members.pop(name)
    else:
        members[name] = mutate(members[name], random)
    with zipfile.ZipFile(packed, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    whole = bytearray(packed.getvalue())
    if kind == 1:  # encrypted, or compressed in an unknown way, as both headers of a member say
        offset, value = random.choice(((6, 1), (8, 99), (8, 9)))
        for magic, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            whole[whole.index(magic) + offset + shift] = value
    return bytes(whole)


def _parquet(data: bytes, random: Random) -> bytes:
    """A table with changed cells, columns or metadata, as far as arrow can write them."""
    table = pq.read_table(io.BytesIO(data))
    kind, name = random.randrange(6), random.choice(table.column_names)
    place = table.column_names.index(name)
    if kind == 0:
        table = table.drop_columns([name])
    elif kind == 1:
        table = table.append_column(random.choice([*table.column_names, "x"]), table[name])
    elif kind == 2:
        key = random.choice([*(table.schema.metadata or {}), b"cgatlib"])
        odd = random.choice((b"", b"{", b"[]", b"1", b"\xff", b'{"functional": 1}', b'{"functional": ""}', b"[" * 3000))
        table = table.replace_schema_metadata({key: odd})
    else:
        rows = table[name].to_pylist()
        rows[random.randrange(len(rows))] = _cell(random.choice(rows), random)
        try:
            table = table.set_column(place, name, pa.array(rows))
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            return mutate_bytes(data, random)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _cell(cell: Any, random: Random) -> Any:
    if isinstance(cell, list) and cell and random.random() < 0.8:
        cell = list(cell)
        cell[random.randrange(len(cell))] = _cell(cell[0], random)
        return random.choice((cell, cell, cell, cell[:-1], cell * 2))
    return random.choice((None, float("nan"), float("inf"), 1e308, 1e9, -1, 0, 11.9, 104, 300, 1 << 40, "", [], "x"))


_FORMATS: dict[bytes, Callable[[bytes, Random], bytes]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": _bz2,
    b"PK\x03\x04": _zip,
    b"PAR1": _parquet,
}
