"""Many runs: in which order, in which processes or cluster jobs, and what happens when one fails."""

import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import torch

from cgatlib import CgatError
from cgatlib.processes import Processes
from cgatlib.runs.experiment import Experiment

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
    sources = {key: e.source.key if e.source else "" for key, e in missing.items()}
    order = TopologicalSorter({key: {source} & missing.keys() for key, source in sources.items()})
    order.prepare()
    failed, ready, running = dict[str, str](), list[str](), dict[Future[None], str]()

    def ended(key: str, reason: str | None) -> None:
        if reason is not None:
            failed[key] = reason
        report(key, reason)
        order.done(key)

    with ExitStack() as stack:
        executor = stack.enter_context(pool.make())
        while order.is_active():
            ready += order.get_ready()
            while ready and (pool.at_once is None or len(running) < pool.at_once):
                if sources[key := ready.pop(0)] in {*failed, *lost}:
                    ended(key, f"its source {sources[key]} failed")
                    continue
                try:
                    future = executor.submit(train, missing[key])
                except BrokenExecutor:  # one process died; the run it had has failed, the others need a new pool
                    executor = stack.enter_context(pool.make())
                    future = executor.submit(train, missing[key])
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


CLUSTERS = {"slurm": ("slurm", 10.0), "submitit-local": ("local", 0.5), "submitit-debug": ("debug", 0.1)}
"""Names of executors, what submitit calls them, and the seconds between two looks at their jobs; the last two try
things out without a queue, each run in a process of its own or all in this one."""


def cluster_pool(executor: str, logs: Path, parameters: Mapping[str, Any]) -> Pool:
    """Jobs of a queue, one per run; every run that can start is submitted at once.

    Args:
        executor: a key of `CLUSTERS`. logs: folder that the jobs share with this machine.
        parameters: as submitit's ``AutoExecutor`` takes them (``timeout_min``, ``gpus_per_node``, ``mem_gb``, ...);
            names it does not have, as ``partition``, are SLURM's.

    Raises:
        CgatError: submitit is not installed, there is no such queue here, or a parameter is unknown.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise CgatError(f"executor {executor!r} needs submitit: pip install 'cgatlib[slurm]'") from error
    name, seconds = CLUSTERS[executor]
    shared = submitit.AutoExecutor._valid_parameters()
    named = {key if key in shared else f"slurm_{key}": value for key, value in parameters.items()}
    try:
        queue = submitit.AutoExecutor(folder=logs, cluster=name)
        queue.update_parameters(**named)
    except (AssertionError, NameError, RuntimeError, TypeError) as error:
        raise CgatError(f"executor {executor!r}: {' '.join(str(error).split())}") from error
    return Pool(lambda: _Queue(queue, seconds), at_once=None)


@dataclass(frozen=True)
class _Job:
    """What a queue calls; it calls it again after a preemption or a time-out, and the run goes on where it was."""

    call: Callable[..., None]

    def __call__(self, *arguments: Any) -> str | None:
        try:
            self.call(*arguments)
        except Exception as error:  # noqa: BLE001  # the reason goes to whoever waits, the rest into the job's log
            traceback.print_exc()
            return str(error) or type(error).__name__
        return None

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit submits when it has to start the job again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _Queue(Executor):
    """Jobs as futures that can be waited for together; a thread looks after them."""

    def __init__(self, queue: Any, seconds: float) -> None:
        self._queue, self._seconds = queue, seconds
        self._jobs: list[tuple[Any, Future[Any]]] = []
        self._lock, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._jobs.append((self._queue.submit(_Job(fn), *args, **kwargs), future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Look after the jobs no longer; those that run go on, and the next sweep finds their results."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._seconds):
            with self._lock:
                jobs = list(self._jobs)
            for job, future in jobs:
                try:
                    _settle(job, future)
                except Exception as error:  # noqa: BLE001  # a queue that cannot be asked must not leave anyone waiting
                    future.set_exception(error)
            with self._lock:
                self._jobs = [pair for pair in self._jobs if not pair[1].done()]


def _settle(job: Any, future: Future[Any]) -> None:
    """Give a job that has ended its result: none, or why it failed, which it returned, unless it returned nothing."""
    if not job.done():
        return
    if job.exception() is not None:  # killed, out of time or memory
        reason = f"job {job.job_id} ended without a result; its log is {job.paths.stderr}"
    else:
        reason = job.result()
    if reason:
        future.set_exception(CgatError(reason))
    else:
        future.set_result(None)
