"""``cgatlib graphs``, ``train``, ``transfer``, ``forecast`` as the shell sees them: printed, written, refused."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cgatlib.cli import main
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import load_model
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.store import GraphStore
from cgatlib.model.cgat import MODELS
from cgatlib.runs.experiment import Run

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


def the_run(result) -> Path:
    """Folder of the only run that a command reports."""
    (run,) = json.loads(result.stdout)["runs"]
    return Path(run["run"])


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
    return the_run(result)


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
    assert the_run(again) == trained
    assert (trained / "weights.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("options", "part", "name", "value"),
    [
        (["--seeds", "3"], None, "seed", 3),
        (["--train-size", "20"], None, "train_size", 20),
        (["--steps", "5"], "training", "steps", 5),
        (["--batch-size", "8"], "training", "batch_size", 8),
        (["--cycles", "2"], "training", "cycles", 2),
        (["--learning-rate", "0.002"], "training", "learning_rate", 0.002),
        (["--precision", "bf16-mixed"], "training", "precision", "bf16-mixed"),
        (["--label", "volume_per_atom"], None, "labels", ("e_form", "volume_per_atom")),
        (["--schedule", "one-cycle"], "training", "schedule", "one-cycle"),
        (["--lowest", "0.01"], "training", "lowest", 0.01),
        (["--averaging", "0.5"], "training", "averaging", 0.5),
        (["--clip", "5"], "training", "clip", 5.0),
        (["--patience", "0.2"], "training", "patience", 0.2),
    ],
)
def test_training_options_act(options, part, name, value, runs, trained, table_paths):
    command = ["train", table_paths[0], "--label", "e_form", *QUICK, "--runs", runs, "--json", *options]
    run = Run(the_run(invoke(*command)))
    assert run.path != trained
    assert getattr(getattr(run.experiment, part) if part else run.experiment, name) == value


@pytest.mark.slow
def test_train_in_other_processes(table_paths, tmp_path):
    command = ["train", table_paths[0], "--label", "e_form", *QUICK, "--runs", tmp_path, "--workers", "2", "--json"]
    run = Run(the_run(invoke(*command)))
    assert run.problems() == []
    assert run.metrics["test_mae"] > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "bandgap"], "the table has no label 'bandgap'; it carries: e_form, volume_per_atom"),
        (["--label", "band_gap"], "the table has no label 'band_gap'; it carries: e_form, volume_per_atom"),
        (["--label", "e_form", "--functional", "PBEsol"], "holds PBE data, but PBEsol was asked for"),
        (["--label", "e_form", "--train-size", "9999"], "a training subset of 9999 crystals was asked for; the"),
        (["--label", "e_form", "--steps", "0"], "must be at least 1, not 0"),
        (["--label", "e_form", "--learning-rate", "-1"], "learning_rate must be positive, not -1.0"),
        (["--label", "e_form", "--device", "abacus"], "abacus"),
        (["--label", "e_form", "--device", "abacus", "--devices", "3"], "on 3 device(s) of type 'abacus'"),
        (["--label", "e_form", "--seeds", "0;1"], "--seeds takes whole numbers such as 0,1,2, not '0;1'"),
        (["--label", "e_form", "--model", "huge"], "unknown model 'huge'; known: paper, released, small, tiny"),
        (["--label", "gap=band_gap"], "unknown label 'gap'; known: e_form, e_above_hull"),
        (["--label", "band_gap=gap"], "has no column 'gap'; it has: material_id, formula"),
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
    run = Run(the_run(invoke(*command, "--functional", "pbe", "--json")))
    assert run.experiment.functional == "PBE"


# transfer


@pytest.mark.parametrize("mode", ["head", "full"])
def test_transfer_starts_from_a_run(mode, trained, table_paths, tmp_path):
    command = ["transfer", table_paths[1], "--from", trained, "--label", "e_form", "--mode", mode]
    run = Run(the_run(invoke(*command, *QUICK[2:], "--runs", tmp_path / "elsewhere", "--json")))
    assert run.path.parent == tmp_path / "elsewhere"
    e = run.experiment
    assert (e.functional, e.transfer.mode, e.source.key) == ("PBEsol", mode, trained.name)
    assert run.provenance["source"] == trained.name
    assert run.problems() == []


def test_transfer_starts_from_a_copy_under_any_name(trained, table_paths, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "my favourite")
    command = ["transfer", table_paths[1], "--from", copy, "--label", "e_form", *QUICK[2:]]
    run = Run(the_run(invoke(*command, "--runs", tmp_path / "runs", "--json")))
    assert run.experiment.source.key == trained.name
    (copy / "weights.safetensors").unlink()
    sentence = refused(*command, "--runs", tmp_path / "more runs")
    assert "holds no trained model: weights.safetensors is missing" in sentence


def test_transfer_to_another_property_and_its_options(trained, table_paths, runs):
    command = ["transfer", table_paths[0], "--from", trained, "--label", "volume_per_atom", *QUICK[2:], "--runs", runs]
    options = [
        "--target-statistics",
        "source",
        "--reinitialise-head",
        "--train-size",
        "30",
        "--recipe",
        "full",
        "--json",
    ]
    e = Run(the_run(invoke(*command, *options))).experiment
    assert (e.transfer.mode, e.transfer.target_statistics, e.transfer.reinitialise_head) == ("full", "source", True)
    assert (e.label, e.train_size, e.source.label) == ("volume_per_atom", 30, "e_form")


def test_transfer_from_what_is_no_run_is_refused(table_paths, tmp_path):
    command = ["transfer", table_paths[1], "--label", "e_form", "--runs", tmp_path / "runs", "--from"]
    (tmp_path / "empty").mkdir()
    assert "empty holds no trained model: model.json is missing" in refused(*command, tmp_path / "empty")
    assert "neither a folder nor a released model; known: " in refused(*command, tmp_path / "absent")


def test_runs_of_other_code_are_made_again_by_transfer_too(trained, table_paths, runs, monkeypatch):
    """Also where the source lies in the same folder."""
    command = ["transfer", table_paths[1], "--from", trained, "--label", "e_form", *QUICK[2:], "--runs", runs, "--json"]
    first = the_run(invoke(*command))
    stamp = (first / "provenance.json").stat().st_mtime_ns
    monkeypatch.setattr("cgatlib.runs.store.training_code", lambda: "f" * 16)
    again = the_run(invoke(*command))
    assert (again / "provenance.json").stat().st_mtime_ns != stamp


# models of several runs


def test_several_seeds_become_one_model(table_paths, tmp_path):
    command = ["train", table_paths[0], "--label", "e_form", *QUICK, "--runs", tmp_path / "runs", "--seeds", "0,2"]
    report = json.loads(invoke(*command, "--out", tmp_path / "mine", "--json").stdout)
    assert [Run(Path(run["run"])).experiment.seed for run in report["runs"]] == [0, 2]
    card = load_model(report["model"]).card
    assert [member.file for member in card.members] == ["e_form-0.safetensors", "e_form-2.safetensors"]
    assert report["test_mae"] == card.accuracy["e_form"].errors.mae
    text = invoke(*command, "--out", tmp_path / "mine").stdout.splitlines()
    assert [line.split(":")[0] for line in text] == ["seed 0", "seed 2", "model"]
    assert f"MAE {card.accuracy['e_form'].errors.mae:.4g} eV/atom" in text[2]


def test_every_member_of_a_model_is_continued(model_folder, table_paths, tmp_path):
    """And what came out can be continued again, without the runs that the first model was made of."""
    mine, twice = tmp_path / "mine", tmp_path / "twice"
    options = [
        "--label",
        "volume_per_atom",
        "--mode",
        "full",
        *QUICK[2:],
        "--runs",
        tmp_path / "runs",
        "--workers",
        "1",
    ]
    invoke("transfer", table_paths[1], "--from", model_folder, *options, "--out", mine)
    first, second = load_model(model_folder).card, load_model(mine).card
    assert [m.experiment["source"] for m in second.members] == [m.experiment for m in first.members]
    assert [m.experiment["seed"] for m in second.members] == [0, 1, 2]
    assert all(m.experiment["split"] == first.members[0].experiment["split"] for m in second.members)
    assert (list(second.accuracy), second.functional) == (["volume_per_atom"], "PBEsol")
    invoke("transfer", table_paths[0], "--from", mine, *options, "--seeds", "4,5", "--out", twice)
    third = load_model(twice).card
    assert [m.experiment["source"] for m in third.members] == [m.experiment for m in second.members[:2]]


def test_a_view_is_continued_as_its_model(model_folder, table_paths, tmp_path, monkeypatch):
    monkeypatch.setattr("cgatlib.ensemble.RELEASED_MODELS", tmp_path / "released")
    shutil.copytree(model_folder, tmp_path / "released" / "all")
    (tmp_path / "released" / "energy").mkdir()
    (tmp_path / "released" / "energy" / "view.json").write_text('{"model": "all", "label": "e_form"}')
    options = ["--label", "volume_per_atom", *QUICK[2:], "--seeds", "0", "--runs", tmp_path / "runs", "--json"]
    reports = [
        invoke("transfer", table_paths[1], "--mode", "full", "--from", name, *options).stdout
        for name in ("energy", "all")
    ]
    assert reports[0] == reports[1]


def test_one_run_is_continued_with_several_seeds(trained, table_paths, tmp_path):
    command = ["transfer", table_paths[1], "--from", trained, "--label", "e_form", *QUICK[2:], "--seeds", "0,1"]
    report = json.loads(invoke(*command, "--runs", tmp_path, "--workers", "1", "--json").stdout)
    experiments = [Run(Path(run["run"])).experiment for run in report["runs"]]
    assert [(e.seed, e.source.key) for e in experiments] == [(0, trained.name), (1, trained.name)]


def test_a_label_may_have_another_name_in_the_table(table, tmp_path):
    renamed = table.table.rename_columns(["gap" if c == "e_form" else c for c in table.table.column_names])
    replace(table, table=renamed).write(tmp_path / "t.parquet")
    command = ["train", tmp_path / "t.parquet", "--label", "e_form=gap", *QUICK, "--runs", tmp_path / "runs"]
    run = Run(the_run(invoke(*command, "--json")))
    assert run.experiment.label == "e_form"
    np.testing.assert_allclose(sorted(run.predictions["target"])[0], table.label("e_form").min(), atol=0.5)


# several labels


def test_one_network_learns_predicts_and_passes_on_two_properties(table_paths, tmp_path):
    learn = ["train", table_paths[1], "--label", "e_form", "--label", "volume_per_atom", *QUICK, "--runs", tmp_path]
    report = invoke(*learn).stdout
    run = Run(the_run(invoke(*learn, "--json")))
    maes = {label: scores["test_mae"] for label, scores in run.metrics["labels"].items()}
    assert f"MAE e_form {maes['e_form']:.4g} eV/atom, volume_per_atom {maes['volume_per_atom']:.4g} Å³/atom, " in report
    rows = list(csv.DictReader(invoke("predict", "--model", run.path, table_paths[0]).stdout.splitlines()))
    assert all(row["prediction_e_form"] and row["prediction_volume_per_atom"] for row in rows)

    start = ["transfer", table_paths[0], "--from", run.path, *QUICK[2:], "--runs", tmp_path, "--json"]
    start += ["--target-statistics", "source", "--trunk-rate", "0.1"]
    e = Run(the_run(invoke(*start, "--label", "volume_per_atom"))).experiment
    assert (e.labels, e.source.labels) == (("volume_per_atom",), ("e_form", "volume_per_atom"))
    assert (e.transfer.target_statistics, e.training.trunk_rate) == ("source", 0.1)
    again = Run(the_run(invoke(*start, "--label", "volume_per_atom", "--source-label", "e_form"))).experiment
    assert again.transfer.source_label == "e_form"


# forecast


def test_forecast_continues_the_runs_on_nested_parts(model_folder, table_paths, tmp_path):
    command = ["forecast", table_paths[1], "--from", model_folder, "--label", "volume_per_atom", *QUICK[2:]]
    command += ["--runs", tmp_path, "--sizes", "20,40", "--more", "100"]
    report = json.loads(invoke(*command, "--json").stdout)
    runs = [Run(path.parent) for path in tmp_path.glob("*/provenance.json")]
    assert sorted(run.experiment.train_size or 0 for run in runs) == [0, 0, 0, 20, 20, 20, 40, 40, 40]
    whole = next(run.metrics["n_train"] for run in runs if run.experiment.train_size is None)
    assert list(report["measured"]) == ["20", "40", str(whole)]
    maes = [run.metrics["test_mae"] for run in runs if run.experiment.train_size == 20]
    assert report["measured"]["20"] == pytest.approx(np.mean(maes))
    assert report["n_train"] == [whole, whole + 60]  # 60 % of the split's crystals are trained on
    assert report["mae"][1] == pytest.approx(report["mae"][0] * (1 - report["fall"][0]))
    text = invoke(*command).stdout
    assert "with 100 more crystals" in text
    assert "more sizes" not in text


def test_forecast_shares_its_runs_with_transfer_and_has_defaults(model_folder, table, table_paths, tmp_path):
    options = ["--from", model_folder, "--label", "volume_per_atom", *QUICK[2:], "--runs", tmp_path, "--json"]
    options += ["--workers", "1"]
    made = {
        run["run"] for run in json.loads(invoke("transfer", table_paths[1], "--mode", "full", *options).stdout)["runs"]
    }
    stamps = {path: (Path(path) / "provenance.json").stat().st_mtime_ns for path in made}
    report = json.loads(invoke("forecast", table_paths[1], *options, "--seeds", "0,1").stdout)
    assert {path: (Path(path) / "provenance.json").stat().st_mtime_ns for path in made} == stamps
    assert report["more"] == len(table)
    assert len(report["measured"]) >= 2


def test_forecast_is_of_one_label(model_folder, table_paths):
    labels = ["--label", "e_form", "--label", "volume_per_atom"]
    assert refused("forecast", table_paths[1], "--from", model_folder, *labels) == "a forecast is made for one --label"


def test_forecast_refuses_sizes_beyond_the_table(model_folder, table_paths, tmp_path):
    command = ["forecast", table_paths[1], "--from", model_folder, "--label", "e_form", *QUICK[2:], "--runs", tmp_path]
    assert "a training subset of 5000 crystals was asked for; the" in refused(*command, "--sizes", "5000")


# help


def commands(group: click.Group = main, path: tuple[str, ...] = ()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
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
    assert {("graphs",), ("train",), ("transfer",), ("forecast",), ("predict",)} <= found
    assert {("model", name) for name in ("list", "show", "release")} <= found
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
