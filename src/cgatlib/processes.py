"""Processes that do not outlive the one that started them, and commands that can be stopped.

A command's outputs are whole or not there even when it is killed. Asked to stop, it therefore cleans up nothing: it
says what comes next, ends its processes, and ends at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from types import FrameType, TracebackType
from typing import Any, TypeVar

import psutil

from cgatlib import CgatError

T = TypeVar("T")
_WATCH = 0.5  # s between two looks at the parent


def end_with(parent: int) -> None:
    """End this process soon after `parent`, the process that started it, has ended in whatever way."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Processes(ProcessPoolExecutor):
    """A pool of processes that end with this one, and at once when the ``with`` block is left by an exception.

    Args:
        workers: how many. threads: that PyTorch uses in each of them, where that matters.

    Raises:
        CgatError: at the end of the block, which a process that ended abruptly has broken off.
    """

    def __init__(self, workers: int, threads: int | None = None) -> None:
        super().__init__(workers, get_context("spawn"), _start, (os.getpid(), threads))

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Submit a call; a process started for it ignores Ctrl-C, which a terminal sends to the whole group."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # nobody waits for what they do; Python 3.14 has kill_workers
            for process in list((self._processes or {}).values()):
                process.kill()
        self.shutdown(cancel_futures=kind is not None)
        if isinstance(error, BrokenExecutor):
            raise CgatError("a process ended abruptly, which often means that memory ran out") from error


def _start(parent: int, threads: int | None) -> None:
    end_with(parent)  # first of all: what follows takes seconds
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def stoppable(sentence: Callable[[], str]) -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM with `sentence` on standard error and exit code 130 or 143.

    A signal that is ignored, as of a command in the background of a script, stays so. Outside the main thread, which
    gets no signals, nothing changes.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError, OSError, ValueError):  # busy or gone
            sys.stdout.flush()
        os.write(2, f"\n{signal.Signals(number).name}: {sentence()}\n".encode())
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        os._exit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
