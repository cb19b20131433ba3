"""Many runs: in which order, in which processes or cluster jobs, and what happens when one fails."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cgatlib.experiments.experiment import Experiment
from cgatlib.processes import Processes

Train = Callable[[Experiment], None]
Report = Callable[[str, str | None], None]
"""Told the key of each run that ends, and why it failed, or None."""


@dataclass(frozen=True)
class Pool:
    """Where runs are trained.

    Args:
        make: starts an executor; again when a process of the last one has died.
        at_once: runs handed to it at a time; ``None`` hands over all that can start.
    """

    make: Callable[[], Executor]
    at_once: int | None


def local_pool(workers: int = 1) -> Pool:
    """This process for one worker, `workers` processes otherwise."""
    return Pool(_Here if workers == 1 else lambda: _processes(workers), workers)


def run_in_order(
    missing: Mapping[str, Experiment],
    train: Train,
    pool: Pool,
    report: Report = lambda key, reason: None,
    lost: Collection[str] = (),
) -> dict[str, str]:
    """Train experiments, each as soon as the run it starts from is there; one that fails does not stop the others.

    Args:
        missing: experiments by key, with every source that does not exist yet. train: trains one.
        pool: where. report: told of each that ends, in this process. lost: keys of sources that will not be there.

    Returns:
        {key: reason} of those that could not be trained.
    """
    failed: dict[str, str] = {}
    waiting, running = dict(missing), dict[Future[None], str]()

    def ended(key: str, reason: str | None) -> None:
        if reason is not None:
            failed[key] = reason
        report(key, reason)

    with ExitStack() as stack:
        executor = stack.enter_context(pool.make())
        while waiting or running:
            for key, experiment in list(waiting.items()):
                source = experiment.source.key if experiment.source else None
                if source is not None and (source in failed or source in lost):
                    del waiting[key]
                    ended(key, f"its source {source} failed")
                elif source not in waiting and source not in running.values():
                    if pool.at_once is not None and len(running) >= pool.at_once:
                        break
                    del waiting[key]
                    try:
                        future = executor.submit(train, experiment)
                    except BrokenExecutor:  # one process died; the run it had has failed, the others need a new pool
                        executor = stack.enter_context(pool.make())
                        future = executor.submit(train, experiment)
                    running[future] = key
            done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
            for future in done:
                ended(running.pop(future), _reason(future.exception()))
    return failed


def _reason(error: BaseException | None) -> str | None:
    if isinstance(error, BrokenExecutor):
        return "a training process ended abruptly, which often means that memory ran out"
    return None if error is None else str(error) or type(error).__name__


class _Here(Executor):
    """Runs each job in this process before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # handed to whoever asks the future, as a pool does
            future.set_exception(error)
        return future


@contextmanager
def one_thread() -> Iterator[None]:
    """For thousands of short operations, whose threads would wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _processes(workers: int) -> Processes:
    """They share the cores."""
    return Processes(workers, threads=max(1, torch.get_num_threads() // workers))
