"""Download of files of public collections: resumed where it stopped, checked, with recorded checksums.

The files of one folder are listed in its ``checksums.json``: name -> url, bytes, the server's ETag and Last-Modified,
and sha256, which is null while a file is on its way as ``NAME.part``. Processes with one folder wait for each other.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests
from pydantic import TypeAdapter

from cgatlib import CgatError
from cgatlib.files import file_digest, locked

CHECKSUMS = "checksums.json"
CHUNK = 1 << 18
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""

_GO_ON = "is kept, run the command again to go on"

MakeBar = Callable[[str, int, int | None], AbstractContextManager[Any]]
"""Makes a progress bar (``update(bytes)``) from name, bytes already there and bytes in all."""


@dataclass(frozen=True)
class Collection:
    """Numbered files of a public collection, at the addresses that its documentation gives.

    Args:
        base_url: what all addresses begin with. release: of the collection, where addresses name one.
        patterns: the rest of the address by functional, with ``{release}``, ``{i}`` and ``{files}``.
        files: number of files by functional, where it is fixed. licence: of the data. about: what else to know.
    """

    base_url: str
    release: str
    patterns: Mapping[str, str]
    licence: str
    about: str
    files: Mapping[str, int] = field(default_factory=dict)

    def urls(
        self, functional: str, files: range | None, base_url: str | None = None, release: str | None = None
    ) -> list[str]:
        """Addresses of some of its files, or of all of them.

        Raises:
            CgatError: it has no such functional or file, or does not say how many there are.
        """
        name = functional.lower()
        if name not in self.patterns:
            raise CgatError(f"there is no functional {functional!r} here; known: {', '.join(self.patterns)}")
        count = self.files.get(name)
        if files is None and count is None:
            raise CgatError(f"the number of {name} files is not fixed; say which, e.g. --files 0:3")
        wanted = files if files is not None else range(count or 0)
        if count is not None and wanted.stop > count:
            raise CgatError(f"there are {count} {name} files, numbered from 0, and no number {wanted.stop - 1}")
        rest, start = self.patterns[name], (base_url or self.base_url).rstrip("/")
        return [f"{start}/{rest.format(release=release or self.release, i=i, files=count)}" for i in wanted]


_UNTRIED = "addresses are those of its documentation, not tried here"
# fmt: off
COLLECTIONS: Mapping[str, Collection] = MappingProxyType({
    "alexandria": Collection(
        "https://alexandria.icams.rub.de/data", "2024.12.15",
        {"pbe": "pbe/{release}/alexandria_{i:03d}.json.bz2", "pbesol": "pbesol/alexandria_ps_{i:03d}.json.bz2",
         "scan": "scan/alexandria_scan_{i:03d}.json.bz2"},
        "CC BY 4.0", "formation energies, hull distances and gaps of relaxed crystals",
    ),
    # huggingface.co/datasets/LeMaterial/LeMat-Bulk
    "lemat-bulk": Collection(
        "https://huggingface.co/datasets/LeMaterial/LeMat-Bulk/resolve", "main",
        {name: f"{{release}}/compatible_{name}/train-{{i:05d}}-of-{{files:05d}}.parquet"
         for name in ("pbe", "pbesol", "scan")},
        "CC BY 4.0", "relaxed crystals of the Materials Project, Alexandria and OQMD; energies are total ones, so that "
        f"a table has the volume alone; {_UNTRIED}", {"pbe": 17, "pbesol": 2, "scan": 2},
    ),
    # matpes.ai; Kaplan et al., arXiv:2503.04070 (2025)
    "matpes": Collection(
        "https://s3.us-east-1.amazonaws.com/materialsproject-contribs/MatPES_2025_1", "2025.2",
        {"pbe": "MatPES-PBE-{release}.json.gz", "r2scan": "MatPES-R2SCAN-{release}.json.gz"},
        "BSD-3-Clause", f"crystals as they move at 300 K, with formation energies and gaps; {_UNTRIED}",
        {"pbe": 1, "r2scan": 1},
    ),
})
# fmt: on
"""Public collections by name."""


@dataclass(frozen=True)
class Record:
    """Which version of a file the server sent, as far as it says; and the checksum of what came, once it is whole."""

    url: str
    bytes: int | None
    etag: str | None
    last_modified: str | None
    sha256: str | None = None

    @classmethod
    def of(cls, response: requests.Response, url: str) -> Record:
        """Read the headers of an answer, whole or partial; `CgatError` where its length is no number."""
        length = response.headers.get("Content-Length") or None
        if length and not re.fullmatch(r"\d{1,18}", length):
            raise CgatError(f"{url} was answered with a Content-Length of {length[:40]!r}, which is no number of bytes")
        if part := re.fullmatch(r"bytes \d+-\d+/(\d{1,18})", response.headers.get("Content-Range", "")):
            length = part.group(1)
        return cls(url, int(length) if length else None, *map(response.headers.get, ("ETag", "Last-Modified")))

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` takes: a strong ETag, else the date, else nothing (and then nothing is resumed)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def change(self, now: Record) -> str | None:
        """In which header another version differs, None where in none; equal ETags say that nothing does."""
        if self.etag is not None and self.etag == now.etag:
            return None
        for what, name in (("ETag", "etag"), ("size", "bytes"), ("date", "last_modified")):
            before, after = getattr(self, name), getattr(now, name)
            if before is not None and after is not None and before != after:
                return f"{what} was {before}, is {after}"
        return None


@dataclass(frozen=True)
class Fetched:
    """One file: where it is and how it came (``fetched``, ``resumed``, ``restarted`` or ``kept``)."""

    file: Path
    how: str
    bytes: int
    sha256: str


def fetch(url: str, to: Path, bar: MakeBar, replace_changed: bool = False) -> Fetched:
    """Fetch one file into the folder ``to``, which is made if absent, unless it is there, whole and unchanged.

    Args:
        url: its address; the last part is the file's name.
        replace_changed: fetch again a whole file that has changed on the server.

    Raises:
        CgatError: not found, no answer, ended too early (the part is kept and resumed by the next call), changed on
            the server, the local file is not what was fetched, or the folder cannot be written to.
    """
    target = Path(to) / url.rsplit("/", 1)[1]
    with locked(target.with_name(CHECKSUMS)), requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        try:
            how = "kept"
            if not target.exists() or _changed(session, url, target, replace_changed):
                how = _download(session, url, target, bar)
            return Fetched(target, how, target.stat().st_size, _records(target.parent)[target.name].sha256 or "")
        except OSError as error:
            raise CgatError(f"{target} cannot be written: {error.strerror or error}") from error


def _changed(session: requests.Session, url: str, target: Path, replace: bool) -> bool:
    """Whether the file that is there has changed on the server; refused unless it is to be replaced then."""
    record = _records(target.parent).get(target.name)
    if record is None or record.sha256 is None:
        raise CgatError(f"{target} is there but not as a whole file in {CHECKSUMS}; move it away to fetch it")
    if file_digest(target) != record.sha256:
        raise CgatError(f"{target} is not what was fetched (its sha256 differs); remove it to fetch it again")
    with _answer(session, "HEAD", url) as response:
        change = record.change(Record.of(response, url))
    if change and not replace:
        raise CgatError(
            f"{url} has changed on the server since {target} was fetched ({change}); "
            "keep the file as it is or fetch it again with --replace-changed"
        )
    return change is not None


def _download(session: requests.Session, url: str, target: Path, bar: MakeBar) -> str:
    """Fetch the file, or what its part lacks, and return how it came."""
    part, known = target.with_name(f"{target.name}.part"), _records(target.parent).get(target.name)
    there = part.stat().st_size if part.exists() and known and known.url == url else 0
    validator = known.validator if known and there else None
    headers = {"Range": f"bytes={there}-", "If-Range": validator} if validator else {}
    with _answer(session, "GET", url, headers) as response:
        if response.status_code == 416:  # the part is longer than the file is now
            part.unlink()
            return _download(session, url, target, bar)
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            raise CgatError(f"{url} was answered with another range than asked for")
        how, start = ("resumed", there) if resumed else ("restarted" if part.exists() else "fetched", 0)
        record = Record.of(response, url)
        _write(target, record)
        with part.open("ab" if resumed else "wb") as file, bar(target.name, start, record.bytes) as progress:
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    progress.update(len(chunk))
            except requests.RequestException as error:  # what came is in the part: the next call goes on from there
                raise CgatError(f"{url} was cut off ({type(error).__name__}); {part} {_GO_ON}") from error
    size = part.stat().st_size
    if record.bytes not in (None, size):
        raise CgatError(f"{url} ended after {size} of {record.bytes} bytes; {part} {_GO_ON}")
    # The record first: a file that is not whole there is refused, a record without its file does no harm.
    _write(target, replace(record, bytes=size, sha256=file_digest(part)))
    os.replace(part, target)
    return how


@contextmanager
def _answer(
    session: requests.Session, method: str, url: str, headers: dict[str, str] | None = None
) -> Iterator[requests.Response]:
    try:
        response = session.request(method, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=True)
    except requests.RequestException as error:
        raise CgatError(f"{url} gives no answer ({type(error).__name__})") from error
    with response:
        if response.status_code not in (200, 206, 416):
            raise CgatError(f"{url} cannot be fetched: the server says {response.status_code} {response.reason}")
        yield response


def _records(folder: Path) -> dict[str, Record]:
    path = folder / CHECKSUMS
    try:
        return TypeAdapter(dict[str, Record]).validate_json(path.read_bytes(), strict=True) if path.exists() else {}
    except ValueError as error:
        why = " ".join(str(error).split())[:200]
        raise CgatError(f"{path} holds no records by file name ({why}); repair or remove it") from error


def _write(target: Path, record: Record) -> None:
    """Enter the record of a file, under the lock of its folder: what another process left behind is written over."""
    path, part = target.with_name(CHECKSUMS), target.with_name(f".{CHECKSUMS}.part")
    records = {name: asdict(known) for name, known in (_records(target.parent) | {target.name: record}).items()}
    part.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)
