"""Runs mutated files in child processes that may neither hang, nor grow, nor raise anything but `CgatError`.

A target has seeds (whole files, as bytes) and a function that is called with mutated bytes and an empty folder. What
it raises other than `CgatError` is a finding; so is its death by a limit of time or memory.
"""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pyarrow as pa

from cgatlib import CgatError
from fuzz.mutations import mutate

CPU_SECONDS, WALL_SECONDS = 5.0, 60.0  # of one file; the second is for a machine that is busy with other things
MEMORY = 1 << 30  # bytes of address space beyond what the process has before a file
GENERATION = 500  # files after which a fresh process goes on, as libraries keep some memory


@dataclass(frozen=True)
class Target:
    """What is fuzzed: whole files, and a function that deals with one and returns how, in a word or two.

    Both must be picklable: a function of a module, or a `partial` of one.
    """

    name: str
    seeds: Sequence[bytes]
    run: Callable[[bytes, Path], str]


@dataclass(frozen=True)
class Result:
    """How a file ended; a finding has the type of the error and its line, or the limit that was passed."""

    target: str
    case: int
    outcome: str
    finding: bool = False
    message: str = ""


@dataclass
class Report:
    """What came out of a run."""

    results: list[Result] = field(default_factory=list)

    @property
    def findings(self) -> list[Result]:
        """The files that were not dealt with."""
        return [result for result in self.results if result.finding]

    def text(self) -> str:
        """Counts by outcome, then every kind of finding with its first case."""
        lines = [f"{len(self.results)} files, {len(self.findings)} findings"]
        counts = Counter(result.outcome for result in self.results if not result.finding)
        lines += [f"{n:>8}  {outcome}" for outcome, n in counts.most_common()]
        kinds: dict[tuple[str, str], list[Result]] = {}
        for found in self.findings:
            kinds.setdefault((found.target, found.outcome), []).append(found)
        for (target, outcome), found in sorted(kinds.items()):
            lines.append(f"{len(found):>8}  FINDING in {target}, case {found[0].case}: {outcome}: {found[0].message}")
        return "\n".join(lines)


def case_of(targets: Sequence[Target], seed: int, case: int) -> tuple[Target, bytes]:
    """The target of a case and its file, always the same for one seed."""
    random = Random(f"{seed}/{case}")
    target = targets[case % len(targets)]
    return target, mutate(random.choice(target.seeds), random)


def fuzz(targets: Sequence[Target], cases: int, seed: int = 0, workers: int = 2, seconds: float = 1e9) -> Report:
    """Run the cases, or as many of them as begin within `seconds`."""
    until = time.monotonic() + seconds
    slices = [range(first, cases, workers) for first in range(workers)]
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        parts = pool.map(_supervise, *zip(*((targets, seed, part, until) for part in slices), strict=True))
        return Report(sorted((result for part in parts for result in part), key=lambda result: result.case))


def _supervise(targets: Sequence[Target], seed: int, cases: Sequence[int], until: float) -> list[Result]:
    """Run cases in a child; when one kills it, go on behind that one in another."""
    results, left = [], deque(cases)
    while left and time.monotonic() < until:
        with tempfile.TemporaryDirectory(prefix="fuzz", ignore_cleanup_errors=True) as root:
            reader, writer = Pipe(duplex=False)
            if (child := os.fork()) == 0:
                try:
                    _child(targets, seed, list(left)[:GENERATION], until, writer, Path(root))
                    os._exit(0)
                finally:
                    os._exit(1)  # never back into what called this in the parent
            writer.close()
            for result in _received(reader):
                results.append(result)
                left.popleft()
            status = os.waitpid(child, 0)[1]
        if status:
            name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "an error of the harness"
            case = left.popleft()
            results.append(Result(case_of(targets, seed, case)[0].name, case, f"killed by {name}", finding=True))
    return results


def _received(reader: Connection) -> Iterator[Result]:
    with suppress(EOFError):
        while True:
            yield reader.recv()


def _child(
    targets: Sequence[Target], seed: int, cases: Sequence[int], until: float, writer: Connection, root: Path
) -> None:
    _prepare()
    for case in cases:
        if time.monotonic() > until:
            return
        target, data = case_of(targets, seed, case)
        folder = root / str(case)
        folder.mkdir()
        _bound_memory()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        result = _run(target, case, data, folder)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        shutil.rmtree(folder, ignore_errors=True)
        writer.send(result)


def _run(target: Target, case: int, data: bytes, folder: Path) -> Result:
    try:
        return Result(target.name, case, target.run(data, folder))
    except CgatError as error:
        if "\n" in str(error):
            return Result(target.name, case, "a sentence of several lines", finding=True, message=repr(str(error)))
        return Result(target.name, case, "refused with a sentence")
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        lines = [
            f for f in traceback.extract_tb(error.__traceback__) if "cgatlib" in f.filename or "fuzz" in f.filename
        ]
        where = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}"
        message = " ".join(str(error).split())[:200]
        return Result(target.name, case, f"{type(error).__name__} at {where}", finding=True, message=message)


def _prepare() -> None:
    """Let the timers end the process, which no code of Python or C can then delay."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    pa.set_memory_pool(pa.system_memory_pool())  # the others reserve gigabytes of addresses in advance
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _bound_memory() -> None:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
