"""Recipes: a pre-trained model and a user's crystals become a model of the user's, by the shell and in memory."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cgatlib import CgatError
from cgatlib.cli import main
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import load_model
from cgatlib.recipes import BEST, RECIPES, Plan, training_of, tune
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.store import Runs
from cgatlib.splits import split

QUICK = ("--steps", "6", "--batch-size", "16")


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def refused(*arguments) -> str:
    """The one sentence with which a command ends."""
    lines = invoke(*arguments, code=2).stderr.strip().splitlines()
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1].removeprefix("Error: ")


@pytest.fixture(scope="module")
def mine(table, tmp_path_factory):
    """A parquet file with another functional's energies, and those of the table in a column ``cheap``."""
    energies = table.label("e_form")
    columns = {"e_form": energies + 0.1 * np.cos(7 * energies), "cheap": energies, "empty": np.full(len(table), np.nan)}
    changed = table.table.drop_columns(["e_form"])
    for name, values in columns.items():
        changed = changed.append_column(name, pa.array(values))
    path = tmp_path_factory.mktemp("mine") / "mine.parquet"
    CrystalTable(changed, "HSE").write(path)
    return path


@pytest.fixture(scope="module")
def models(mine, model_folder, tmp_path_factory):
    """Folder and printed text of a model by each recipe."""
    root, found = tmp_path_factory.mktemp("recipes"), {}
    options = {recipe: ("--recipe", recipe) for recipe in ("average", "head", "kernel")}
    options |= {"full": (), "paired": ("--known", "e_form=cheap")}
    for recipe, words in options.items():
        command = ("transfer", mine, "--from", model_folder, "--label", "e_form", *QUICK, "--workers", "1")
        out = root / recipe
        text = invoke(*command, *words, "--runs", root / "runs", "--out", out).stdout
        found[recipe] = out, text
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_makes_a_model_with_all_that_a_card_says(recipe, models, mine, table):
    folder, text = models[recipe]
    card = load_model(folder).card
    assert {m.experiment["transfer"]["mode"] for m in card.members} == {recipe}
    assert len(card.members) == 3
    assert card.accuracy["e_form"].uncertainty.n_validation > 10
    assert card.domain.elements.keys() >= {"Na", "Cl"}
    kept = {"average": ["full", "kernel", "average"]}.get(recipe, [recipe])
    started = [] if recipe in ("kernel", "paired") else ["pre-trained"]
    assert list(card.tried) == ["mean of the training labels", *started, *kept]
    for name, error in card.tried.items():
        assert f"{name:28s} {error:.4g}" in text
    shown = " ".join(invoke("model", "show", folder).stdout.split())
    trivial = card.tried["mean of the training labels"]
    assert f"validation MAE of what was tried, eV/atom: mean of the training labels {trivial:.4g}" in shown
    predicted = load_model(folder).predict_files([mine])
    assert predicted["prediction"].notna().all()
    assert (predicted["uncertainty"] > 0).all()


def test_without_options_the_best_recipe_is_taken(models):
    experiments = [m.experiment for m in load_model(models[BEST][0]).card.members]
    assert {e["transfer"]["mode"] for e in experiments} == {BEST}
    assert {e["transfer"]["target_statistics"] for e in experiments} == {"fitted"}
    assert {e["training"]["schedule"] for e in experiments} == {"one-cycle"}
    assert {e["training"]["steps"] for e in experiments} == {6}


def test_fast_is_the_kernel(mine, model_folder, models):
    command = [
        "transfer",
        mine,
        "--from",
        model_folder,
        "--label",
        "e_form",
        "--runs",
        models["kernel"][0].parent / "runs",
    ]
    keys = [
        [run["run"] for run in json.loads(invoke(*command, *QUICK, *words, "--json").stdout)["runs"]]
        for words in (["--fast"], ["--recipe", "kernel"])
    ]
    assert keys[0] == keys[1]
    assert Run(Path(keys[0][0])).problems() == []


def test_steps_follow_the_number_of_crystals():
    assert [training_of(n).steps for n in (50, 640, 1500, 6400, 32_000)] == [500, 1000, 2000, 2000, 10_000]


# Pairs


def test_the_scale_is_fitted_where_the_label_is_known_to_the_model(table, seed_runs):
    scales = {
        label: {e.transfer.target_statistics for e in Plan(label).experiments(table, seed_runs)}
        for label in ("e_form", "volume_per_atom")
    }
    assert scales == {"e_form": {"fitted"}, "volume_per_atom": {"target"}}


def test_pairs_correct_the_known_value(models, mine):
    errors = {recipe: load_model(folder).card.accuracy["e_form"].errors.mae for recipe, (folder, _) in models.items()}
    assert errors["paired"] < 0.5 * min(error for recipe, error in errors.items() if recipe != "paired")
    shown = invoke("model", "show", models["paired"][0]).stdout
    assert "needs, for every prediction, the e_form of the crystal by a cheaper functional: a calculation" in shown
    assert "known values: cheap" in shown


def test_prediction_asks_for_the_known_values(models, table, mine, tmp_path):
    folder, crystals = models["paired"][0], list(table)[:3]
    table.write(tmp_path / "bare.parquet")
    (tmp_path / "x.cif").write_text("data_x\n")
    sentence = refused("predict", "--model", folder, tmp_path / "bare.parquet")
    assert "bare.parquet has no column 'cheap', the e_form of each crystal that the model asks for" in sentence
    sentence = refused("predict", "--model", folder, tmp_path / "x.cif")
    assert "x.cif is a structure file, which cannot carry the known e_form: give a table (parquet)" in sentence
    assert "takes a label and a column" in refused("predict", "--model", folder, mine, "--known", "cheap")
    rows = csv.DictReader(io.StringIO(invoke("predict", "--model", folder, mine, "--known", "e_form=cheap").stdout))
    printed = [float(row["prediction"]) for row in rows][:3]
    model, known = load_model(folder), table.label("e_form")[:3]
    found = model.predict(crystals, known={"e_form": known})
    np.testing.assert_allclose(found["prediction"], printed, rtol=1e-4)
    with pytest.raises(CgatError, match=r"give that, as predict\(structures, known=\{'e_form': values\}\)"):
        model.predict(crystals)
    with pytest.raises(CgatError, match="2 known values of e_form were given for 3 structures"):
        model.predict(crystals, known={"e_form": known[:2]})
    lacking = model.predict(crystals, known={"e_form": [known[0], np.nan, known[2]]})
    assert lacking["prediction"].isna().tolist() == [False, True, False]
    assert lacking["note"][1] == "no known e_form: cheap has no value"
    with pytest.raises(CgatError, match="asks for no known values; e_form was given"):
        load_model(models["kernel"][0]).predict(crystals, known={"e_form": known})


# In memory


def test_a_model_is_tuned_in_memory(model_folder, table, models, mine):
    crystals = list(CrystalTable.read(mine))
    values = [crystal.labels["e_form"] for crystal in crystals]
    model = tune(load_model(model_folder), crystals, values, "e_form", "kernel", functional="HSE")
    theirs = load_model(models["kernel"][0]).predict(crystals)
    np.testing.assert_allclose(model.predict(crystals)["prediction"], theirs["prediction"], rtol=1e-4, atol=1e-5)
    known = [crystal.labels["e_form"] for crystal in table]
    paired = tune(load_model(model_folder), crystals, values, "e_form", known=known)
    assert paired.predict(crystals[:2], known={"e_form": known[:2]})["prediction"].notna().all()
    with pytest.raises(CgatError, match="143 values of e_form were given for 144 structures"):
        tune(load_model(model_folder), crystals, values[1:], "e_form", "kernel")
    with pytest.raises(CgatError, match="the form 'kernel', from which nothing can start"):
        tune(model, crystals, values, "e_form")


def test_few_crystals_are_for_the_kernel(model_folder, table, caplog):
    model, crystals = load_model(model_folder), list(table)[::10]
    values = [crystal.labels["e_form"] for crystal in crystals]
    assert len(values) == 15
    tuned = tune(model, crystals, values, "e_form")
    assert "15 crystals are few: a kernel model" in caplog.text
    assert tuned.card.members[0].experiment["transfer"]["mode"] == "kernel"
    assert tuned.predict(crystals)["prediction"].notna().all()
    with pytest.raises(CgatError, match="15 crystals have a e_form: for fewer than 20 the recipe is kernel"):
        tune(model, crystals, values, "e_form", "full")
    with pytest.raises(CgatError, match="2 formulas are too few"):
        tune(model, crystals[:2], values[:2], "e_form")


def test_a_split_with_an_empty_part_is_replaced(seed_runs, table, caplog):
    learnt = split(table.formulas, seed_runs[0].experiment.split).train
    (experiment, *_) = Plan("e_form").experiments(table.select(learnt), seed_runs)
    assert (experiment.transfer.mode, experiment.split.groups) == (BEST, "formula")
    assert experiment.transfer.test_crystals == "seen"
    assert "may have seen test crystals in pre-training" in caplog.text


def test_the_head_first_then_all_and_back_on_the_line(seed_runs, mine, tmp_path):
    table = CrystalTable.read(mine)
    training, stored = {"steps": 6, "batch_size": 16}, {run.experiment.key: run for run in seed_runs}
    store = Runs(tmp_path / "runs", {table.fingerprint: table}, tmp_path / "graphs", stored)
    found = []
    for transfer in ({}, {"head_first": 0.5}, {"interpolate": True}):
        plan = Plan("e_form", "full", seeds=(0,), transfer=transfer, training=training)
        found.append(store.get(*plan.experiments(table, seed_runs)))
    plain, first, between = found
    assert [run.curve["step"].tolist() for run in (plain, first)] == [[1, 2, 3, 4, 5, 6], [4, 5, 6]]
    assert plain.metrics["last_step"] == first.metrics["last_step"] == 6
    assert not np.allclose(plain.predictions["prediction"], first.predictions["prediction"])
    tried = between.metrics["tried"]
    assert tried["full"] == plain.metrics["tried"]["full"]
    assert between.metrics["validation_mae"] == pytest.approx(tried["interpolated"])
    assert tried["interpolated"] <= min(tried["full"], tried["pre-trained"])


# Stored names


def test_new_options_do_not_rename_stored_runs(seed_runs):
    before = seed_runs[0].experiment
    values = before.to_dict()
    assert {"head_first", "interpolate"} <= values["transfer"].keys()
    for name in ("head_first", "interpolate"):
        del values["transfer"][name]
    assert Experiment.from_dict(values).key == before.key
    assert before.key == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


# Refusals


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--label", "band_gap"], "the table has no label 'band_gap'; it carries: e_form"),
        (["--label", "e_form=empty"], "empty has a value in none of the 144 rows"),
        (["--label", "e_form", "--known", "e_form=absent"], "has no column 'absent'; it has: "),
        (["--label", "e_form", "--known", "e_form=empty"], "empty has a value in none of the 144 rows"),
        (["--label", "e_form", "--known", "band_gap=cheap"], "--known is for the one label that is learnt, e_form"),
        (["--label", "e_form", "--known", "cheap"], "--known takes a label and a column, such as band_gap=gap_pbe"),
        (
            ["--label", "e_form", "--fast", "--recipe", "full"],
            "--recipe, --fast, --mode and --known exclude each other",
        ),
        (["--label", "e_form", "--fast", "--seeds", "0,1,2,3"], "has one member for each network: 3, not 4"),
    ],
)
def test_transfer_refuses_in_one_sentence(options, sentence, mine, model_folder, tmp_path):
    command = ["transfer", mine, "--from", model_folder, "--runs", tmp_path / "runs"]
    assert sentence in refused(*command, *options)


def test_a_label_with_no_crystal_in_the_training_part(model_folder, mine, table, seed_runs, tmp_path):
    parts = split(table.formulas, seed_runs[0].experiment.split)
    rows = np.concatenate([parts.validation, parts.test])
    CrystalTable.read(mine).select(rows).write(tmp_path / "tested.parquet")
    command = ["transfer", tmp_path / "tested.parquet", "--from", model_folder, "--label", "e_form", "--mode", "full"]
    assert "training part is empty" in refused(*command, *QUICK, "--workers", "1", "--runs", tmp_path / "runs")


def test_a_table_with_another_unit_is_refused(mine, model_folder, tmp_path):
    table = pq.read_table(mine)
    metadata = json.loads(table.schema.metadata[b"cgatlib"])
    metadata["units"]["e_form"] = "meV/atom"
    changed = table.replace_schema_metadata({b"cgatlib": json.dumps(metadata).encode()})
    pq.write_table(changed, tmp_path / "milli.parquet")
    sentence = refused("transfer", tmp_path / "milli.parquet", "--from", model_folder, "--label", "e_form")
    assert "milli.parquet states e_form in meV/atom; everywhere else it is in eV/atom" in sentence
