"""``cgatlib graphs``, ``train``, ``transfer``, ``predict`` from the shell's side: what they print, write and refuse."""

import csv
import json
import shutil
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cgatlib.cli import main
from cgatlib.crystals import CrystalTable
from cgatlib.crystals.checks import Crystal
from cgatlib.experiments.experiment import Run
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.store import GraphStore
from cgatlib.model.cgat import MODELS

QUICK = ("--model", "tiny", "--steps", "4", "--batch-size", "16")


@pytest.fixture(autouse=True)
def small(monkeypatch, tiny_model, tiny_graph):
    """The network called "tiny" is the tests' own."""
    monkeypatch.setitem(MODELS, "tiny", tiny_model)
    monkeypatch.setitem(GRAPHS, "tiny", tiny_graph)


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def refused(*arguments) -> str:
    """The one sentence with which a command ends."""
    result = invoke(*arguments, code=2)
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1].removeprefix("Error: ")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs that the tests of this module share."""
    return tmp_path_factory.mktemp("cli") / "runs"


@pytest.fixture
def trained(runs, table_paths) -> Path:
    """The folder of a run, trained by the first test that asks for it."""
    result = invoke("train", table_paths[0], "--label", "e_form", *QUICK, "--runs", runs, "--json")
    return Path(json.loads(result.stdout)["run"])


# graphs


def test_graphs_reports_what_it_built(table_paths, tmp_path, table):
    out = tmp_path / "pbe.graphs"
    report = json.loads(invoke("graphs", table_paths[0], "--out", out, "--model", "tiny", "--json").stdout)
    store = GraphStore.open(out)
    assert report == {
        "crystals": len(table),
        "graphs": len(table),
        "rejected": 0,
        "nodes": len(store.graphs.numbers),
        "edges": len(store.graphs.rank),
        "fingerprint": store.fingerprint,
    }
    text = invoke("graphs", table_paths[0], "--out", out, "--model", "tiny").stdout
    assert f"graphs: {len(table)}" in text.splitlines()


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--neighbours", "7"], "neighbours", 7),
        (["--ties", "reference"], "ties", "reference"),
        (["--tolerance", "0.01"], "tolerance", 0.01),
        (["--model", "paper", "--neighbours", "4"], "receiver", "centre"),
        (["--model", "small"], "neighbours", 12),
    ],
)
def test_graph_options_act(options, name, value, table_paths, tmp_path):
    invoke("graphs", table_paths[0], "--out", tmp_path / "store", "--model", "tiny", *options)
    assert getattr(GraphStore.open(tmp_path / "store").config, name) == value


def test_graphs_with_two_workers(table_paths, tmp_path):
    found = [
        json.loads(
            invoke("graphs", table_paths[0], "--out", tmp_path / n, "--model", "tiny", "--workers", n, "--json").stdout
        )
        for n in ("1", "2")
    ]
    assert found[0] == found[1]


def test_graphs_lists_rejects(tmp_path, table):
    sparse = Crystal("lonely", 30 * np.eye(3), np.array([1]), np.zeros((1, 3)), {})
    CrystalTable.from_crystals([table.crystal(0), sparse], "PBE").write(tmp_path / "t.parquet")
    report = json.loads(
        invoke("graphs", tmp_path / "t.parquet", "--out", tmp_path / "s", "--model", "tiny", "--json").stdout
    )
    assert (report["crystals"], report["graphs"], report["rejected"]) == (2, 1, 1)
    with (tmp_path / "s" / "rejects.csv").open(newline="") as file:
        assert [row["material_id"] for row in csv.DictReader(file)] == ["lonely"]


# train


def test_train_writes_a_run_and_says_where(runs, trained, table_paths):
    run = Run(trained)
    assert run.problems() == []
    assert run.path.parent == runs
    assert run.metrics["n_train"] > 0
    text = invoke("train", table_paths[0], "--label", "e_form", *QUICK, "--runs", runs).stdout
    assert f"run: {trained}" in text
    assert f"MAE {run.metrics['test_mae']:.4g}" in text


def test_train_does_not_repeat_a_run(runs, trained, table_paths):
    stamp = (trained / "weights.safetensors").stat().st_mtime_ns
    again = invoke("train", table_paths[0], "--label", "e_form", *QUICK, "--runs", runs, "--json")
    assert Path(json.loads(again.stdout)["run"]) == trained
    assert (trained / "weights.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("options", "part", "name", "value"),
    [
        (["--seed", "3"], None, "seed", 3),
        (["--train-size", "20"], None, "train_size", 20),
        (["--steps", "5"], "training", "steps", 5),
        (["--batch-size", "8"], "training", "batch_size", 8),
        (["--learning-rate", "0.002"], "training", "learning_rate", 0.002),
        (["--label", "volume_per_atom"], None, "label", "volume_per_atom"),
    ],
)
def test_training_options_act(options, part, name, value, runs, trained, table_paths):
    command = ["train", table_paths[0], "--label", "e_form", *QUICK, "--runs", runs, "--json", *options]
    run = Run(Path(json.loads(invoke(*command).stdout)["run"]))
    assert run.path != trained
    assert getattr(getattr(run.experiment, part) if part else run.experiment, name) == value


@pytest.mark.slow
def test_train_in_other_processes(table_paths, tmp_path):
    command = ["train", table_paths[0], "--label", "e_form", *QUICK, "--runs", tmp_path, "--workers", "2", "--json"]
    report = json.loads(invoke(*command).stdout)
    assert Run(Path(report["run"])).problems() == []
    assert report["test_mae"] > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "bandgap"], "the table has no label 'bandgap'; it carries: e_form, volume_per_atom"),
        (["--label", "band_gap"], "the table has no label 'band_gap'; it carries: e_form, volume_per_atom"),
        (["--label", "e_form", "--functional", "PBEsol"], "holds PBE data, but PBEsol was asked for"),
        (["--label", "e_form", "--train-size", "9999"], "a training subset of 9999 crystals was asked for; the"),
        (["--label", "e_form", "--steps", "0"], "must be at least 1, not 0"),
        (["--label", "e_form", "--learning-rate", "-1"], "learning_rate and lowest must be positive"),
        (["--label", "e_form", "--device", "abacus"], "abacus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses_in_one_sentence(options, sentence, table_paths, tmp_path):
    assert sentence in refused("train", table_paths[0], *QUICK, "--runs", tmp_path / "runs", *options)


def test_a_table_without_functional_must_be_given_one(table, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(table.table.replace_schema_metadata(None), tmp_path / "bare.parquet")
    command = ["train", tmp_path / "bare.parquet", "--label", "e_form", *QUICK, "--runs", tmp_path / "runs"]
    assert "does not state its functional" in refused(*command)
    run = Run(Path(json.loads(invoke(*command, "--functional", "pbe", "--json").stdout)["run"]))
    assert run.experiment.functional == "PBE"


# transfer


@pytest.mark.parametrize("mode", ["head", "full"])
def test_transfer_starts_from_a_run(mode, trained, table_paths, tmp_path):
    command = ["transfer", table_paths[1], "--from", trained, "--label", "e_form", "--mode", mode]
    report = json.loads(invoke(*command, *QUICK[2:], "--runs", tmp_path / "elsewhere", "--json").stdout)
    run = Run(Path(report["run"]))
    assert run.path.parent == tmp_path / "elsewhere"
    e = run.experiment
    assert (e.functional, e.transfer.mode, e.source.key) == ("PBEsol", mode, trained.name)
    assert run.provenance["source"] == trained.name
    assert run.problems() == []


def test_transfer_starts_from_a_copy_under_any_name(trained, table_paths, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "my favourite")
    command = ["transfer", table_paths[1], "--from", copy, "--label", "e_form", *QUICK[2:]]
    report = json.loads(invoke(*command, "--runs", tmp_path / "runs", "--json").stdout)
    assert Run(Path(report["run"])).experiment.source.key == trained.name
    (copy / "weights.safetensors").unlink()
    sentence = refused(*command, "--runs", tmp_path / "more runs")
    assert "holds no trained model: weights.safetensors is missing" in sentence


def test_transfer_to_another_property_and_its_options(trained, table_paths, runs):
    command = ["transfer", table_paths[0], "--from", trained, "--label", "volume_per_atom", *QUICK[2:], "--runs", runs]
    options = ["--target-statistics", "source", "--reinitialise-head", "--train-size", "30", "--json"]
    e = Run(Path(json.loads(invoke(*command, *options).stdout)["run"])).experiment
    assert (e.transfer.mode, e.transfer.target_statistics, e.transfer.reinitialise_head) == ("full", "source", True)
    assert (e.label, e.train_size, e.source.label) == ("volume_per_atom", 30, "e_form")


def test_transfer_from_what_is_no_run_is_refused(table_paths, tmp_path):
    command = ["transfer", table_paths[1], "--label", "e_form", "--runs", tmp_path / "runs", "--from"]
    (tmp_path / "empty").mkdir()
    assert "run empty: experiment.json cannot be read" in refused(*command, tmp_path / "empty")
    assert "cannot be read" in refused(*command, tmp_path / "absent")


def test_runs_of_other_code_are_made_again_by_transfer_too(trained, table_paths, runs, monkeypatch):
    """Also where the source lies in the same folder."""
    command = ["transfer", table_paths[1], "--from", trained, "--label", "e_form", *QUICK[2:], "--runs", runs, "--json"]
    first = Path(json.loads(invoke(*command).stdout)["run"])
    stamp = (first / "provenance.json").stat().st_mtime_ns
    monkeypatch.setattr("cgatlib.experiments.runner.training_code", lambda: "f" * 16)
    again = Path(json.loads(invoke(*command).stdout)["run"])
    assert (again / "provenance.json").stat().st_mtime_ns != stamp


# predict


@pytest.fixture
def structures(tmp_path) -> list[Path]:
    """CIF files: one that can be predicted and three that cannot."""
    from pymatgen.core import Lattice, Structure

    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    folder = tmp_path / "cifs"
    folder.mkdir()
    Structure(Lattice.cubic(3.5), ["Na", "Cl"], places).to(filename=str(folder / "fine.cif"))
    Structure(Lattice.cubic(3.5), ["Fe", "Cl"], places).to(filename=str(folder / "unseen.cif"))
    overlapping = "\n".join(
        ["overlap", "1.0", "3.5 0 0", "0 3.5 0", "0 0 3.5", "Na Cl", "1 1", "direct", "0 0 0", "0.02 0 0"]
    )
    (folder / "overlap.vasp").write_text(overlapping)
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a ?\n")
    return [folder / name for name in ("broken.cif", "fine.cif", "overlap.vasp", "unseen.cif")]


def test_predict_keeps_every_structure(trained, structures, tmp_path):
    out = tmp_path / "predictions.csv"
    text = invoke("predict", trained, *structures, "--out", out).stdout
    assert text.strip() == f"1 of 4 crystals predicted: {out}"
    with out.open(newline="") as file:
        rows = {row["material_id"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["broken", "fine", "overlap", "unseen"]
    assert set(rows["fine"]) == {"material_id", "prediction", "unit", "note"}
    assert np.isfinite(float(rows["fine"]["prediction"]))
    assert rows["fine"]["note"] == ""
    assert [rows[name]["prediction"] for name in ("broken", "overlap", "unseen")] == ["", "", ""]
    assert rows["unseen"]["note"] == "element not in the training data: Fe"
    assert rows["overlap"]["note"].startswith("overlapping atoms: 0.07")
    assert rows["broken"]["note"]
    assert {row["unit"] for row in rows.values()} == {"eV/atom"}


def test_predict_for_machines_and_tables(trained, structures, table_paths, table, tmp_path):
    out = tmp_path / "predictions.csv"
    command = ["predict", trained, table_paths[0], *structures, "--out", out, "--json"]
    report = json.loads(invoke(*command).stdout)
    n = len(table)
    assert report == {"crystals": n + 4, "predicted": n + 1, "not_judged": 3, "out": str(out)}
    found = pd.read_csv(out)
    assert found["material_id"].tolist()[:n] == table.ids
    tested = Run(trained).predictions.set_index("material_id")["prediction"]
    ours = found.set_index("material_id")["prediction"][tested.index]
    np.testing.assert_allclose(ours, tested, rtol=1e-4, atol=1e-5)


def test_predict_refuses_in_one_sentence(trained, structures, tmp_path):
    out = tmp_path / "predictions.csv"
    (tmp_path / "empty").mkdir()
    assert "holds no trained model: model.json is missing" in refused(
        "predict", tmp_path / "empty", structures[0], "--out", out
    )
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    assert "bad.parquet as a parquet table" in refused("predict", trained, tmp_path / "bad.parquet", "--out", out)
    assert not out.exists()


def test_predict_into_a_folder_that_is_not_there(trained, structures, tmp_path):
    out = tmp_path / "absent" / "predictions.csv"
    sentence = refused("predict", trained, structures[1], "--out", out)
    assert str(out.parent) in sentence


# help


def commands(group: click.Group = main, path: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_with_an_example(path):
    text = invoke(*path, "--help").stdout
    assert "Example" in text
    assert f"cgatlib {' '.join(path)}" in text
    assert text.splitlines()[0].startswith("Usage: ")


def test_the_commands_are_there():
    found = set(commands())
    assert {("graphs",), ("train",), ("transfer",), ("predict",)} <= found
    assert {("runs", name) for name in ("list", "show", "verify", "remove")} <= found


def test_help_is_quick():
    """No heavy library is imported before a command runs."""
    import subprocess
    import sys

    code = "import sys; import cgatlib.cli; print([n for n in ('torch', 'pandas', 'pymatgen') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_commands_and_missing_files_are_refused(tmp_path):
    assert "No such command 'fly'" in refused("fly")
    assert "absent.parquet" in refused("train", tmp_path / "absent.parquet", "--label", "e_form")
    assert "--label" in refused("train", __file__)
