"""Many runs: in which order, in which processes or cluster jobs, and what happens when one fails."""

import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import torch

from cgatlib import CgatError
from cgatlib.processes import Processes
from cgatlib.runs.experiment import Experiment

Futures = Collection[Future[None]]


def first_ended(running: Futures) -> Futures:
    """Those that have ended, as soon as one has."""
    return wait(running, return_when=FIRST_COMPLETED)[0]


@dataclass(frozen=True)
class Pool:
    """Where runs are trained.

    Args:
        make: starts an executor; again when a process of the last one has died.
        at_once: runs handed to it at a time; ``None`` hands over all that can start. ended: as `first_ended`.
    """

    make: Callable[[], Executor]
    at_once: int | None = None
    ended: Callable[[Futures], Futures] = first_ended


def local_pool(workers: int = 1) -> Pool:
    """This process for one worker; otherwise `workers` processes, which share the cores."""
    threads = max(1, torch.get_num_threads() // workers)
    return Pool(_Here if workers == 1 else partial(Processes, workers, threads), workers)


def run_in_order(
    missing: Mapping[str, Experiment], train: Callable[[Experiment], None], pool: Pool, lost: Collection[str] = ()
) -> Iterator[tuple[str, str | None]]:
    """Train experiments, each as soon as the run it starts from is there; one that fails does not stop the others.

    Args:
        missing: experiments by key, with every source that does not exist yet. train: trains one.
        pool: where. lost: keys of sources that will not be there.

    Yields:
        The key of each run that ends, in the order in which they end, and why it failed, or None.
    """
    sources = {key: e.source.key if e.source else "" for key, e in missing.items()}
    order = TopologicalSorter({key: {source} & missing.keys() for key, source in sources.items()})
    order.prepare()
    failed, ready, running = set(lost), list[str](), dict[Future[None], str]()
    with _submitting(pool) as submit:
        while order.is_active():
            ready += order.get_ready()
            ended: list[tuple[str, str | None]] = []
            while ready and (pool.at_once is None or len(running) < pool.at_once):
                if sources[key := ready.pop(0)] in failed:
                    ended.append((key, f"its source {sources[key]} failed"))
                else:
                    running[submit(train, missing[key])] = key
            if running and not ended:
                ended = [(running.pop(future), _reason(future.exception())) for future in pool.ended(running)]
            for key, reason in ended:
                failed |= set() if reason is None else {key}
                order.done(key)
                yield key, reason


@contextmanager
def _submitting(pool: Pool) -> Iterator[Callable[..., Future[None]]]:
    """Hands jobs to an executor; after a process died, whose run has failed, the others go to a new one."""
    with ExitStack() as stack:
        executor = stack.enter_context(pool.make())

        def submit(*job: Any) -> Future[None]:
            nonlocal executor
            try:
                return executor.submit(*job)
            except BrokenExecutor:
                executor = stack.enter_context(pool.make())
                return executor.submit(*job)

        yield submit


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
    return Pool(partial(_Queue, queue), ended=partial(_jobs_ended, seconds))


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


class _Submitted(Future[Any]):
    """A job of a queue, which has its result when `_jobs_ended` has seen it end."""

    job: Any


class _Queue(Executor):
    """Jobs that go on when nobody waits for them any more: the next sweep finds their results."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = _Submitted()
        future.job = self._queue.submit(_Job(fn), *args, **kwargs)
        return future


def _jobs_ended(seconds: float, running: Collection[Any]) -> Collection[Future[None]]:
    """As `first_ended`, looking every few seconds; sets the result of each job that has ended, or why it failed."""
    while not (ended := [future for future in running if future.job.done()]):
        time.sleep(seconds)
    for future in ended:
        job = future.job
        if job.exception() is None:
            reason = job.result()
        else:  # killed, out of time or memory
            reason = f"job {job.job_id} ended without a result; its log is {job.paths.stderr}"
        if reason:
            future.set_exception(CgatError(reason))
        else:
            future.set_result(None)
    return ended
