"""Files and folders that the program makes: whole or not at all, never over something else, one process at a time.

Whoever writes an output does it in `replacing` (what a user names, ``--out``) or through `made_once` (what a cache
keeps). Meanwhile it lies beside its place as ``.NAME.PID-HOST.cgatlib.partial``, and ``.NAME.cgatlib.lock`` makes other
processes wait. Both are gone at the end; those of a process that was killed go when the next output is written there.
"""

import hashlib
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cgatlib import CgatError

if TYPE_CHECKING:
    from filelock import FileLock

PACKAGE = Path(__file__).resolve().parent
_log = logging.getLogger("cgatlib")  # without a handler, what it warns of goes to standard error as it is
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-(?P<host>.*)\.cgatlib\.(?P<kind>partial|old)")
_LOCK = re.compile(r"\.(?P<name>.+)\.cgatlib\.lock")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits; it is read in pieces. Raises `OSError` where it cannot be read."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def source_digest(package: Path = PACKAGE) -> str:
    """Fingerprint of the package's own Python sources: 16 hex digits over names and contents.

    Two processes with the same digest run the same code, committed or not.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def code_digest(*modules: str) -> str:
    """16 hex digits over the sources of modules of this package, by name without the package's: ``graphs.packing``."""
    digest = hashlib.sha256()
    for name in modules:
        digest.update(PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_bytes())
    return digest.hexdigest()[:16]


def refuse_same(out: Path, *inputs: Path) -> None:
    """Raise `CgatError` if `out` is one of the inputs, under whatever name, or a folder that one of them lies in."""
    target = Path(out).resolve()
    for path in inputs:
        source = Path(path).resolve()
        if target == source or (target.exists() and source.exists() and target.samefile(source)):
            raise CgatError(f"{out} is an input: it is not replaced by the output")
        if target in source.parents:
            raise CgatError(f"{out} holds the input {path}: it is not replaced by the output")


def refuse_other(out: Path, what: str, recognised: Callable[[Path], bool]) -> None:
    """Raise `CgatError` unless `out` is free or may be replaced, as `replacing` does; for asking before long work."""
    if out.is_symlink():
        raise CgatError(f"{out} is a symbolic link: neither it nor what it leads to is replaced")
    if out.exists() and not recognised(out):
        raise CgatError(f"{out} exists and is not {what}: it is not replaced")


def holds_only(folder: Path, *names: str, optional: Collection[str] = ()) -> bool:
    """Whether a folder holds `names`, perhaps `optional` ones, and nothing else: how an output is recognised."""
    return folder.is_dir() and set(names) <= {path.name for path in folder.iterdir()} <= {*names, *optional}


@contextmanager
def replacing(out: Path, what: str, recognised: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary path that takes the place of `out` when the block ends, and is removed when it fails.

    The block does the work and writes its file or folder there. A wrong `out` is refused before the block starts, other
    processes with the same `out` wait until it ends, and a replacement is told on standard error.

    Args:
        out: file or folder; its parent folders are made. what: it is, with its article, for messages.
        recognised: whether something that exists was written by this program as that very thing; only that is replaced.

    Raises:
        CgatError: `out` is something else, a symbolic link or no name for a file; or it cannot be written (its folder
            is read-only or a file, the disk is full): an `OSError` in the block becomes a sentence, too.
    """
    with locked(out), _replaced(out, what, recognised) as part:
        yield part


def made_once(
    out: Path,
    what: str,
    current: Callable[[Path], bool],
    make: Callable[[Path], None],
    recognised: Callable[[Path], bool] | None = None,
) -> None:
    """Have `make` write `out` unless it is there already; of several processes one does, the others wait and use it.

    Args:
        out: file or folder. what: it is, with its article, for messages.
        current: whether what exists is what would be made. make: writes a file or makes a folder at the path it gets.
        recognised: what else may be replaced, as in `replacing`; nothing by default.

    Raises:
        CgatError: as `replacing`.
    """
    if out.exists() and current(out):  # without a lock, so that a read-only folder can be used
        return
    with locked(out):
        if not (out.exists() and current(out)):  # else another process was faster
            with _replaced(out, what, recognised or current) as part:
                make(part)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes and threads that write `out` waiting, and clear away what killed ones have left beside it.

    Raises:
        CgatError: the folder that `out` lies in cannot be made or written to.
    """
    from filelock import FileLock, Timeout  # training from packed graphs does without

    with _sentences(out):
        if out.name in ("", ".."):
            raise CgatError(f"{out} is a folder, not a name for something new")
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.with_name(f".{out.name}.cgatlib.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("%s is being written by another process: waiting for it", out)
            lock.acquire()
    try:
        with _sentences(out):
            _clear(out)
        yield
    finally:
        _unlock(lock)


def _unlock(lock: "FileLock") -> None:
    with suppress(OSError):
        os.unlink(lock.lock_file)  # while it is held: a process that waits for this very file notices and starts over
    lock.release()


def _clear(out: Path) -> None:
    """Remove what killed processes left in the folder of `out`, whose lock is held."""
    from filelock import FileLock, Timeout
    from psutil import pid_exists

    for path in [Path(entry) for entry in os.scandir(out.parent) if entry.name.startswith(".")]:
        if left := _LEFT.fullmatch(path.name):
            own = left["name"] == out.name
            if not own and (left["host"] != socket.gethostname() or pid_exists(int(left["pid"]))):
                continue
            if left["kind"] == "old" and not path.with_name(left["name"]).exists():
                os.rename(path, path.with_name(left["name"]))  # it was killed before the new one had its place
            else:
                _remove(path)
        elif (lock := _LOCK.fullmatch(path.name)) and lock["name"] != out.name:
            with suppress(Timeout):
                other = FileLock(path)
                other.acquire(timeout=0)
                _unlock(other)


@contextmanager
def _replaced(out: Path, what: str, recognised: Callable[[Path], bool]) -> Iterator[Path]:
    part = out.with_name(f".{out.name}.{os.getpid()}-{socket.gethostname()}.cgatlib.partial")
    refuse_other(out, what, recognised)
    try:
        with _sentences(out):
            yield part
            _flush(part)
            refuse_other(out, what, recognised)  # it may have come meanwhile
            if out.exists():
                _log.warning("%s (%s) exists and is replaced", out, what)
            _put(part, out)
    finally:
        _remove(part)


def _put(part: Path, out: Path) -> None:
    """Rename; a folder that is replaced goes aside for a moment, from where `_clear` takes it back after a kill."""
    old = part.with_suffix(".old")
    if out.is_dir():
        os.rename(out, old)
    os.replace(part, out)
    _remove(old)
    _sync(out.parent)


def _flush(path: Path) -> None:
    """Have the disk hold a file, or a folder with all that is in it."""
    for below in path.rglob("*") if path.is_dir() else ():
        _sync(below)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _sentences(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename and out.name not in str(error.filename) else ""
        raise CgatError(f"{out} cannot be written: {error.strerror or error}{where}") from error
