"""Many runs: in which order, in how many processes, and what happens when one fails."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

import torch
from tqdm import tqdm

from cgatlib.experiments.experiment import Experiment


def run_in_order(
    missing: Mapping[str, Experiment], train: Callable[[Experiment], None], workers: int
) -> dict[str, str]:
    """Train experiments, each as soon as the run it starts from is there; one that fails does not stop the others.

    Args:
        missing: experiments by key, with every source that does not exist yet.
        train: trains one; called in this process for one worker, in `workers` processes otherwise.

    Returns:
        {key: reason} of those that could not be trained.
    """
    failed: dict[str, str] = {}
    waiting, running = dict(missing), dict[Future[None], str]()
    pool = _Here() if workers == 1 else _processes(workers)
    with pool, tqdm(total=len(missing), unit=" runs", desc="training") as bar:
        while waiting or running:
            for key, experiment in list(waiting.items()):
                source = experiment.source.key if experiment.source else None
                if source in failed:
                    failed[key] = f"its source {source} failed"
                    del waiting[key]
                    bar.update()
                elif source not in waiting and source not in running.values():
                    running[_submit(pool, train, experiment)] = key
                    del waiting[key]
            done, _ = wait(running, return_when=FIRST_COMPLETED) if running else (set(), None)
            for future in done:
                key, error = running.pop(future), future.exception()
                if error is not None:
                    failed[key] = str(error) or type(error).__name__
                bar.update()
    return failed


class _Here(Executor):
    """Runs each job in this process before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # handed to whoever asks the future, as a pool does
            future.set_exception(error)
        return future


def _submit(pool: Executor, job: Callable[..., None], *arguments: Any) -> Future[None]:
    """Submit a job; a pool that a dying worker has broken fails the job instead of the caller."""
    try:
        return pool.submit(job, *arguments)
    except BrokenExecutor as error:
        failed: Future[None] = Future()
        failed.set_exception(error)
        return failed


def _processes(workers: int) -> ProcessPoolExecutor:
    threads = max(1, torch.get_num_threads() // workers)
    return ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (os.getpid(), threads))


def _start_worker(parent: int, threads: int) -> None:
    """Share the cores; end when the process that started this one is gone, instead of training on for nobody."""
    torch.set_num_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
