"""``cgatlib runs list|show|verify|remove``."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cgatlib.cli import main
from cgatlib.experiments.experiment import Experiment, Run
from cgatlib.experiments.runner import RunStore
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, ["runs", *(str(a) for a in arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def runs(tmp_path, table, other_table, table_paths, tiny_graph, tiny_model) -> list[Run]:
    """A run and one that starts from it, in `tmp_path` / "runs"."""
    tables = dict(zip((table.fingerprint, other_table.fingerprint), table_paths, strict=True))
    store = RunStore(tmp_path / "runs", tables, tmp_path / "graphs")
    training = TrainingConfig(steps=2, batch_size=16, evaluations=1)
    plain = Experiment(table.fingerprint, "PBE", "e_form", graph=tiny_graph, model=tiny_model, training=training)
    full = replace(
        plain, data=other_table.fingerprint, functional="PBEsol", source=plain, transfer=TransferConfig("full")
    )
    return store.get_all([plain, full])


@pytest.fixture
def root(runs, tmp_path) -> Path:
    return tmp_path / "runs"


def test_list(runs, root):
    lines = invoke("list", "--runs", root).stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(run.path.name for run in runs)
    line = next(line for line in lines if line.startswith(runs[1].path.name))
    for part in ("PBEsol", "e_form", "full", "seed 0", f"test MAE {runs[1].metrics['test_mae']:.4g}"):
        assert part in line


def test_list_for_machines(runs, root):
    rows = {row["key"]: row for row in json.loads(invoke("list", "--runs", root, "--json").stdout)}
    plain, full = (rows[run.path.name] for run in runs)
    assert (plain["mode"], plain["source"]) == ("none", None)
    assert (full["mode"], full["source"], full["functional"]) == ("full", plain["key"], "PBEsol")
    assert full["test_mae"] == runs[1].metrics["test_mae"]
    assert full["n_train"] == runs[1].metrics["n_train"]


def test_unfinished_runs_are_not_listed(runs, root):
    (root / ".partial" / "0123456789abcdef").mkdir(parents=True)
    (root / "fedcba9876543210").mkdir()
    assert len(invoke("list", "--runs", root).stdout.splitlines()) == 2


def test_an_empty_folder_has_no_runs(tmp_path):
    (tmp_path / "none").mkdir()
    assert invoke("list", "--runs", tmp_path / "none").stdout == ""
    assert json.loads(invoke("list", "--runs", tmp_path / "none", "--json").stdout) == []
    assert "0 runs checked, 0 problems" in invoke("verify", "--runs", tmp_path / "none").stdout


@pytest.mark.parametrize("command", [["list"], ["verify"], ["show", "abc"], ["remove", "abc"]], ids=" ".join)
def test_a_folder_that_is_not_there_is_refused(command, tmp_path):
    error = invoke(*command, "--runs", tmp_path / "absent", code=2).stderr
    assert f"Error: {tmp_path / 'absent'} is not a folder of runs" in error


def test_show(runs, root):
    name = runs[1].path.name
    for key in (name, name[:6]):
        shown = json.loads(invoke("show", key, "--runs", root).stdout)
        assert Experiment.from_dict(shown["experiment"]) == runs[1].experiment
        assert shown["metrics"] == runs[1].metrics
        assert shown["provenance"] == runs[1].provenance


@pytest.mark.parametrize("command", ["show", "remove"])
def test_keys_that_name_no_run_or_several_are_refused(command, runs, root):
    names = ", ".join(sorted(run.path.name for run in runs))
    error = invoke(command, "zzz", "--runs", root, code=2).stderr
    assert f"Error: 'zzz' names 0 runs in {root}; known: {names}" in error
    error = invoke(command, "", "--runs", root, code=2).stderr
    assert f"Error: '' names 2 runs in {root}; candidates: {names}" in error
    assert all(run.path.exists() for run in runs)


def test_verify(runs, root):
    assert invoke("verify", "--runs", root).stdout.strip() == "2 runs checked, 0 problems"
    path = runs[0].path / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    (runs[1].path / "curve.parquet").unlink()
    text = invoke("verify", "--runs", root, code=1).stdout
    assert f"{runs[0].path.name}: predictions.parquet was changed after the run" in text
    assert f"{runs[1].path.name}: curve.parquet is missing" in text
    assert "2 runs checked, 2 problems" in text


def test_verify_goes_on_after_a_run_that_cannot_be_read(runs, root):
    first, second = sorted(runs, key=lambda run: run.path.name)
    (first.path / "provenance.json").write_text("{")
    (second.path / "curve.parquet").unlink()
    text = invoke("verify", "--runs", root, code=1).output
    assert f"{second.path.name}: curve.parquet is missing" in text
    assert first.path.name in text


def test_remove(runs, root):
    gone, kept = runs[1].path, runs[0].path
    assert f"removed {gone}" in invoke("remove", gone.name[:8], "--runs", root).stdout
    assert not gone.exists()
    assert kept.exists()
    assert len(invoke("list", "--runs", root).stdout.splitlines()) == 1
