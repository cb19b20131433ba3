"""Download of the public Alexandria files: resumed where it stopped, checked, with recorded checksums.

The files of one folder are listed in its ``checksums.json``: name -> url, bytes, sha256, and the server's ETag and
Last-Modified. A file on its way is ``NAME.part`` beside ``NAME.part.json``, which says what it is a part of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import requests

from cgatlib import CgatError

BASE_URL = "https://alexandria.icams.rub.de/data"
PBE_RELEASE = "2024.12.15"
PATTERNS = {
    "pbe": "pbe/{release}/alexandria_{i:03d}.json.bz2",
    "pbesol": "pbesol/alexandria_ps_{i:03d}.json.bz2",
    "scan": "scan/alexandria_scan_{i:03d}.json.bz2",
}
CHECKSUMS = "checksums.json"
CHUNK = 1 << 18
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""


class Bar(Protocol):
    """What a progress bar must do."""

    def update(self, n: float = 1) -> object:
        """Count ``n`` more bytes."""


MakeBar = Callable[[str, int, int | None], AbstractContextManager[Bar]]


@dataclass(frozen=True)
class Version:
    """Which version of a file the server sent, as far as it says."""

    url: str
    total: int | None
    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, response: requests.Response, url: str) -> Version:
        """Read the headers of an answer, whole or partial."""
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        content_range = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if content_range:
            total = int(content_range.group(1))
        return cls(url, total, response.headers.get("ETag"), response.headers.get("Last-Modified"))

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` takes: a strong ETag, else the date, else nothing (and then nothing is resumed)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def differs(self, other: Version) -> str | None:
        """Say in which header the two differ, None when they do not."""
        for what, mine, theirs in (
            ("ETag", self.etag, other.etag),
            ("size", self.total, other.total),
            ("date", self.last_modified, other.last_modified),
        ):
            if mine is not None and theirs is not None:
                if mine != theirs:
                    return f"{what} was {mine}, is {theirs}"
                if what == "ETag":
                    return None
        return None


@dataclass(frozen=True)
class Fetched:
    """One file: where it is and how it came (``fetched``, ``resumed``, ``restarted`` or ``kept``)."""

    path: Path
    how: str
    bytes: int
    sha256: str


def alexandria_urls(functional: str, files: range, base_url: str = BASE_URL, release: str = PBE_RELEASE) -> list[str]:
    """Return the addresses of the numbered files of one functional (``pbe``, ``pbesol``, ``scan``).

    Raises:
        CgatError: functional unknown.
    """
    pattern = PATTERNS.get(functional.lower())
    if pattern is None:
        raise CgatError(f"Alexandria has no functional {functional!r}; known: {', '.join(PATTERNS)}")
    return [f"{base_url.rstrip('/')}/{pattern.format(release=release, i=i)}" for i in files]


def fetch(url: str, to: Path, bar: MakeBar, replace_changed: bool = False) -> Fetched:
    """Fetch one file into the folder ``to`` unless it is there, whole and unchanged.

    Args:
        url: its address; the last part is the file's name.
        to: folder, made if absent.
        bar: makes a progress bar from name, bytes already there and bytes in all.
        replace_changed: fetch again a whole file that has changed on the server.

    Raises:
        CgatError: not found, no answer, ended too early (the part is kept and resumed by the next call), changed on
            the server, or the local file is not what was fetched.
    """
    to.mkdir(parents=True, exist_ok=True)
    target = to / url.rsplit("/", 1)[1]
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        kept = _kept(session, url, target, replace_changed) if target.exists() else None
        return kept or _download(session, url, target, bar)


def _kept(session: requests.Session, url: str, target: Path, replace_changed: bool) -> Fetched | None:
    """Return the file that is there; None when it is to be fetched again."""
    record = _checksums(target.parent).get(target.name)
    if record is None:
        raise CgatError(f"{target} is there but not in {CHECKSUMS}; move it away to fetch it")
    sha256 = _sha256(target)
    if sha256 != record["sha256"]:
        raise CgatError(f"{target} is not what was fetched (its sha256 differs); remove it to fetch it again")
    with _answer(session, "HEAD", url) as response:
        now = Version.of(response, url)
    before = Version(record["url"], record["bytes"], record["etag"], record["last_modified"])
    change = before.differs(now)
    if change and not replace_changed:
        raise CgatError(
            f"{url} has changed on the server since {target} was fetched ({change}); "
            "keep the file as it is or fetch it again with --replace-changed"
        )
    return None if change else Fetched(target, "kept", record["bytes"], sha256)


def _download(session: requests.Session, url: str, target: Path, bar: MakeBar) -> Fetched:
    part = target.with_name(target.name + ".part")
    note = target.with_name(target.name + ".part.json")
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
        with part.open("ab" if resumed else "wb") as file, bar(target.name, start, version.total) as progress:
            for chunk in _chunks(response, url, part):
                file.write(chunk)
                progress.update(len(chunk))
    return _finish(part, note, target, version, how)


def _resumable(part: Path, note: Path, url: str) -> tuple[int, str | None]:
    """Return how much of the file is there and what proves that the rest belongs to it."""
    if not (part.exists() and note.exists()):
        return 0, None
    version = Version(**json.loads(note.read_text(encoding="utf-8")))
    return (part.stat().st_size, version.validator) if version.url == url else (0, None)


def _finish(part: Path, note: Path, target: Path, version: Version, how: str) -> Fetched:
    size = part.stat().st_size
    if version.total is not None and size != version.total:
        raise CgatError(
            f"{version.url} ended after {size} of {version.total} bytes; {part} is kept, run the command again to go on"
        )
    sha256 = _sha256(part)
    record: dict[str, Any] = {"url": version.url, "bytes": size, "sha256": sha256}
    record |= {"etag": version.etag, "last_modified": version.last_modified}
    # The record first: a file without one is refused, a record without its file does no harm.
    _write_json(target.parent / CHECKSUMS, _checksums(target.parent) | {target.name: record})
    os.replace(part, target)
    note.unlink()
    return Fetched(target, how, size, sha256)


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


def _chunks(response: requests.Response, url: str, part: Path) -> Iterator[bytes]:
    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException as error:
        # What came is in the part already, so the next call goes on from there.
        raise CgatError(
            f"{url} was cut off ({type(error).__name__}); {part} is kept, run the command again to go on"
        ) from error


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CgatError(f"{path} is no JSON ({error}); repair or remove it") from error


def _write_json(path: Path, content: object) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(part, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
