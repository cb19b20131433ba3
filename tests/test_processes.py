"""What becomes of processes when the one that started them ends, and what a command says that is stopped."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from cgatlib import CgatError
from cgatlib.cli import _stopped, main
from cgatlib.processes import Processes

BUSY = """
import sys, time
from cgatlib.processes import Processes, stoppable
if __name__ == "__main__":
    with stoppable(lambda: "stopped."), Processes(2) as pool:
        waiting = [pool.submit(time.sleep, 60) for _ in range(9)]
        while not all(job.running() for job in waiting[:2]):
            time.sleep(0.01)
        print("ready", flush=True)
        waiting[0].result()
"""


@pytest.fixture
def busy(tmp_path: Path) -> subprocess.Popen[str]:
    """A program that waits for two processes of its own."""
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell without a terminal lets its background commands ignore Ctrl-C, and what they start as well.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    program = subprocess.Popen([sys.executable, script], preexec_fn=heard, **pipes)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


def _all_end(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=10)[1]


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "\nSIGINT: stopped.\n"),
        (signal.SIGTERM, 143, "\nSIGTERM: stopped.\n"),
        (signal.SIGKILL, -9, None),  # what Python itself says of its semaphores
    ],
)
def test_however_a_program_ends_its_processes_end_too(busy, number, code, said):
    processes = psutil.Process(busy.pid).children(recursive=True)
    assert len(processes) >= 2
    busy.send_signal(number)
    assert busy.wait(timeout=10) == code
    assert _all_end(processes)
    assert said in (None, busy.stderr.read())


def test_a_block_left_by_an_exception_waits_for_nobody():
    def interrupted() -> None:
        with Processes(1) as pool:
            jobs = [pool.submit(time.sleep, 60) for _ in range(3)]
            while not jobs[0].running():
                time.sleep(0.01)
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - start < 20


def test_ctrl_c_is_not_for_the_processes():
    with Processes(1) as pool:
        number = pool.submit(os.getpid).result()
        os.kill(number, signal.SIGINT)
        assert pool.submit(os.getpid).result() == number


def test_a_process_that_dies_is_told_in_a_sentence():
    sentence = "a process ended abruptly, which often means that memory ran out"
    with pytest.raises(CgatError, match=sentence), Processes(1) as pool:
        pool.submit(os._exit, 3).result()


def test_a_block_left_without_one_waits_for_its_jobs():
    with Processes(1) as pool:
        jobs = [pool.submit(abs, -n) for n in range(3)]
    assert [job.result() for job in jobs] == [0, 1, 2]


@pytest.mark.parametrize(
    ("command", "resumed"),
    [("train", True), ("book build", True), ("data fetch", True), ("data import", False), ("graphs", False)],
)
def test_a_stopped_command_says_whether_it_goes_on(command, resumed):
    assert ("goes on where this one was" in _stopped(f"cgatlib {command}")) == resumed


def test_handlers_are_as_before_after_a_command():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert CliRunner().invoke(main, ["model", "list"]).exit_code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    script = tmp_path / "deaf.py"
    script.write_text(
        "import os, signal\nfrom cgatlib.processes import stoppable\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with stoppable(lambda: ''):\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    assert subprocess.run([sys.executable, script], check=False).returncode == 0


@pytest.mark.parametrize(("given", "used"), [(None, "2000"), ("5", "5")])
def test_commands_let_threads_wait_without_counting_unless_told_otherwise(given: str | None, used: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    code = "import os, cgatlib.cli; print(os.environ['GOMP_SPINCOUNT'])"
    env |= {} if given is None else {"GOMP_SPINCOUNT": given}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == used
