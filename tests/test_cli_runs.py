"""``cgatlib runs list|show|verify|archive|remove``."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cgatlib.cli import main
from cgatlib.runs.archive import RunArchive
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.store import Runs
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
    tables = {t.fingerprint: t for t in (table, other_table)}
    store = Runs(tmp_path / "runs", tables, tmp_path / "graphs")
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
    late = "not converged"  # scored once, at its end
    for part in ("PBEsol", "e_form", "full", "seed 0", f"test MAE {runs[1].metrics['test_mae']:.4g}", late):
        assert part in line


def test_list_for_machines(runs, root):
    rows = {row["key"]: row for row in json.loads(invoke("list", "--runs", root, "--json").stdout)}
    plain, full = (rows[run.path.name] for run in runs)
    assert (plain["mode"], plain["source"]) == ("none", None)
    assert (full["mode"], full["source"], full["functional"]) == ("full", plain["key"], "PBEsol")
    assert full["test_mae"] == runs[1].metrics["test_mae"]
    assert full["n_train"] == runs[1].metrics["n_train"]
    assert not full["converged"]


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


def test_verify_reads_the_summaries_of_tables(tmp_path):
    stored = Path(__file__).parents[1] / "data/runs/tables"
    shutil.copytree(stored, tmp_path / "tables")
    assert "0 runs checked, 0 problems" in invoke("verify", "--runs", tmp_path).stdout
    first, second, *_ = sorted((tmp_path / "tables").iterdir())
    first.write_text("{")
    content = json.loads(second.read_text())
    name = next(iter(content["labels"]))
    second.write_text(json.dumps(content | {"kept": 3}))
    text = invoke("verify", "--runs", tmp_path, code=1).stdout
    assert f"{first}: the summary of table {first.stem} cannot be read" in text
    assert f"{second}: the summary of table {second.stem} cannot be read: {name} has" in text
    assert "0 runs checked, 2 problems" in text


# Archives


@pytest.fixture
def archive(root, tmp_path) -> Path:
    """The two runs in the archive `tmp_path` / "archives" / "both"."""
    path = tmp_path / "archives" / "both"
    text = invoke("archive", "--runs", root, "--out", path).stdout
    size = sum(file.stat().st_size for file in path.iterdir())
    assert text.strip() == f"2 runs archived: {path} (2 runs, {size / 1e6:.2f} MB)"
    return path


def test_an_archive_and_a_folder_of_archives_are_listed_shown_and_verified_as_the_runs(runs, root, archive):
    rows = json.loads(invoke("list", "--runs", root, "--json").stdout)
    shown = invoke("show", runs[1].path.name[:6], "--runs", root).stdout
    for place in (archive, archive.parent):
        assert json.loads(invoke("list", "--runs", place, "--json").stdout) == rows
        assert json.loads(invoke("show", runs[1].path.name[:6], "--runs", place).stdout) == json.loads(shown)
        assert invoke("verify", "--runs", place).stdout.strip() == "2 runs checked, 0 problems"


def test_verify_finds_what_is_wrong_in_archives(archive):
    (archive / "curves.parquet").write_bytes(b"")
    text = invoke("verify", "--runs", archive.parent, code=1).stdout
    assert f"{archive}: curves.parquet was changed after it was archived" in text
    (archive / "archive.json").write_text("{")
    assert f"{archive / 'archive.json'} cannot be read" in invoke("verify", "--runs", archive, code=1).stdout


def test_archiving_adds_to_an_archive(runs, root, archive, tmp_path):
    before = {file.name: file.read_bytes() for file in archive.iterdir()}
    assert "2 runs archived" in invoke("archive", "--runs", root, "--out", archive).stdout
    assert {file.name: file.read_bytes() for file in archive.iterdir()} == before
    RunArchive.write(tmp_path / "one", runs[:1])
    assert "(2 runs" in invoke("archive", "--runs", root, "--out", tmp_path / "one").stdout
    assert {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()} == before


def test_only_the_runs_of_a_plan_are_archived(runs, root, tmp_path, table_paths, table):
    training = {"steps": 2, "batch_size": 16, "evaluations": 1, "learning_rate": 1.25e-4}
    network = {name: getattr(runs[0].experiment.model, name) for name in ("atom_width", "edge_width", "neighbours")}
    network |= {"output_widths": [16, 8]}
    run = {
        "table": "pbe",
        "label": "e_form",
        "model": "tiny-shells",
        "network": network,
        "graph": {"neighbours": 4},
        **training,
    }
    tables = {"pbe": {"file": "pbe.parquet", "functional": "PBE"}}
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"about": "One run", "tables": tables, "runs": {"plain": run | {"seeds": [0, 1]}}}))
    tables["pbe"]["fingerprint"] = runs[0].experiment.data
    stated = tmp_path / "stated.yaml"
    stated.write_text(json.dumps({"about": "One run", "tables": tables, "runs": {"plain": run | {"seeds": [0, 1]}}}))
    for options in (["--plan", plan, "--data", table_paths[0].parent], ["--plan", stated]):
        result = invoke("archive", "--runs", root, "--out", tmp_path / "some", *options)
        assert f"not archived, as it is not in {root} and was not before: plain seed 1" in result.stderr
        assert set(RunArchive(tmp_path / "some")) == {runs[0].path.name}
    assert (
        "does not state its fingerprint"
        in invoke("archive", "--out", "x", "--runs", root, "--plan", plan, code=2).stderr
    )
    later = run | {"from": "plain", "mode": "full"}  # not run yet
    stated.write_text(json.dumps({"about": "Two", "tables": tables, "runs": {"plain": run, "later": later}}))
    invoke("archive", "--runs", root, "--out", tmp_path / "with", "--plan", stated, "--weights")
    assert [path.name for path in (tmp_path / "with" / "weights").iterdir()] == [runs[0].path.name]
    again = run | {"steps": 3, "learning_rate": {"of": "plain"}}  # its trials are in the archive alone
    stated.write_text(json.dumps({"about": "Rate", "tables": tables, "runs": {"plain": run, "again": again}}))
    experiment = replace(runs[0].experiment, training=replace(runs[0].experiment.training, steps=3))
    graphs = tmp_path / "graphs"
    key = Runs(tmp_path / "new", {table.fingerprint: table}, graphs).get_all([experiment])[0].experiment.key
    invoke("archive", "--runs", tmp_path / "new", "--out", tmp_path / "with", "--plan", stated)
    assert set(RunArchive(tmp_path / "with")) == {runs[0].path.name, key}


def test_nothing_to_archive_is_an_error(tmp_path):
    (tmp_path / "none").mkdir()
    assert (
        "there is no run to archive" in invoke("archive", "--runs", tmp_path / "none", "--out", tmp_path, code=2).stderr
    )


def test_runs_of_an_archive_cannot_be_removed_one_by_one(runs, archive):
    error = invoke("remove", runs[0].path.name, "--runs", archive, code=2).stderr
    assert f"{runs[0].path.name!r} names 0 runs in {archive}; known: none" in error


def test_remove(runs, root):
    gone, kept = runs[1].path, runs[0].path
    assert f"removed {gone}" in invoke("remove", gone.name[:8], "--runs", root).stdout
    assert not gone.exists()
    assert kept.exists()
    assert len(invoke("list", "--runs", root).stdout.splitlines()) == 1
