"""In which order runs are trained, where, and what a failure does to the others."""

import operator
import os
import re
import sys
import textwrap
import threading
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from cgatlib import CgatError
from cgatlib.runs.schedule import CLUSTERS, Pool, cluster_pool, local_pool, run_in_order


@dataclass(frozen=True)
class Job:
    """Stands in for an experiment."""

    key: str
    source: "Job | None" = None


def chain(text: str) -> dict[str, Job]:
    """``"a a>b b>c"``: jobs by key, each from the one before the arrow."""
    jobs: dict[str, Job] = {}
    for word in text.split():
        source, _, key = word.rpartition(">")
        jobs[key] = Job(key, jobs[source] if source else None)
    return jobs


THREADS = Pool(lambda: ThreadPoolExecutor(3), 3)


@pytest.mark.parametrize("pool", [local_pool(1), THREADS, Pool(lambda: ThreadPoolExecutor(3), None)])
def test_sources_are_trained_first_and_each_once(pool):
    jobs = chain("a a>b b>c a>d e")
    done: list[str] = []

    def train(job):
        assert job.source is None or job.source.key in done
        time.sleep(0.01)
        done.append(job.key)

    assert dict(run_in_order(dict(reversed(jobs.items())), train, pool)) == dict.fromkeys(jobs)
    assert sorted(done) == sorted(jobs)


def test_a_source_that_is_not_among_them_exists_already():
    assert dict(run_in_order({"b": Job("b", Job("a"))}, lambda job: None, local_pool())) == {"b": None}


@pytest.mark.parametrize("pool", [local_pool(1), THREADS])
def test_what_starts_from_a_failed_run_is_not_tried(pool):
    tried: list[str] = []

    def train(job):
        tried.append(job.key)
        if job.key == "a":
            raise CgatError("no luck")
        if job.key == "e":
            raise MemoryError

    failed = {"a": "no luck", "b": "its source a failed", "c": "its source b failed", "e": "MemoryError"}
    assert dict(run_in_order(chain("a a>b b>c d e"), train, pool)) == {**failed, "d": None}
    assert sorted(tried) == ["a", "d", "e"]


def test_what_starts_from_a_lost_run_is_not_tried():
    jobs = {"b": Job("b", Job("a")), "c": Job("c")}
    ends = dict(run_in_order(jobs, lambda job: None, local_pool(), lost={"a"}))
    assert ends == {"b": "its source a failed", "c": None}


@pytest.mark.parametrize(("at_once", "together"), [(2, 2), (None, 6)])
def test_as_many_are_handed_over_as_the_pool_takes(at_once, together):
    barrier, handed = threading.Barrier(together, timeout=60), []

    class Counted(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            handed.append(super().submit(fn, *args, **kwargs))
            assert sum(not future.done() for future in handed) <= together
            return handed[-1]

    ends = dict(run_in_order(chain("a b c d e f"), lambda job: barrier.wait(), Pool(lambda: Counted(6), at_once)))
    assert ends == dict.fromkeys("abcdef")


class Fragile(ThreadPoolExecutor):
    """Breaks, as a pool of processes does, when it meets the job "bad"."""

    def __init__(self):
        super().__init__(1)
        self.broken = False

    def submit(self, fn, /, *args, **kwargs):
        if self.broken:
            raise BrokenExecutor
        if args[0].key == "bad":
            self.broken = True
            future: Future[None] = Future()
            future.set_exception(BrokenExecutor())
            return future
        return super().submit(fn, *args, **kwargs)


def test_a_process_that_dies_fails_its_run_only():
    assert dict(run_in_order(chain("a bad b c bad>d"), lambda job: None, Pool(Fragile, 1))) == {
        **dict.fromkeys("abc"),
        "bad": "a training process ended abruptly, which often means that memory ran out",
        "d": "its source bad failed",
    }


# Jobs of a queue: the functions here are of the standard library, as other processes cannot import this file.

GOOD, BAD = operator.attrgetter("key"), operator.attrgetter("only_first")
ONE_BAD = {"a": None, "b": "'types.SimpleNamespace' object has no attribute 'only_first'"}


@pytest.fixture
def jobs() -> dict[str, Job]:
    """Like `chain("a a>b")`, of a class that other processes know; BAD is good enough for the first."""
    first = SimpleNamespace(key="a", source=None, only_first=True)
    return {"a": first, "b": SimpleNamespace(key="b", source=first)}  # type: ignore[dict-item]


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands on the PATH, which run a job at once on this machine; `submissions` holds what was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    submissions = tmp_path / "submissions"
    submissions.mkdir()
    commands = {
        "sbatch": f"""
            number=$(ls {submissions} | wc -l)
            cp "$1" {submissions}/$number
            env SLURM_JOB_ID=$number SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 \\
              SLURM_LOCALID=0 SLURM_JOB_NODELIST=here bash "$1" > /dev/null 2>&1 &
            echo "Submitted batch job $number"
            """,
        "srun": 'while [ "$1" != -u ]; do shift; done; exec "$PYTHON" "$@"',
        "sacct": 'echo "JobID|State|NodeList"',
        "scontrol": "echo here",
    }
    for name, text in commands.items():
        script = folder / name
        script.write_text("#!/bin/bash\n" + textwrap.dedent(text))
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setitem(CLUSTERS, "slurm", ("slurm", 0.2))
    return submissions


def test_jobs_that_are_called_in_this_process(jobs, tmp_path):
    assert dict(run_in_order(jobs, GOOD, cluster_pool("submitit-debug", tmp_path, {}))) == {"a": None, "b": None}
    assert dict(run_in_order(jobs, BAD, cluster_pool("submitit-debug", tmp_path, {}))) == ONE_BAD


@pytest.mark.slow
def test_jobs_in_processes_of_their_own(jobs, tmp_path):
    assert dict(run_in_order(jobs, BAD, cluster_pool("submitit-local", tmp_path, {"timeout_min": 9}))) == ONE_BAD
    assert sum("Traceback" in path.read_text() for path in tmp_path.glob("*.err")) == 1


@pytest.mark.slow
def test_a_job_that_ends_without_a_result_is_named_with_its_log(jobs, tmp_path):
    pool = cluster_pool("submitit-local", tmp_path, {})
    ((_, reason),) = run_in_order({"a": jobs["a"]}, lambda job: os._exit(3), pool)
    assert re.match(rf"job \d+ ended without a result; its log is {tmp_path}", reason)


@pytest.mark.slow
def test_jobs_of_slurm_with_their_parameters(jobs, tmp_path, fake_slurm):
    parameters = {"timeout_min": 90, "gpus_per_node": 2, "partition": "gpu", "qos": "long"}
    assert dict(run_in_order(jobs, GOOD, cluster_pool("slurm", tmp_path / "logs", parameters))) == dict.fromkeys("ab")
    first, second = (path.read_text() for path in sorted(fake_slurm.iterdir()))
    for line in ("--time=90", "--gpus-per-node=2", "--partition=gpu", "--qos=long"):
        assert f"#SBATCH {line}\n" in first
        assert f"#SBATCH {line}\n" in second


def test_without_slurm_or_with_unknown_parameters_one_is_told(tmp_path, fake_slurm, monkeypatch):
    with pytest.raises(CgatError, match=r"executor 'slurm': Unknown argument 'speed' for executor 'slurm'.*partition"):
        cluster_pool("slurm", tmp_path, {"speed": 3})
    with pytest.raises(CgatError, match=r"executor 'slurm': Parameter \"timeout_min\" expected type <class 'int'>"):
        cluster_pool("slurm", tmp_path, {"timeout_min": "long"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        CgatError, match=r'executor \'slurm\': Could not detect "srun", are you indeed on a slurm clust'
    ):
        cluster_pool("slurm", tmp_path, {})


def test_without_submitit_one_is_told_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(CgatError, match=r"executor 'slurm' needs submitit: pip install 'cgatlib\[slurm\]'"):
        cluster_pool("slurm", tmp_path, {})
