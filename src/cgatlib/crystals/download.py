"""Download of files of public collections: resumed where it stopped, checked, with recorded checksums.

The files of one folder are listed in its ``checksums.json``: name -> url, bytes, sha256, and the server's ETag and
Last-Modified. A file on its way is ``NAME.part`` beside ``NAME.part.json``, which says what it is a part of. Processes
with the same folder wait for each other.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests

from cgatlib import CgatError
from cgatlib.files import file_digest, locked
from cgatlib.values import from_plain

CHECKSUMS = "checksums.json"
CHUNK = 1 << 18
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""

_log = logging.getLogger("cgatlib")

MakeBar = Callable[[str, int, int | None], AbstractContextManager[Any]]
"""Makes a progress bar (``update(bytes)``) from name, bytes already there and bytes in all."""


@dataclass(frozen=True)
class Collection:
    """Numbered files of a public collection, at the addresses that its documentation gives.

    Args:
        base_url: what all addresses begin with. release: of the collection, where addresses name one.
        patterns: the rest of the address by functional, with ``{release}`` and ``{i}``.
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
        return [f"{start}/{rest.format(release=release or self.release, i=i)}" for i in wanted]


_UNTRIED = "addresses are those of its documentation, not tried here"
COLLECTIONS: Mapping[str, Collection] = MappingProxyType(
    {
        "alexandria": Collection(
            "https://alexandria.icams.rub.de/data",
            "2024.12.15",
            {
                "pbe": "pbe/{release}/alexandria_{i:03d}.json.bz2",
                "pbesol": "pbesol/alexandria_ps_{i:03d}.json.bz2",
                "scan": "scan/alexandria_scan_{i:03d}.json.bz2",
            },
            "CC BY 4.0",
            "formation energies, hull distances and gaps of relaxed crystals",
        ),
        # huggingface.co/datasets/LeMaterial/LeMat-Bulk
        "lemat-bulk": Collection(
            "https://huggingface.co/datasets/LeMaterial/LeMat-Bulk/resolve",
            "main",
            {
                "pbe": "{release}/compatible_pbe/train-{i:05d}-of-00017.parquet",
                "pbesol": "{release}/compatible_pbesol/train-{i:05d}-of-00002.parquet",
                "scan": "{release}/compatible_scan/train-{i:05d}-of-00002.parquet",
            },
            "CC BY 4.0",
            "relaxed crystals of the Materials Project, Alexandria and OQMD; energies are total ones, so that a table "
            f"has the volume alone; {_UNTRIED}",
            {"pbe": 17, "pbesol": 2, "scan": 2},
        ),
        # matpes.ai; Kaplan et al., arXiv:2503.04070 (2025)
        "matpes": Collection(
            "https://s3.us-east-1.amazonaws.com/materialsproject-contribs/MatPES_2025_1",
            "2025.2",
            {"pbe": "MatPES-PBE-{release}.json.gz", "r2scan": "MatPES-R2SCAN-{release}.json.gz"},
            "BSD-3-Clause",
            f"crystals as they move at 300 K, with formation energies and gaps; {_UNTRIED}",
            {"pbe": 1, "r2scan": 1},
        ),
    }
)
"""Public collections by name."""


@dataclass(frozen=True)
class Version:
    """Which version of a file the server sent, as far as it says."""

    url: str
    bytes: int | None
    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, response: requests.Response, url: str) -> Version:
        """Read the headers of an answer, whole or partial; `CgatError` where its length is no number."""
        length, tag = response.headers.get("Content-Length"), response.headers.get("ETag")
        if length and not re.fullmatch(r"\d{1,18}", length):
            raise CgatError(f"{url} was answered with a Content-Length of {length[:40]!r}, which is no number of bytes")
        part = re.fullmatch(r"bytes \d+-\d+/(\d{1,18})", response.headers.get("Content-Range", ""))
        whole = part.group(1) if part else length
        return cls(url, int(whole) if whole else None, tag, response.headers.get("Last-Modified"))

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` takes: a strong ETag, else the date, else nothing (and then nothing is resumed)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def change(self, now: Version) -> str | None:
        """In which header another version differs, None where in none; equal ETags say that nothing does."""
        headers = [("ETag", "etag"), ("size", "bytes"), ("date", "last_modified")]
        for what, before, after in ((w, getattr(self, name), getattr(now, name)) for w, name in headers):
            if before is not None and after is not None:
                if before != after:
                    return f"{what} was {before}, is {after}"
                if what == "ETag":
                    return None
        return None


@dataclass(frozen=True)
class _Record(Version):
    """What ``checksums.json`` holds of a file."""

    sha256: str


@dataclass(frozen=True)
class Fetched:
    """One file: where it is and how it came (``fetched``, ``resumed``, ``restarted`` or ``kept``)."""

    path: Path
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
            kept = _kept(session, url, target, replace_changed) if target.exists() else None
            return kept or _download(session, url, target, bar)
        except OSError as error:
            raise CgatError(f"{target} cannot be written: {error.strerror or error}") from error


def _kept(session: requests.Session, url: str, target: Path, replace_changed: bool) -> Fetched | None:
    """Return the file that is there; None when it is to be fetched again."""
    record = _checksums(target.parent).get(target.name)
    if record is None:
        raise CgatError(f"{target} is there but not in {CHECKSUMS}; move it away to fetch it")
    if file_digest(target) != record.sha256:
        raise CgatError(f"{target} is not what was fetched (its sha256 differs); remove it to fetch it again")
    with _answer(session, "HEAD", url) as response:
        change = record.change(Version.of(response, url))
    if change and not replace_changed:
        raise CgatError(
            f"{url} has changed on the server since {target} was fetched ({change}); "
            "keep the file as it is or fetch it again with --replace-changed"
        )
    return None if change else Fetched(target, "kept", target.stat().st_size, record.sha256)


def _download(session: requests.Session, url: str, target: Path, bar: MakeBar) -> Fetched:
    part, note = (target.with_name(target.name + suffix) for suffix in (".part", ".part.json"))
    there, validator = _resumable(part, note, url)
    headers = {"Range": f"bytes={there}-", "If-Range": validator} if there and validator else {}
    with _answer(session, "GET", url, headers) as response:
        if response.status_code == 416:  # the part is longer than the file is now
            response.close()
            part.unlink()
            return _download(session, url, target, bar)
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            raise CgatError(f"{url} was answered with another range than asked for")
        how = "resumed" if resumed else ("restarted" if part.exists() else "fetched")
        version = Version.of(response, url)
        _write_json(note, asdict(version))
        start = there if resumed else 0
        with part.open("ab" if resumed else "wb") as file, bar(target.name, start, version.bytes) as progress:
            try:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    progress.update(len(chunk))
            except requests.RequestException as error:  # what came is in the part: the next call goes on from there
                kept = f"{part} is kept, run the command again to go on"
                raise CgatError(f"{url} was cut off ({type(error).__name__}); {kept}") from error
    return _finish(part, note, target, version, how)


def _resumable(part: Path, note: Path, url: str) -> tuple[int, str | None]:
    """Return how much of the file is there and what proves that the rest belongs to it."""
    if not (part.exists() and note.exists()):
        return 0, None
    try:
        version = from_plain(Version, json.loads(note.read_text(encoding="utf-8")), str(note))
    except (ValueError, RecursionError, CgatError) as error:
        _log.warning("%s is damaged (%s): %s is fetched from its start", note, error, part)
        return 0, None
    return (part.stat().st_size, version.validator) if version.url == url else (0, None)


def _finish(part: Path, note: Path, target: Path, version: Version, how: str) -> Fetched:
    size = part.stat().st_size
    if version.bytes is not None and size != version.bytes:
        kept = f"{part} is kept, run the command again to go on"
        raise CgatError(f"{version.url} ended after {size} of {version.bytes} bytes; {kept}")
    record = _Record(version.url, size, version.etag, version.last_modified, file_digest(part))
    # The record first: a file without one is refused, a record without its file does no harm.
    listed = {**_checksums(target.parent), target.name: record}
    _write_json(target.parent / CHECKSUMS, {name: asdict(known) for name, known in listed.items()})
    os.replace(part, target)
    note.unlink()
    return Fetched(target, how, size, record.sha256)


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


def _checksums(folder: Path) -> dict[str, _Record]:
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CgatError(f"{path} is no JSON ({error}); repair or remove it") from error
    if not isinstance(values, dict):
        raise CgatError(f"{path} holds no records by file name; repair or remove it")
    return {name: from_plain(_Record, value, f"{path}: {name}") for name, value in values.items()}


def _write_json(path: Path, content: object) -> None:
    part = path.with_name(f".{path.name}.part")  # under the lock of the folder, so that one left behind is written over
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)
