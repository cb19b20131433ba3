"""Archives: the results of many runs in a few files."""

import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cgatlib import CgatError
from cgatlib.files import file_digest
from cgatlib.runs.archive import FILES, RunArchive, find_archives, find_runs
from cgatlib.runs.experiment import NETWORK, Experiment, Run
from cgatlib.runs.store import Runs
from cgatlib.runs.tested import COLUMNS, digests
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig


@pytest.fixture(scope="module")
def store(table, other_table, table_paths, tmp_path_factory) -> Runs:
    tables = {t.fingerprint: t for t in (table, other_table)}
    root = tmp_path_factory.mktemp("archived")
    return Runs(root / "runs", tables, root / "graphs")


@pytest.fixture(scope="module")
def runs(store, table, other_table, tiny_graph, tiny_model) -> list[Run]:
    """Two runs of other splits, and one on another table that starts from the first."""
    training = TrainingConfig(steps=4, batch_size=16, evaluations=2)
    split = SplitConfig(0, 0.6, 0.2, 0.2)
    plain = Experiment(
        table.fingerprint, "PBE", "e_form", graph=tiny_graph, model=tiny_model, training=training, split=split
    )
    full = replace(
        plain, data=other_table.fingerprint, functional="PBEsol", source=plain, transfer=TransferConfig("full")
    )
    return store.get_all([plain, replace(plain, split=replace(split, seed=1)), full])


@pytest.fixture
def archive(runs, tmp_path) -> RunArchive:
    return RunArchive.write(tmp_path / "archive", runs)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sign(folder: Path) -> None:
    """Write the hashes anew, as whoever wants a change to pass would."""
    (folder / "archive.json").write_text(json.dumps({"files": {name: file_digest(folder / name) for name in FILES}}))


def change(folder: Path, key: str, *place: str, value: float) -> None:
    """Change one value of ``runs.json`` and the hash with it."""
    records = json.loads((folder / "runs.json").read_text())
    part = records[key]
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    (folder / "runs.json").write_text(json.dumps(records))
    sign(folder)


def test_an_archived_run_is_the_run(runs, archive):
    opened = RunArchive(archive.path)
    assert set(opened) == {run.experiment.key for run in runs}
    assert len(opened) == 3
    for run in runs:
        found = opened[run.experiment.key]
        assert found.experiment == run.experiment
        assert found.metrics == run.metrics
        assert found.provenance == run.provenance
        pd.testing.assert_frame_equal(found.curve, run.curve, check_exact=True)
        pd.testing.assert_frame_equal(found.errors, run.errors.astype({"error": np.float32}), check_exact=True)
        assert found.problems() == []
    assert opened.problems() == []
    with pytest.raises(KeyError):
        opened["0" * 16]


def test_a_run_without_learning_curve_is_archived(store, runs, tmp_path):
    fresh = replace(store, root=tmp_path / "runs", stored={run.experiment.key: run for run in runs})
    run = fresh.get(replace(runs[2].experiment, transfer=TransferConfig("untouched", target_statistics="source")))
    found = RunArchive.write(tmp_path / "archive", [run, *runs])[run.experiment.key]
    assert len(found.curve) == len(run.curve) == 0
    assert found.metrics == run.metrics
    assert found.problems() == []


def test_an_archive_is_four_files(archive):
    assert set(content(archive.path)) == {*FILES, "archive.json"}
    listed = json.loads((archive.path / "archive.json").read_text())["files"]
    assert listed == {name: hashlib.sha256((archive.path / name).read_bytes()).hexdigest() for name in FILES}


def test_nothing_of_the_tables_is_kept(runs, archive, table, other_table):
    """Neither ids, formulas nor labels, but whoever has the table finds its crystals again."""
    files = content(archive.path)
    for name in [*table.ids, *table.formulas]:
        assert not any(name.encode() in file for file in files.values() if len(name) > 5)
    kept = pd.read_parquet(archive.path / "errors.parquet")
    assert set(kept) == {"key", *COLUMNS}
    assert kept[["non_metal", "level", "seen"]].isna().all(axis=None)
    labels = np.concatenate([t.label("e_form") for t in (table, other_table)])
    assert not np.isin(kept["error"].to_numpy(np.float32), labels.astype(np.float32)).any()
    with pytest.raises(CgatError, match=f"holds errors and no predictions of run {runs[0].experiment.key}"):
        archive[runs[0].experiment.key].predictions  # noqa: B018
    names = dict(zip(digests(table.ids, table.formulas).tolist(), table.ids, strict=True))
    tested = archive[runs[0].experiment.key].errors
    assert [names[crystal] for crystal in tested["crystal"]] == sorted(runs[0].predictions["material_id"])


def test_the_same_runs_give_the_same_bytes_however_they_come(runs, archive, tmp_path):
    expected = content(archive.path)
    assert content(RunArchive.write(tmp_path / "reversed", runs[::-1]).path) == expected
    for run in (runs[1], runs[0], runs[2], runs[0]):
        RunArchive.write(tmp_path / "one by one", [run])
    assert content(tmp_path / "one by one") == expected
    assert content(RunArchive.write(tmp_path / "copy", archive.values()).path) == expected


def test_a_run_of_the_same_key_is_replaced(runs, archive, tmp_path):
    again = tmp_path / runs[0].path.name
    shutil.copytree(runs[0].path, again)
    record = json.loads((again / "provenance.json").read_text()) | {"training_code": "f" * 16}
    (again / "provenance.json").write_text(json.dumps(record))
    written = RunArchive.write(archive.path, [Run(again)])
    assert len(written) == 3
    assert written[again.name].provenance["training_code"] == "f" * 16


def test_a_run_whose_source_is_missing_is_not_archived(runs, tmp_path):
    key, source = runs[2].experiment.key, runs[0].experiment.key
    with pytest.raises(CgatError, match=f"run {key} cannot be archived without run {source}, which it starts from"):
        RunArchive.write(tmp_path / "archive", [runs[2]])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_run_is_not_archived(runs, tmp_path):
    damaged = tmp_path / runs[0].path.name
    shutil.copytree(runs[0].path, damaged)
    (damaged / "curve.parquet").unlink()
    with pytest.raises(CgatError, match=f"run {damaged.name} cannot be archived: curve.parquet is missing"):
        RunArchive.write(tmp_path / "archive", [Run(damaged)])


def test_a_run_is_found_by_what_it_is_not_by_its_name(runs, archive):
    """Runs that were archived when keys were made otherwise."""
    old = {run.experiment.key: f"{number:016x}" for number, run in enumerate(runs)}
    for name in ("runs.json", "curves.parquet", "errors.parquet"):
        path = archive.path / name
        if path.suffix == ".json":
            text = path.read_text()
            for key, other in old.items():
                text = text.replace(key, other)
            path.write_text(text)
        else:
            frame = pd.read_parquet(path)
            frame.assign(key=frame["key"].map(old)).to_parquet(path)
    sign(archive.path)
    opened = RunArchive(archive.path)
    assert set(opened) == set(old)
    assert opened.problems() == []
    for run in runs:
        assert opened[run.experiment.key].metrics == run.metrics
        assert len(opened[run.experiment.key].errors) == run.metrics["n_test"]


def test_other_files_beside_an_archive_stay(runs, archive):
    (archive.path / "README.md").write_text("Why these runs")
    RunArchive.write(archive.path, runs)
    assert (archive.path / "README.md").read_text() == "Why these runs"
    assert not list(archive.path.parent.glob(".*"))


# Problems


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_lost_file_is_found(name, archive):
    path = archive.path / name
    path.write_bytes(path.read_bytes() + b" ")
    assert RunArchive(archive.path).problems() == [f"{name} was changed after it was archived"]
    path.unlink()
    assert RunArchive(archive.path).problems() == [f"{name} is missing"]
    lacking = RunArchive(archive.path)
    with pytest.raises(CgatError, match=f"{name} cannot be read"):
        {(run.curve.size, run.errors.size) for run in lacking.values()}


def test_a_metric_that_does_not_follow_is_found(runs, archive):
    key, value = runs[0].experiment.key, runs[0].metrics["test_rmse"]
    change(archive.path, key, "metrics", "test_rmse", value=value * (1 + 2e-6))
    (problem,) = RunArchive(archive.path).problems()
    assert problem.startswith(f"run {key}: test_rmse is {value * (1 + 2e-6)}, but the errors give {value:.5}"[:-1])


def test_a_missing_source_is_found(runs, archive):
    key, source = runs[2].experiment.key, runs[0].experiment.key
    records = json.loads((archive.path / "runs.json").read_text())
    del records[source]
    (archive.path / "runs.json").write_text(json.dumps(records))
    sign(archive.path)
    assert RunArchive(archive.path).problems() == [f"{archive.path} lacks run {source}, from which run {key} starts"]


def test_missing_errors_are_found(runs, archive):
    key = runs[0].experiment.key
    whole = pd.read_parquet(archive.path / "errors.parquet")
    whole[whole["key"] != key].to_parquet(archive.path / "errors.parquet")
    sign(archive.path)
    (problem,) = RunArchive(archive.path).problems()
    assert problem == f"run {key}: {archive.path} holds no errors of run {key}"


# Where runs are looked for


def test_runs_are_found_in_folders_and_archives(runs, archive, tmp_path):
    keys = {run.experiment.key for run in runs}
    assert set(find_runs(runs[0].path.parent)) == keys
    assert set(find_runs(archive.path)) == keys
    assert set(find_runs(tmp_path)) == keys
    assert [found.path for found in find_archives(tmp_path)] == [archive.path]
    assert find_archives(archive.path)[0].path == archive.path
    RunArchive.write(tmp_path / "another", runs[:1])
    found = find_runs(tmp_path)
    assert {found[key].path.name for key in keys} == {"another", "archive"}
    RunArchive.write(tmp_path / "with weights", runs, [runs[0].experiment.key])
    assert {find_runs(tmp_path)[key].path.name for key in keys} == {"with weights", "archive"}


def test_an_archive_travels_to_another_process_without_its_content(archive):
    small = len(pickle.dumps(dict(RunArchive(archive.path))))
    for run in archive.values():
        assert len(run.errors) > 0
    assert len(pickle.dumps(dict(archive))) == small
    copy = pickle.loads(pickle.dumps(dict(archive)))  # noqa: S301
    assert {key: run.metrics for key, run in copy.items()} == {key: run.metrics for key, run in archive.items()}


# Archived runs in the run store


def test_an_archived_run_is_used_instead_of_training(runs, archive, tmp_path):
    store = Runs(tmp_path / "empty", cache=tmp_path / "graphs", stored=archive)  # nothing could be trained
    found = store.get_all([run.experiment for run in runs])
    assert [run.metrics for run in found] == [run.metrics for run in runs]


def test_a_new_run_has_its_archived_source_trained_again_for_the_weights(store, runs, archive, tmp_path):
    fresh = replace(store, root=tmp_path / "new", stored=archive)
    child = replace(runs[2].experiment, seed=3)
    assert fresh.get(child).metrics["n_test"] == runs[2].metrics["n_test"]
    assert sorted(path.parent.name for path in fresh.root.glob("*/provenance.json")) == sorted(
        [child.key, runs[0].experiment.key]
    )


# Networks that others start from


@pytest.fixture
def with_network(runs, tmp_path) -> RunArchive:
    """The first run's network is kept."""
    return RunArchive.write(tmp_path / "archive", runs, [runs[0].experiment.key])


def test_a_new_run_starts_from_an_archived_network(store, runs, with_network, tmp_path):
    fresh = replace(store, root=tmp_path / "new", stored=RunArchive(with_network.path))
    child = fresh.get(replace(runs[2].experiment, seed=3))
    assert [path.parent.name for path in fresh.root.glob("*/provenance.json")] == [child.experiment.key]
    expected = replace(store, root=tmp_path / "other", stored={run.experiment.key: run for run in runs})
    expected = expected.get(child.experiment)
    assert child.metrics["test_mae"] == expected.metrics["test_mae"]
    assert child.provenance["source_run"] == expected.provenance["source_run"]
    assert with_network.problems() == []


def test_archived_networks_stay_and_give_the_same_bytes(runs, with_network, tmp_path):
    def all_files(folder: Path) -> dict[Path, bytes]:
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    expected = all_files(with_network.path)
    assert {path.name for path in expected} == {*FILES, "archive.json", *NETWORK}
    for again in (runs, with_network.values()):
        assert all_files(RunArchive.write(with_network.path, again).path) == expected
    for run in runs:
        RunArchive.write(tmp_path / "one by one", [run], [runs[0].experiment.key])
    assert all_files(tmp_path / "one by one") == expected


@pytest.mark.parametrize("name", NETWORK)
def test_a_changed_network_is_refused(name, runs, with_network):
    place = f"weights/{runs[0].experiment.key}/{name}"
    path = with_network.path / place
    path.write_bytes(path.read_bytes() + b" ")
    assert with_network.problems() == [f"{place} was changed after it was archived"]
    with pytest.raises(CgatError, match=f"{name} is not the file that the run has made: it is lost or was changed"):
        with_network[runs[0].experiment.key].network  # noqa: B018


def test_a_network_that_is_not_there_is_not_archived(runs, archive, tmp_path):
    with pytest.raises(CgatError, match=f"run {runs[0].experiment.key} has no weights that could be archived"):
        RunArchive.write(tmp_path / "other", archive.values(), [runs[0].experiment.key])
