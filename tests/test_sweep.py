"""``cgatlib sweep``: a plan is run to its end, whatever stops it or fails on the way."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cgatlib.cli import main
from cgatlib.files import file_digest
from cgatlib.model.config import ModelConfig
from cgatlib.runs.archive import RunArchive, find_runs
from cgatlib.runs.experiment import Run
from cgatlib.runs.plan import Plan, run_plan
from cgatlib.runs.schedule import Pool, local_pool
from cgatlib.runs.store import Runs

RATES = [0.001, 0.02]


@pytest.fixture(scope="module")
def study(tiny_model: ModelConfig) -> dict[str, Any]:
    """Pre-training, training by trial of two learning rates, and transfer at the rate chosen: 7 runs."""
    names = ("atom_width", "edge_width", "heads", "steps", "neighbours", "output_widths", "roost_steps")
    both = {"seeds": [0, 1]}
    return {
        "about": "A small study",
        "tables": {
            "pbe": {"file": "pbe.parquet", "functional": "PBE"},
            "pbesol": {"file": "pbesol.parquet", "functional": "PBEsol"},
        },
        "defaults": {
            "model": "tiny",
            "network": {name: getattr(tiny_model, name) for name in names},
            "graph": {"neighbours": 4},
            "label": "volume_per_atom",
            "steps": 3,
            "batch_size": 8,
            "evaluations": 1,
        },
        "runs": {
            "base": {"table": "pbe", "learning_rate": 0.01, **both},
            "none": {"table": "pbesol", "learning_rate": RATES, "sizes": [20, 40]},
            "full": {"table": "pbesol", "from": "base", "mode": "full", "learning_rate": {"of": "none"}, **both},
        },
    }


@pytest.fixture
def content(study) -> dict[str, Any]:
    """The study, for changes."""
    return copy.deepcopy(study)


def run_in(folder: Path, data: Path, content: dict[str, Any], *arguments: str, code: int = 0) -> Result:
    (folder / "plan.yaml").write_text(json.dumps(content))
    options = ["--data", str(data), "--runs", str(folder / "runs")]
    result = CliRunner().invoke(main, ["sweep", str(folder / "plan.yaml"), *options, *arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def sweep(tmp_path: Path, table_paths: tuple[Path, Path]):
    """Run the command on a plan."""
    return partial(run_in, tmp_path, table_paths[0].parent)


@pytest.fixture(scope="module")
def swept(study, table_paths, tmp_path_factory) -> tuple[Path, list[str]]:
    """The runs of the study, and what the command said."""
    folder = tmp_path_factory.mktemp("swept")
    return folder / "runs", run_in(folder, table_paths[0].parent, study).stdout.splitlines()


@pytest.fixture
def runs(swept, tmp_path) -> Path:
    """A copy of them, where `sweep` finds them."""
    return shutil.copytree(swept[0], tmp_path / "runs")


def finished(folder: Path) -> dict[str, int]:
    """When each run of a folder was finished, by key."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/provenance.json")}


def test_a_plan_is_run_once(content, swept, sweep, runs, table):
    lines = swept[1]
    assert f"table pbe: 144 crystals, fingerprint {table.fingerprint}" in lines
    assert sum("test MAE" in line for line in lines) == 7
    assert any(line.startswith("none seed 0 size 40 rate 0.02: test MAE ") for line in lines)
    assert lines[-4:] == ["base: 2 done", "none: 3 done", "full: 2 done", "7 runs done, 0 reused, 0 failed"]
    late = "runs have not converged: their best step is in the last tenth"  # each is scored once, at its end
    assert {f"base: 2 of 2 {late}", f"none: 2 of 2 {late}", f"full: 2 of 2 {late}"} <= set(lines)
    assert sum("none: the best learning rate" in line for line in lines) == 1
    stamps = finished(runs)
    again = sweep(content)
    assert again.stdout.splitlines()[-1] == "0 runs done, 7 reused, 0 failed"
    assert "test MAE" not in again.stdout
    assert finished(runs) == stamps


def test_a_dry_run_lists_what_would_be_trained_and_trains_nothing(content, swept, sweep, tmp_path):
    listed = sweep(content, "--dry-run").stdout.splitlines()
    assert listed[-1] == "7 of 7 runs would be trained, 21 steps in all"
    assert "base seed 1 rate 0.01" in listed
    assert "none seed 0 size 40 rate 0.02" in listed
    assert finished(tmp_path / "runs") == {}
    content["runs"]["more"] = {"table": "pbe", "learning_rate": 0.5, "steps": 5}
    content["runs"]["zero"] = {"table": "pbesol", "from": "base", "mode": "untouched", "target_statistics": "source"}
    assert sweep(content, "--dry-run", "--stored", str(swept[0])).stdout.splitlines()[-3:] == [
        "more seed 0 rate 0.5",
        "zero seed 0",
        "2 of 9 runs would be trained, 5 steps in all",
    ]


def test_some_entries_are_run_with_what_they_need(content, sweep):
    content["runs"]["lone"] = content["runs"]["zero"] = {"table": "pbe", "learning_rate": 0.02}
    listed = sweep(content, "--only", "full, lone", "--dry-run").stdout.splitlines()
    assert listed[-1] == "8 of 8 runs would be trained, 24 steps in all"  # trials of the learning rate that is taken
    assert sweep(content, "--only", "base", "--only", "lone").stdout.splitlines()[-3:] == [
        "base: 2 done",
        "lone: 1 done",
        "3 runs done, 0 reused, 0 failed",
    ]


def test_a_failed_run_stops_only_what_needs_it(content, sweep, tmp_path):
    content["runs"]["none"]["sizes"] = [20, 5000]  # the larger decides the learning rate, and cannot be had
    content["runs"]["head"] = {"table": "pbesol", "from": "base", "mode": "head", "learning_rate": 0.01}
    content["runs"]["lost"] = {"table": "pbesol", "from": "bad", "mode": "full", "learning_rate": 0.01}
    content["runs"]["bad"] = {"table": "pbe", "learning_rate": 1.0e30, "steps": 40}
    lines = sweep(content, code=1).stdout.splitlines()
    assert lines[-1] == "3 runs done, 0 reused, 4 failed"
    reasons = {line.split(": ")[1]: line for line in lines if line.startswith("failed: ")}
    for rate in ("0.001", "0.02"):
        assert "a training subset of 5000 crystals was asked for" in reasons[f"none seed 0 size 5000 rate {rate}"]
    assert "no longer finite" in reasons["bad seed 0 rate 1e+30"]
    assert "its source" in reasons["lost seed 0 rate 0.01"]
    for name in ("none", "full"):
        assert any(
            line.startswith(f"not run: {name}: the learning rate of none is open: no run at 0.001") for line in lines
        )
    assert {"base: 2 done", "head: 1 done", "lost: 1 failed", "bad: 1 failed"} <= set(lines)


def test_what_has_failed_is_tried_again(content, sweep):
    content["runs"] = {"bad": {"table": "pbe", "learning_rate": 1.0e30, "steps": 40}}
    sweep(content, code=1)
    content["runs"]["bad"]["learning_rate"] = 0.01
    assert sweep(content).stdout.splitlines()[-1] == "1 runs done, 0 reused, 0 failed"


def test_a_table_without_graphs_fails_its_runs_only(content, table_paths, tmp_path):
    content["defaults"]["graph"] = {"neighbours": 4, "max_radius": 1.0}
    content["runs"] = {"base": content["runs"]["base"], "none": {"table": "pbesol", "learning_rate": 0.01}}
    content["runs"]["none"]["graph"] = {"neighbours": 4}
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(content))
    plan = Plan.read(path).open(table_paths[0].parent, tmp_path / "tables")
    told: list[Run | str] = []
    store = Runs(tmp_path / "runs", plan.opened, tmp_path / "graphs")
    summary = run_plan(plan, store, local_pool(), report=lambda planned, outcome: told.append(outcome))
    assert [str(planned) for planned in summary.done] == ["none seed 0 rate 0.01"]
    assert {str(planned): reason[:32] for planned, reason in summary.failed.items()} == {
        f"base seed {seed} rate 0.01": "no crystal has a graph: atom 0 h" for seed in (0, 1)
    }
    assert [isinstance(outcome, Run) for outcome in told] == [False, False, True]


def test_archived_runs_are_reused(content, swept, sweep, tmp_path):
    RunArchive.write(tmp_path / "archives" / "study", find_runs(swept[0]).values())
    result = sweep(content, "--stored", str(tmp_path / "archives"))
    assert result.stdout.splitlines()[-1] == "0 runs done, 7 reused, 0 failed"
    content["runs"]["full"]["seeds"] = [0]
    content["runs"]["head"] = {"table": "pbesol", "from": "base", "mode": "head", "learning_rate": 0.01}
    lines = sweep(content, "--stored", str(tmp_path / "archives")).stdout.splitlines()
    assert lines[-1] == "2 runs done, 5 reused, 0 failed"  # the archive has no weights to start from
    assert sum(line.startswith(("base seed 0", "head seed 0")) and "test MAE" in line for line in lines) == 2


def test_complete_runs_of_other_code_are_reused_and_started_from(content, runs, sweep, tmp_path, monkeypatch):
    found = find_runs(runs)
    RunArchive.write(tmp_path / "archive", found.values())
    complete = runs.rename(tmp_path / "complete")
    for key, run in found.items():
        if run.experiment.source is not None:
            shutil.rmtree(complete / key)
    monkeypatch.setattr("cgatlib.runs.store.training_code", lambda: "f" * 16)
    content["runs"]["head"] = {"table": "pbesol", "from": "base", "mode": "head", "learning_rate": 0.01}
    both = ("--stored", str(tmp_path / "archive"), "--stored", str(complete))
    assert sweep(content, *both).stdout.splitlines()[-1] == "1 runs done, 7 reused, 0 failed"
    (run,) = find_runs(tmp_path / "runs").values()
    source = complete / run.provenance["source"]
    assert run.provenance["source_run"]["weights"] == file_digest(source / "weights.safetensors")
    assert run.provenance["source_run"]["training_code"] != run.provenance["training_code"] == "f" * 16


def test_a_run_that_is_said_to_be_done_but_is_not_there_has_failed(content, table_paths, tmp_path):
    class Forgetful(Runs):
        def fill(self, missing, pool, workers, lost):
            yield from dict.fromkeys(missing).items()

    content["runs"] = {"base": content["runs"]["base"]}
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(content))
    plan = Plan.read(path).open(table_paths[0].parent, tmp_path / "tables")
    summary = run_plan(plan, Forgetful(tmp_path / "runs"), Pool(lambda: None))
    assert set(summary.failed.values()) == {f"it was trained, but {tmp_path / 'runs'} has no run of it by this code"}
    assert (summary.done, summary.reused) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--slurm", "partition=gpu"], "--slurm goes with --executor slurm"),
        (["--executor", "submitit-debug", "--slurm", "gpu"], "--slurm 'gpu' is not NAME=VALUE"),
        (["--executor", "pbs"], "'pbs' is not one of 'local', 'slurm'"),
        (["--stored", "absent"], "absent is not a folder of runs"),
        (["--only", "base,hal"], "the plan has no run 'hal'; known: base, none, full"),
    ],
)
def test_refused(arguments, sentence, content, sweep):
    assert sentence in sweep(content, *arguments, code=2).stderr


def test_parameters_of_jobs_are_read(content, sweep, monkeypatch, tmp_path):
    got: list[tuple[str, Path, dict[str, Any]]] = []

    def pool(executor: str, logs: Path, parameters: dict[str, Any]) -> Pool:
        got.append((executor, logs, parameters))
        return local_pool()

    monkeypatch.setattr("cgatlib.runs.schedule.cluster_pool", pool)
    arguments = ["--slurm", "partition=gpu,timeout_min=90", "--slurm", "qos=long", "--dry-run"]
    sweep(content, "--executor", "slurm", *arguments)
    parameters = {"partition": "gpu", "timeout_min": 90, "qos": "long"}
    assert got == [("slurm", (tmp_path / "runs" / ".jobs").resolve(), parameters)]


def test_the_device_and_the_number_of_devices_reach_the_runs(content, sweep, monkeypatch):
    stores: list[Runs] = []
    monkeypatch.setattr(Runs, "missing", lambda store, experiments: stores.append(store) or {})
    sweep(content, "--device", "mps", "--devices", "3", "--dry-run")
    assert {(store.accelerator, store.devices) for store in stores} == {("mps", 3)}


# Whole processes


def same(first: Run, second: Run) -> bool:
    return first.predictions.equals(second.predictions) and first.curve.equals(second.curve)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "submitit-debug", "submitit-local"])
def test_each_executor_gives_the_same_runs(executor, content, sweep, tmp_path):
    content["runs"]["base"]["seeds"] = content["runs"]["full"]["seeds"] = [0]
    sweep(content)
    expected = find_runs((tmp_path / "runs").rename(tmp_path / "expected"))
    options = ["--workers", "2"] if executor == "local" else []
    lines = sweep(content, "--executor", executor, *options).stdout.splitlines()
    assert lines[-1] == "5 runs done, 0 reused, 0 failed"
    found = find_runs(tmp_path / "runs")
    assert set(found) == set(expected)
    assert all(same(run, expected[key]) for key, run in found.items())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_sweep_goes_on_where_it_was(workers, content, sweep, tmp_path, table_paths):
    content["runs"]["none"] = {"table": "pbesol", "learning_rate": 0.01, "steps": 100_000, "evaluations": 100}
    content["runs"]["full"] |= {"learning_rate": 0.01}
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(content))
    runs = tmp_path / "runs"
    arguments = [str(path), "--data", str(table_paths[0].parent), "--runs", str(runs), "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from cgatlib.cli import main; main()", "sweep", *arguments],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while len(finished(runs)) < 2 or not list(runs.glob(".partial/*/checkpoint.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(5)  # workers notice that they are alone
    before = finished(runs)
    content["runs"]["none"] |= {"steps": 4}
    content["runs"]["none"]["evaluations"] = 1
    lines = sweep(content).stdout.splitlines()
    reused = len(before)
    assert lines[-1] == f"{5 - reused} runs done, {reused} reused, 0 failed"
    after = finished(runs)
    assert {key: after[key] for key in before} == before
    assert all(run.problems() == [] for run in find_runs(runs).values())
