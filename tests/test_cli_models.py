"""``cgatlib graphs``, ``train``, ``transfer``, ``forecast``, ``predict``, ``model``: printed, written, refused."""

import csv
import json
import shutil
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cgatlib import CgatError, ensemble
from cgatlib.cards import EnsembleCard
from cgatlib.cli import main
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import load_model
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.store import GraphStore
from cgatlib.model.config import MODELS
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.store import Runs

QUICK = ("--steps", "4", "--batch-size", "16", "--workers", "1")
TINY = ("--model", "tiny", *QUICK)
COLUMNS = ["material_id", "prediction", "uncertainty", "unit", "note"]


@pytest.fixture(autouse=True)
def small(monkeypatch, tiny_model, tiny_graph):
    """The network called "tiny" is the tests' own."""
    monkeypatch.setitem(MODELS, "tiny", tiny_model)
    monkeypatch.setitem(GRAPHS, "tiny", tiny_graph)


@pytest.fixture
def declared(monkeypatch, invoke):
    """Return a function that gives the experiments of a command, which are not trained."""

    def run(*words):
        found = []

        def stop(self, experiments, workers=1):
            found.extend(experiments)
            raise CgatError("enough")

        with monkeypatch.context() as patch:
            patch.setattr(Runs, "get_all", stop)
            invoke(*words, code=2)
        return found

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder of runs that the tests of this module share."""
    return tmp_path_factory.mktemp("cli") / "runs"


@pytest.fixture
def trained(invoke, runs, table_paths) -> Path:
    """The folder of a run, trained by the first test that asks for it."""
    return the_run(invoke("train", table_paths[0], "--label", "e_form", *TINY, "--runs", runs, "--json"))


def the_run(result) -> Path:
    """Folder of the only run that a command reports."""
    (run,) = json.loads(result.stdout)["runs"]
    return Path(run["run"])


def rows_of(result) -> list[dict[str, str]]:
    return list(csv.DictReader(result.stdout.splitlines()))


# graphs


def test_graphs_reports_what_it_built_and_lists_rejects(invoke, tmp_path, table):
    sparse = Crystal("lonely", 30 * np.eye(3), np.array([1]), np.zeros((1, 3)), {})
    CrystalTable.from_crystals([*table, sparse], "PBE").write(tmp_path / "t.parquet")
    command = ("graphs", tmp_path / "t.parquet", "--model", "tiny", "--json", "--out")
    reports = [json.loads(invoke(*command, tmp_path / n, "--workers", n).stdout) for n in ("1", "2")]
    graphs = GraphStore.open(tmp_path / "1")
    counts = {"nodes": len(graphs.graphs.numbers), "edges": len(graphs.graphs.rank), "fingerprint": graphs.fingerprint}
    assert reports == 2 * [{"crystals": 145, "graphs": 144, "rejected": 1, **counts}]
    with (tmp_path / "1" / "rejects.csv").open(newline="") as file:
        assert [row["material_id"] for row in csv.DictReader(file)] == ["lonely"]
    assert "graphs: 144" in invoke(*command[:-2], "--out", tmp_path / "1").stdout.splitlines()


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
def test_graph_options_act(options, name, value, invoke, table, tmp_path):
    table.select(range(4)).write(tmp_path / "t.parquet")
    invoke("graphs", tmp_path / "t.parquet", "--out", tmp_path / "store", "--model", "tiny", *options)
    assert getattr(GraphStore.open(tmp_path / "store").config, name) == value


# train


def test_train_writes_a_run_once_and_says_where(invoke, runs, trained, table_paths):
    run, stamp = Run(trained), (trained / "weights.safetensors").stat().st_mtime_ns
    assert run.problems() == []
    assert run.path.parent == runs
    text = invoke("train", table_paths[0], "--label", "e_form", *TINY, "--runs", runs).stdout
    assert f"MAE {run.metrics['test_mae']:.4g} eV/atom, run: {trained}" in text
    assert (trained / "weights.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("options", "part", "name", "value"),
    [
        (["--seeds", "3"], None, "seed", 3),
        (["--train-size", "20"], None, "train_size", 20),
        (["--label", "volume_per_atom"], None, "labels", ("e_form", "volume_per_atom")),
        (["--steps", "5"], "training", "steps", 5),
        (["--batch-size", "8"], "training", "batch_size", 8),
        (["--cycles", "2"], "training", "cycles", 2),
        (["--learning-rate", "0.002"], "training", "learning_rate", 0.002),
        (["--precision", "bf16-mixed"], "training", "precision", "bf16-mixed"),
        (["--schedule", "one-cycle"], "training", "schedule", "one-cycle"),
        (["--lowest", "0.01"], "training", "lowest", 0.01),
        (["--averaging", "0.5"], "training", "averaging", 0.5),
        (["--clip", "5"], "training", "clip", 5.0),
        (["--patience", "0.2"], "training", "patience", 0.2),
    ],
)
def test_training_options_act(options, part, name, value, declared, table_paths, tmp_path):
    (e,) = declared("train", table_paths[0], "--label", "e_form", *TINY, "--runs", tmp_path, *options)
    assert getattr(getattr(e, part) if part else e, name) == value


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "bandgap"], "the table has no label 'bandgap'; it carries: e_form, volume_per_atom"),
        (["--label", "e_form", "--functional", "PBEsol"], "holds PBE data, but PBEsol was asked for"),
        (["--label", "e_form", "--train-size", "9999"], "a training subset of 9999 crystals was asked for; the"),
        (["--label", "e_form", "--steps", "0"], "must be at least 1, not 0"),
        (["--label", "e_form", "--learning-rate", "-1"], "learning_rate must be positive, not -1.0"),
        (["--label", "e_form", "--device", "abacus", "--devices", "3"], "on 3 device(s) of type 'abacus'"),
        (["--label", "e_form", "--seeds", "0;1"], "--seeds takes whole numbers such as 0,1,2, not '0;1'"),
        (["--label", "e_form", "--model", "huge"], "unknown model 'huge'; known: paper, released, small, tiny"),
        (["--label", "gap=band_gap"], "unknown label 'gap'; known: e_form, e_above_hull"),
        (["--label", "band_gap=gap"], "has no column 'gap'; it has: material_id, formula"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses_in_one_sentence(options, sentence, refused, table_paths, tmp_path):
    assert sentence in refused("train", table_paths[0], *TINY, "--runs", tmp_path / "runs", *options)


def test_a_table_without_functional_and_with_a_label_of_another_name(declared, refused, table, tmp_path):
    names = ["gap" if name == "e_form" else name for name in table.table.column_names]
    pq.write_table(table.table.replace_schema_metadata(None).rename_columns(names), tmp_path / "t.parquet")
    command = ["train", tmp_path / "t.parquet", "--label", "e_form=gap", *TINY, "--runs", tmp_path / "runs"]
    assert "does not state its functional" in refused(*command)
    (e,) = declared(*command, "--functional", "pbe")
    assert (e.functional, e.label, e.data) == ("PBE", "e_form", table.fingerprint)


# transfer


def test_transfer_starts_from_a_run_under_any_name(invoke, refused, trained, table_paths, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "my favourite")
    command = ["transfer", table_paths[1], "--from", copy, "--label", "e_form", "--mode", "head", *QUICK, "--runs"]
    run = Run(the_run(invoke(*command, tmp_path / "elsewhere", "--json")))
    assert run.path.parent == tmp_path / "elsewhere"
    e = run.experiment
    assert (e.functional, e.transfer.mode, e.source.key) == ("PBEsol", "head", trained.name)
    assert run.provenance["source"] == trained.name
    assert run.problems() == []
    (copy / "weights.safetensors").unlink()
    assert "holds no trained model: weights.safetensors is missing" in refused(*command, tmp_path / "more runs")
    (tmp_path / "empty").mkdir()
    command[3] = tmp_path / "empty"
    assert "empty holds no trained model: model.json is missing" in refused(*command, tmp_path / "runs")
    command[3] = tmp_path / "absent"
    assert "neither a folder nor a released model; known: " in refused(*command, tmp_path / "runs")


def test_transfer_to_another_property_and_its_options(declared, trained, table_paths, runs):
    command = ["transfer", table_paths[0], "--from", trained, "--label", "volume_per_atom", *QUICK, "--runs", runs]
    options = ["--target-statistics", "source", "--reinitialise-head", "--train-size", "30"]
    for how in (["--recipe", "full", "--trunk-rate", "0.1"], ["--mode", "full", "--trunk-rate", "0.1"]):
        (e,) = declared(*command, *options, *how)
        assert (e.transfer.mode, e.transfer.target_statistics, e.transfer.reinitialise_head) == ("full", "source", True)
        assert (e.label, e.train_size, e.source.label, e.training.trunk_rate) == ("volume_per_atom", 30, "e_form", 0.1)
    found = declared(*command, "--mode", "full", "--seeds", "0,1")
    assert [(e.seed, e.source.key) for e in found] == [(0, trained.name), (1, trained.name)]


def test_runs_of_other_code_are_made_again_by_transfer_too(invoke, trained, table_paths, runs, monkeypatch):
    """Also where the source lies in the same folder."""
    command = ["transfer", table_paths[1], "--from", trained, "--label", "e_form", *QUICK, "--runs", runs, "--json"]
    first = the_run(invoke(*command))
    stamp = (first / "provenance.json").stat().st_mtime_ns
    monkeypatch.setattr("cgatlib.runs.store.training_code", lambda: "f" * 16)
    assert (the_run(invoke(*command)) / "provenance.json").stat().st_mtime_ns != stamp


def test_one_network_learns_predicts_and_passes_on_two_properties(invoke, declared, table_paths, tmp_path):
    learn = ["train", table_paths[1], "--label", "e_form", "--label", "volume_per_atom", *TINY, "--runs", tmp_path]
    run = Run(the_run(invoke(*learn, "--json")))
    maes = {label: scores["test_mae"] for label, scores in run.metrics["labels"].items()}
    both = f"MAE e_form {maes['e_form']:.4g} eV/atom, volume_per_atom {maes['volume_per_atom']:.4g} Å³/atom, "
    assert both in invoke(*learn).stdout
    rows = rows_of(invoke("predict", "--model", run.path, table_paths[0]))
    assert all(row["prediction_e_form"] and row["prediction_volume_per_atom"] for row in rows)
    start = ["transfer", table_paths[0], "--from", run.path, *QUICK, "--runs", tmp_path, "--label", "volume_per_atom"]
    (e,) = declared(*start, "--source-label", "e_form")
    assert (e.labels, e.source.labels) == (("volume_per_atom",), ("e_form", "volume_per_atom"))
    assert e.transfer.source_label == "e_form"


# models of several runs


def test_several_seeds_become_one_model(invoke, table_paths, tmp_path):
    command = ["train", table_paths[0], "--label", "e_form", *TINY, "--runs", tmp_path / "runs", "--seeds", "0,2"]
    report = json.loads(invoke(*command, "--out", tmp_path / "mine", "--json").stdout)
    assert [Run(Path(run["run"])).experiment.seed for run in report["runs"]] == [0, 2]
    card = load_model(report["model"]).card
    assert [member.file for member in card.members] == ["e_form-0.safetensors", "e_form-2.safetensors"]
    assert report["test_mae"] == card.accuracy["e_form"].errors.mae
    text = invoke(*command, "--out", tmp_path / "mine").stdout.splitlines()
    assert [line.split(":")[0] for line in text] == ["seed 0", "seed 2", "model"]
    assert f"MAE {report['test_mae']:.4g} eV/atom; use it with" in text[2]


def test_every_member_of_a_model_is_continued(invoke, declared, model_folder, table_paths, tmp_path, monkeypatch):
    """And what came out can be continued again, without the runs that the first model was made of."""
    mine, runs = tmp_path / "mine", tmp_path / "runs"
    options = ["--label", "volume_per_atom", "--mode", "full", *QUICK, "--runs", runs]
    invoke("transfer", table_paths[1], "--from", model_folder, *options, "--out", mine)
    first, second = load_model(model_folder).card, load_model(mine).card
    assert [m.experiment["source"] for m in second.members] == [m.experiment for m in first.members]
    assert [m.experiment["seed"] for m in second.members] == [0, 1]
    assert all(m.experiment["split"] == first.members[0].experiment["split"] for m in second.members)
    assert (list(second.accuracy), second.functional) == (["volume_per_atom"], "PBEsol")
    third = declared("transfer", table_paths[0], "--from", mine, *options, "--seeds", "4,5")
    assert [e.source for e in third] == [Experiment.from_dict(m.experiment) for m in second.members]
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path / "released")
    shutil.copytree(model_folder, tmp_path / "released" / "all")
    (tmp_path / "released" / "energy").mkdir()
    (tmp_path / "released" / "energy" / "view.json").write_text('{"model": "all", "label": "e_form"}')
    whole, view = (declared("transfer", table_paths[1], "--from", name, *options) for name in ("all", "energy"))
    assert whole == view


# forecast


def test_forecast_continues_the_runs_on_nested_parts(invoke, model_folder, table_paths, tmp_path):
    """And shares those on the whole table with transfer."""
    options = ["--from", model_folder, "--label", "volume_per_atom", *QUICK, "--runs", tmp_path]
    made = json.loads(invoke("transfer", table_paths[1], "--mode", "full", *options, "--json").stdout)["runs"]
    stamps = [(Path(run["run"]) / "provenance.json").stat().st_mtime_ns for run in made]
    command = ["forecast", table_paths[1], *options, "--sizes", "20,40", "--more", "100"]
    report = json.loads(invoke(*command, "--json").stdout)
    assert [(Path(run["run"]) / "provenance.json").stat().st_mtime_ns for run in made] == stamps
    runs = [Run(path.parent) for path in tmp_path.glob("*/provenance.json")]
    assert sorted(run.experiment.train_size or 0 for run in runs) == [0, 0, 20, 20, 40, 40]
    whole = made[0]["n_train"]
    assert list(report["measured"]) == ["20", "40", str(whole)]
    maes = [run.metrics["test_mae"] for run in runs if run.experiment.train_size == 20]
    assert report["measured"]["20"] == pytest.approx(np.mean(maes))
    assert report["n_train"] == [whole, whole + 60]  # 60 % of the split's crystals are trained on
    assert report["mae"][1] == pytest.approx(report["mae"][0] * (1 - report["fall"][0]))
    assert "with 100 more crystals" in invoke(*command).stdout


def test_forecast_has_defaults_and_refuses(declared, refused, model_folder, table_paths, tmp_path):
    command = ["forecast", table_paths[1], "--from", model_folder, "--label", "e_form", *QUICK, "--runs", tmp_path]
    sizes = {e.train_size for e in declared(*command)}
    assert None in sizes
    assert len(sizes) > 1
    assert "a training subset of 5000 crystals was asked for; the" in refused(*command, "--sizes", "5000")
    assert refused(*command, "--label", "volume_per_atom") == "a forecast is made for one --label"


# predict


@pytest.fixture
def released(model_folder, tmp_path, monkeypatch) -> str:
    """Name of the model that comes with the package, of which ``energy`` is a view."""
    shutil.copytree(model_folder, tmp_path / "released_models" / "binaries-pbe")
    (tmp_path / "released_models" / "energy").mkdir()
    view = {"model": "binaries-pbe", "label": "e_form"}
    (tmp_path / "released_models" / "energy" / "view.json").write_text(json.dumps(view))
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path / "released_models")
    return "binaries-pbe"


@pytest.fixture
def structures(tmp_path) -> list[Path]:
    """Structure files: one that can be predicted and three that cannot."""
    folder = tmp_path / "structures"
    folder.mkdir()
    cell = ["1.0", "3.2 0 0", "0 3.2 0", "0 0 3.2"]
    for name, symbols, place in (("fine", "Na Cl", 0.5), ("unseen", "Fe Cl", 0.5), ("overlap", "Na Cl", 0.02)):
        lines = [name, *cell, symbols, "1 1", "direct", "0 0 0", f"{place} {place} {place}"]
        (folder / f"{name}.vasp").write_text("\n".join(lines))
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a ?\n")
    return [folder / name for name in ("broken.cif", "fine.vasp", "unseen.vasp", "overlap.vasp")]


def test_predictions_are_printed_in_the_order_given(invoke, released, structures, seed_runs):
    rows = rows_of(result := invoke("predict", "--model", released, *structures))
    assert [row["material_id"] for row in rows] == ["broken", "fine", "unseen", "overlap"]
    assert list(rows[0]) == COLUMNS
    assert [bool(row["prediction"]) and float(row["uncertainty"]) > 0 for row in rows] == [False, True, False, False]
    notes = [row["note"].split(":")[0] for row in rows[1:]]
    assert notes == ["", "element not in the training data", "overlapping atoms"]
    assert {row["unit"] for row in rows} == {"eV/atom"}
    parsed = json.loads(invoke("predict", "--model", released, *structures, "--json").stdout)
    assert [row["prediction"] is None for row in parsed] == [True, False, True, True]
    assert result.stdout == invoke("predict", "--model", "energy", *structures).stdout
    (row,) = rows_of(invoke("predict", "--model", seed_runs[0].path, structures[1]))
    assert (bool(row["prediction"]), row["uncertainty"]) == (True, "")


def test_predictions_go_to_a_file(invoke, model_folder, structures, table_paths, table, tmp_path):
    out = tmp_path / "predictions.csv"
    command = ["predict", "--model", model_folder, structures[1], table_paths[0], structures[2], "--out", out]
    assert invoke(*command).stdout.strip() == f"145 of 146 crystals predicted: {out}"
    report = json.loads(invoke(*command, "--json").stdout)  # replaced
    assert report == {"crystals": 146, "predicted": 145, "not_judged": 1, "out": str(out)}
    found = pd.read_csv(out)
    assert found["material_id"].tolist() == ["fine", *table.ids, "unseen"]
    expected = load_model(model_folder).predict(table)["prediction"]
    np.testing.assert_allclose(found["prediction"][1:-1], expected, rtol=1e-5)


def test_predict_refuses_and_replaces_only_predictions(refused, released, structures, table_paths, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    (tmp_path / "mine.csv").write_text("material_id,prediction\n")
    fine, before = structures[1], table_paths[0].read_bytes()
    for model, source, out, sentence in (
        (tmp_path / "empty", fine, "new.csv", "holds no trained model: model.json is missing"),
        ("volume", fine, "new.csv", "known: binaries-pbe"),
        (released, tmp_path / "bad.parquet", "new.csv", "bad.parquet as a parquet table"),
        (released, fine, "absent/new.csv", "absent is not a folder"),
        (released, fine, fine, "is an input"),
        (released, fine, fine.parent, "holds the input"),
        (released, fine, "mine.csv", "exists and is not a table of predictions"),
        (released, table_paths[0], table_paths[0], "is an input"),
    ):
        assert sentence in refused("predict", "--model", model, source, "--out", tmp_path / out)
        assert not (tmp_path / "new.csv").exists()
    assert table_paths[0].read_bytes() == before


# model


def test_models_are_listed(invoke, released, model_folder, monkeypatch, tmp_path):
    mae = load_model(model_folder).card.accuracy["e_form"].errors.mae
    first, second = invoke("model", "list").stdout.splitlines()
    assert first.split()[:3] == ["binaries-pbe", "e_form", "PBE"]
    assert f"test MAE {mae:.3g} eV/atom" in first
    assert "2 members, 0.2 MB" in first
    assert (second.split()[0], second.split()[1:]) == ("energy", first.split()[1:])
    assert json.loads(invoke("model", "list", "--json").stdout)[released]["accuracy"]["e_form"]["errors"]["mae"] == mae
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path / "none")
    assert (invoke("model", "list").stdout, json.loads(invoke("model", "list", "--json").stdout)) == ("", {})


def test_a_card_is_shown(invoke, refused, released, model_folder, seed_runs):
    card = load_model(model_folder).card
    accuracy = card.accuracy["e_form"]
    for name in (released, "energy", model_folder):
        text = " ".join(invoke("model", "show", name).stdout.split())
        assert text.startswith(f"{name}: e_form (PBE), eV/atom name: binaries licence: none fingerprint: ")
        for words in (
            f"test MAE: {accuracy.errors.mae:.4g} eV/atom",
            f"test errors within it: {accuracy.uncertainty.coverage[0]:.1%}",
            "split: by formula, seed 0",
            "member e_form-1.safetensors: test MAE",
            f"Na {card.domain.elements['Na']}",
            "without the structure, eV/atom: boosted trees on the composition",
            f"rank correlation with the errors {accuracy.uncertainty.rank_correlation:.2f}",
            "errors by class, eV/atom (test crystals): binary compounds",
        ):
            assert words in text
        assert EnsembleCard.from_json(invoke("model", "show", name, "--json").stdout) == card
    assert "card.json is missing" in refused("model", "show", seed_runs[0].path)


def test_release_makes_a_model_of_runs(invoke, refused, seed_runs, table_paths, model_folder, tmp_path):
    about, out, half = tmp_path / "about.yml", tmp_path / "model", tmp_path / "half"
    about.write_text("name: binaries\nlicence: none\n")
    command = ["model", "release", *(run.path for run in seed_runs), "--table", table_paths[0], "--out"]
    text = invoke(*command, out, "--about", about).stdout
    assert text.startswith(f"{out}: e_form, MAE ")
    assert text.endswith("eV/atom, from e_form-0.safetensors, e_form-1.safetensors\n")
    assert load_model(out).card == load_model(model_folder).card
    invoke(*command, half, "--half")
    assert "stored in half precision" in invoke("model", "show", half).stdout
    sizes = [sum(path.stat().st_size for path in folder.glob("e_form-*")) for folder in (half, out)]
    assert sizes[0] < 0.8 * sizes[1]  # the names of the weights take some of so small a file
    about.write_text("- a\n- b\n")
    assert "about.yml holds no names and values" in refused(*command, tmp_path / "new", "--about", about)
    command[command.index(table_paths[0])] = table_paths[1]
    assert "trained on a table with fingerprint" in refused(*command, tmp_path / "new")


# help


def commands(group: click.Group = main, path: tuple[str, ...] = ()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_every_command_has_help_with_an_example(invoke):
    found = set(commands())
    assert {("graphs",), ("train",), ("transfer",), ("forecast",), ("predict",), ("checkpoint", "import")} <= found
    assert {("model", name) for name in ("list", "show", "release")} <= found
    assert {("runs", name) for name in ("list", "show", "verify", "remove")} <= found
    for path in found:
        text = invoke(*path, "--help").stdout
        assert "Example" in text
        assert f"cgatlib {' '.join(path)}" in text
        assert text.splitlines()[0].startswith("Usage: ")


def test_unknown_commands_and_missing_files_are_refused(refused, tmp_path):
    assert "No such command 'fly'" in refused("fly")
    assert "absent.parquet" in refused("train", tmp_path / "absent.parquet", "--label", "e_form")
    assert "--label" in refused("train", __file__)
