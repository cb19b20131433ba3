"""`python -m fuzz.kills`: commands killed at random moments and started again, and three at a time on one output.

After a kill the same command must end as if nothing had happened: the same files with the same content, none that the
kill left, no process either. Commands run in forks of this process, which has imported what takes long, so that kills
meet their work; what they start themselves starts as ever.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import chain, product
from pathlib import Path
from random import Random
from typing import Any

import psutil

from cgatlib.cli import main

SLOW = ("papermill", "cgatbook.build", "cgatlib.crystals.importing", "cgatlib.runs.archive", "cgatlib.release")
"""What is imported once, before commands are forked; not above, where each process that one starts would do so too."""
NUMBERS = (signal.SIGINT, signal.SIGTERM)
TOKEN = "CGATLIB_KILLS"  # in the environment of everything that a command starts
PATIENCE = 300.0  # s until a command hangs, on a machine that is busy with other things
ALONE = 60.0  # s within which processes notice that they are alone, those too that had only begun to start
IN_ONE_OF_FOUR = 4  # kills meet a command while it starts, the others after it has begun to write

QUICK = "--batch-size 16 --steps 40 --label e_form"
PAGE = """---
jupytext: {text_representation: {extension: .md, format_name: myst, format_version: 0.13}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# Page

```{code-cell} ipython3
:tags: [parameters]

terms: int = 3000000  # of the sum
```

```{code-cell} ipython3
sum(1 / k**2 for k in range(1, terms))
```
"""
PLAN = {
    "about": "A source and two transfers",
    "tables": {name: {"file": f"{name}.parquet", "functional": name.upper()} for name in ("pbe", "scan")},
    "defaults": {"model": "tiny", "label": "e_form", "steps": 20, "batch_size": 16, "evaluations": 4, "cycles": 1},
    "runs": {
        "base": {"table": "pbe", "learning_rate": 0.003},
        "none": {"table": "scan", "learning_rate": [0.003, 0.01]},
        "full": {"table": "scan", "learning_rate": {"of": "none"}, "from": "base", "mode": "full"},
    },
}


@dataclass(frozen=True)
class Command:
    """A command, and the files that it is given, relative to the folder that it runs in."""

    name: str
    words: str
    inputs: Sequence[str]


COMMANDS = [
    Command("import", "data import many.jsonl --out out.parquet --functional PBE", ["many.jsonl"]),
    Command("graphs", "graphs many.parquet --out out --model tiny --workers {workers}", ["many.parquet"]),
    Command("train", f"train pbe.parquet --model tiny {QUICK} --seeds 0,1 --out out", ["pbe.parquet"]),
    Command("transfer", f"transfer scan.parquet --from base {QUICK} --out out", ["scan.parquet", "base"]),
    Command("sweep", "sweep plan.json --data . --workers {workers}", ["plan.json", "pbe.parquet", "scan.parquet"]),
    Command("book", "book build --root book", ["book"]),
]
TOGETHER = [
    *COMMANDS[:3],
    Command("predict", "predict --model base pbe.parquet --out out.csv", ["base", "pbe.parquet"]),
    Command("release", "model release runs/[0-9a-f]* --table pbe.parquet --out out", ["runs", "pbe.parquet"]),
]


@dataclass
class Report:
    """How the commands ended, and what was wrong."""

    ends: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Counts, then findings."""
        lines = [f"{n:>6}  {what}" for what, n in sorted(self.ends.items())]
        return "\n".join([*lines, f"{len(self.findings)} findings", *self.findings])


class Started:
    """A command in a fork of this process, in a session of its own."""

    def __init__(self, command: Command, folder: Path, log: Path, workers: int = 1) -> None:
        self.log, self.token = log, f"{os.getpid()}-{folder.name}-{log.name}"
        log.touch()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)  # until the fork is ready for them
        self.pid = os.fork()
        if self.pid == 0:
            _become(command.words.format(workers=workers), folder, log, self.token)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit code, negative of a signal; None if it hangs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return None

    def left(self) -> list[psutil.Process]:
        """Processes that it started and that are still there."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return os.getsid(process.pid) == self.pid or process.environ().get(TOKEN) == self.token
        return False


def _become(command: str, folder: Path, log: Path, token: str) -> None:
    """Run the command and end; in the fork."""
    code: Any = 1
    try:
        os.setsid()
        os.environ[TOKEN] = token
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False, buffering=1) for number in (1, 2))  # noqa: SIM115
        for number in NUMBERS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        os.chdir(folder)
        book = import_module("cgatbook.build")
        book.render = lambda stage, builder, folder: shutil.copytree(stage, folder / "out")  # Sphinx has its own tests
        words = [[word] if "*" not in word else sorted(map(str, Path().glob(word))) for word in command.split()]
        main.main([*chain(*words)], prog_name="cgatlib")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - it is what is looked for
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 1)


class Killing:
    """Inputs and results of undisturbed commands, and what happens to disturbed ones."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random, self.report = root, Random(seed), Report()
        self.given = root / "given"
        self.given.mkdir()
        self.results: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, tuple[float, float]] = {}  # until it writes, from then to the end
        _prepare(self.given, self._finish)

    def undisturbed(self, command: Command) -> dict[str, str]:
        """What the command leaves when nobody kills it."""
        if command.name not in self.results:
            folder = self._folder(command)
            before, start = _names(folder), time.monotonic()
            started = Started(command, folder, folder.with_suffix(".log"))
            first = None
            while os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if first is None and _names(folder) != before:
                    first = time.monotonic()
                time.sleep(0.002)
            self.seconds[command.name] = ((first or start) - start, time.monotonic() - (first or start))
            if started.wait() != 0:
                raise SystemExit(f"{command.words}: {started.log.read_text()}")
            self.results[command.name] = _contents(folder)
        return self.results[command.name]

    def kill(self, command: Command, case: int) -> None:
        """Kill the command at a random moment, and run it again."""
        expected = self.undisturbed(command)
        number = self.random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        whole_group = number != signal.SIGKILL and self.random.random() < 0.5  # as a terminal does
        folder = self._folder(command)
        started = Started(command, folder, folder.with_suffix(".log"), workers=1 if case // len(COMMANDS) % 3 else 2)
        self._wait_for_the_moment(command, folder, started)
        with suppress(ProcessLookupError):
            os.killpg(started.pid, number) if whole_group else os.kill(started.pid, number)
        code = started.wait(60)
        where = f"case {case}, {command.name}, {number.name}"
        self._judge_end(where, number, code, started)
        self._finish(command, folder, where)
        found = _contents(folder)
        if found != expected:
            names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            self.report.findings.append(f"{where}: not what an undisturbed command leaves: {', '.join(names)}")

    def together(self, command: Command) -> None:
        """Three at once on one output: what they leave is what one leaves."""
        expected, folder = self.undisturbed(command), self._folder(command)
        started = [Started(command, folder, folder.with_suffix(f".{i}.log")) for i in range(3)]
        codes = [one.wait() for one in started]
        texts = [one.log.read_text() for one in started]
        self.report.ends[f"three at once: {command.name}: {sorted(map(str, codes))}"] += 1
        if 0 not in codes or not {*codes} <= {0, 2} or any("Traceback" in text for text in texts):
            self.report.findings.append(f"three at once, {command.name}: {codes}: {_last(texts)}")
        if _contents(folder) != expected:
            self.report.findings.append(f"three at once, {command.name}: they leave something else than one does")

    def _folder(self, command: Command) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.root, prefix=command.name))
        for name in command.inputs:
            copy = shutil.copytree if (self.given / name).is_dir() else shutil.copy
            copy(self.given / name, folder / name)
        return folder

    def _wait_for_the_moment(self, command: Command, folder: Path, started: Started) -> None:
        before, (starting, working) = _names(folder), self.seconds[command.name]
        if self.random.randrange(IN_ONE_OF_FOUR) == 0:
            time.sleep(self.random.uniform(0, starting))
            return
        delay, until = self.random.uniform(0, working), time.monotonic() + PATIENCE
        while _names(folder) == before and psutil.pid_exists(started.pid) and time.monotonic() < until:
            if os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            time.sleep(0.002)
        time.sleep(delay)

    def _judge_end(self, where: str, number: signal.Signals, code: int | None, started: Started) -> None:
        text = started.log.read_text()
        told = f"{number.name}: stopped" in text and "Traceback" not in text
        began = code != -number or text != ""  # otherwise it was killed before it was a command
        if code is None:
            self.report.findings.append(f"{where}: still there a minute after")
        elif number != signal.SIGKILL and code != 0 and began and (code != 128 + number or not told):
            self.report.findings.append(f"{where}: exit code {code}: {_last([text])}")
        self.report.ends["had ended" if code == 0 else f"{number.name}: exit code {code}"] += 1
        until = time.monotonic() + ALONE
        while (left := started.left()) and time.monotonic() < until:
            time.sleep(0.1)
        if left:
            self.report.findings.append(f"{where}: {len(left)} processes left: {left[0]}")
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        if code is None:
            started.wait()

    def _finish(self, command: Command, folder: Path, where: str = "prepared") -> None:
        started = Started(command, folder, folder.with_suffix(".again.log"))
        code = started.wait()
        text = started.log.read_text()
        if code != 0 or "Traceback" in text:
            self.report.findings.append(f"{where}: started again, exit code {code}: {_last([text])}")


def _last(texts: Sequence[str]) -> str:
    return " | ".join(" ".join(text.split())[-300:] for text in texts)


def _names(folder: Path) -> set[str]:
    """Everything that lies in it."""
    return {str(path) for path in folder.rglob("*")}


def _contents(folder: Path) -> dict[str, str]:
    """Every file and empty folder by name: a digest, of what does not depend on time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(_timeless(path)).hexdigest()
        elif not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = ""
    return found


def _timeless(path: Path) -> bytes:
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text())["cells"]
        return json.dumps([[cell["source"], cell.get("outputs")] for cell in cells]).encode()
    if path.suffix == ".json":
        return json.dumps(_without(json.loads(path.read_text()))).encode()
    return path.read_bytes()


def _without(value: Any) -> Any:
    """Without times, and digests of files that hold them."""
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in ("seconds", "files", "stamps")}
    return [_without(item) for item in value] if isinstance(value, list) else value


def _prepare(folder: Path, run: Callable[[Command, Path], None]) -> None:
    """Tables, a model and its runs, a plan, a book."""
    for name, scale, times in (("pbe", 1.0, 1), ("scan", 0.98, 1), ("many", 1.0, 12)):
        lines = (json.dumps(row) for i in range(times) for row in _rows(scale + 0.001 * i, f"-{i}"))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        words = f"data import {name}.jsonl --out {name}.parquet --functional {name.upper()}"
        run(Command(name, words, []), folder)
    run(Command("base", f"train pbe.parquet --model tiny {QUICK} --seeds 0,1 --out base", []), folder)
    (folder / "plan.json").write_text(json.dumps(PLAN))
    pages = folder / "book" / "book"
    pages.mkdir(parents=True)
    (pages / "index.md").write_text("# Start\n")
    (pages / "01_page.md").write_text(PAGE)
    (pages / "parameters.yml").write_text("profiles: {demo: {about: the defaults}}\n")
    (folder / "book" / "_config.yml").write_text("title: T\n")
    (folder / "book" / "_toc.yml").write_text("{format: jb-book, root: book/index, chapters: [{file: book/01_page}]}")
    shutil.rmtree(folder / "runs" / ".graphs")


def _rows(scale: float, suffix: str) -> Iterator[dict[str, Any]]:
    """Rock salt and caesium chloride cells with a made-up energy."""
    for (z, cation), (y, anion), primitive in product(enumerate(CATIONS), enumerate(ANIONS), (True, False)):
        a = scale * (4 + 0.2 * z + 0.1 * y)
        other, diagonal = (a / 2, 0) if primitive else (0, a)
        matrix = [[diagonal if i == j else other for j in range(3)] for i in range(3)]
        sites = [
            {"species": [{"element": element, "occu": 1}], "abc": [place] * 3}
            for element, place in ((cation, 0), (anion, 0.5))
        ]
        structure = {"@class": "Structure", "lattice": {"matrix": matrix}, "sites": sites}
        yield {"id": f"{cation}{anion}{primitive}{suffix}", "structure": structure, "e_form": math.cos(3 * z + y)}


CATIONS, ANIONS = "Li Na K Rb Mg Ca Sr Ba".split(), "F Cl Br O S Se".split()


def run_kills(kills: int, seed: int, seconds: float = 1e9, together: Sequence[Command] = TOGETHER) -> Report:
    """Kill that many commands, or as many as begin within `seconds`, then run three at a time."""
    for name in SLOW:
        import_module(name)
    import_module("torch").set_num_threads(1)
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="kills") as root:
        killing = Killing(Path(root), seed)
        for case in range(kills):
            if time.monotonic() > until:
                break
            killing.kill(COMMANDS[case % len(COMMANDS)], case)
        for command in together:
            killing.together(command)
        return killing.report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m fuzz.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    report = run_kills(given.kills, given.seed)
    print(report.text())
    sys.exit(bool(report.findings))
