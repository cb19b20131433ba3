"""Recipes: a pre-trained model and a user's crystals become a model of the user's, by the shell and in memory."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import load_model
from cgatlib.recipes import BEST, RECIPES, CGATRegressor, Plan, table_of, training_of, tune
from cgatlib.runs.experiment import Run
from cgatlib.runs.store import Runs
from cgatlib.splits import split

QUICK = ("--steps", "6", "--batch-size", "16", "--workers", "1")


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
def transfer(mine, model_folder, tmp_path_factory, invoke):
    """Return a function that runs ``cgatlib transfer``, with runs in a folder that all share."""
    runs = tmp_path_factory.mktemp("recipes") / "runs"
    command = ("transfer", mine, "--from", model_folder, "--label", "e_form", *QUICK, "--runs", runs)
    return lambda *words: invoke(*command, *words).stdout


@pytest.fixture(scope="module")
def models(transfer, tmp_path_factory):
    """Folder and printed text of a model by each recipe."""
    root = tmp_path_factory.mktemp("models")
    options = {recipe: ("--recipe", recipe) for recipe in ("average", "head", "kernel")}
    options |= {"full": (), "paired": ("--known", "e_form=cheap")}
    return {recipe: (root / recipe, transfer(*words, "--out", root / recipe)) for recipe, words in options.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_makes_a_model_with_all_that_a_card_says(recipe, models, mine, invoke):
    folder, text = models[recipe]
    model = load_model(folder)
    assert {m.experiment["transfer"]["mode"] for m in model.card.members} == {recipe}
    assert len(model.card.members) == 2
    assert model.card.accuracy["e_form"].uncertainty.n_validation > 10
    kept = {"average": ["full", "kernel", "average"]}.get(recipe, [recipe])
    started = [] if recipe in ("kernel", "paired") else ["pre-trained"]
    assert list(model.card.tried) == ["mean of the training labels", *started, *kept]
    for name, error in model.card.tried.items():
        assert f"{name:28s} {error:.4g}" in text
    shown = " ".join(invoke("model", "show", folder).stdout.split())
    trivial = model.card.tried["mean of the training labels"]
    assert f"validation MAE of what was tried, eV/atom: mean of the training labels {trivial:.4g}" in shown
    predicted = model.predict_files([mine])
    assert predicted["prediction"].notna().all()
    assert (predicted["uncertainty"] > 0).all()


def test_without_options_the_best_recipe_is_taken_and_fast_is_the_kernel(models, transfer):
    (experiment, *_) = [m.experiment for m in load_model(models[BEST][0]).card.members]
    assert (experiment["transfer"]["mode"], experiment["transfer"]["target_statistics"]) == (BEST, "fitted")
    assert (experiment["training"]["schedule"], experiment["training"]["steps"]) == ("one-cycle", 6)
    fast, kernel = (json.loads(transfer(*words, "--json"))["runs"] for words in (["--fast"], ["--recipe", "kernel"]))
    assert [run["run"] for run in fast] == [run["run"] for run in kernel]
    assert Run(Path(fast[0]["run"])).problems() == []


def test_steps_and_scale_follow_from_the_crystals(table, seed_runs):
    assert [training_of(n).steps for n in (50, 640, 1500, 6400, 32_000)] == [500, 1000, 2000, 2000, 10_000]
    scales = [
        {e.transfer.target_statistics for e in Plan(label).experiments(table, seed_runs)}
        for label in ("e_form", "volume_per_atom")
    ]
    assert scales == [{"fitted"}, {"target"}]  # the model knows the first


# Pairs


def test_pairs_correct_the_known_value(models, invoke):
    errors = {recipe: load_model(folder).card.accuracy["e_form"].errors.mae for recipe, (folder, _) in models.items()}
    assert errors["paired"] < 0.5 * min(error for recipe, error in errors.items() if recipe != "paired")
    shown = invoke("model", "show", models["paired"][0]).stdout
    assert "needs, for every prediction, the e_form of the crystal by a cheaper functional: a calculation" in shown
    assert "known values: cheap" in shown


def test_prediction_asks_for_the_known_values(models, table, mine, tmp_path, invoke, refused):
    folder, crystals = models["paired"][0], list(table)[:3]
    table.write(tmp_path / "bare.parquet")
    (tmp_path / "x.cif").write_text("data_x\n")
    for words, sentence in (
        (["bare.parquet"], "bare.parquet has no column 'cheap', the e_form of each crystal that the model asks for"),
        (["x.cif"], "x.cif is a structure file, which cannot carry the known e_form: give a table (parquet)"),
        (["bare.parquet", "--known", "cheap"], "takes a label and a column"),
    ):
        assert sentence in refused("predict", "--model", folder, tmp_path / words[0], *words[1:])
    rows = csv.DictReader(io.StringIO(invoke("predict", "--model", folder, mine, "--known", "e_form=cheap").stdout))
    printed = [float(row["prediction"]) for row in rows][:3]
    model, known = load_model(folder), table.label("e_form")[:3]
    found = model.predict(crystals, known={"e_form": known})
    np.testing.assert_allclose(found["prediction"], printed, rtol=1e-4)
    lacking = model.predict(crystals, known={"e_form": [known[0], np.nan, known[2]]})
    assert lacking["prediction"].isna().tolist() == [False, True, False]
    assert lacking["note"][1] == "no known e_form: cheap has no value"
    for one, given, sentence in (
        (folder, {}, r"give that, as predict\(structures, known=\{'e_form': values\}\)"),
        (folder, {"known": {"e_form": known[:2]}}, "2 known values of e_form were given for 3 structures"),
        (models["kernel"][0], {"known": {"e_form": known}}, "asks for no known values; e_form was given"),
    ):
        with pytest.raises(CgatError, match=sentence):
            load_model(one).predict(crystals, **given)


# In memory


def test_a_model_is_tuned_in_memory(model_folder, table, models, mine, capfd):
    crystals, start = list(CrystalTable.read(mine)), load_model(model_folder)
    values = [crystal.labels["e_form"] for crystal in crystals]
    model = tune(start, crystals, values, "e_form", "kernel", functional="HSE")
    assert capfd.readouterr() == ("", "")
    theirs = load_model(models["kernel"][0]).predict(crystals)
    np.testing.assert_allclose(model.predict(crystals)["prediction"], theirs["prediction"], rtol=1e-4, atol=1e-5)
    known = table.label("e_form")
    paired = CGATRegressor(start, "e_form").fit(crystals, values, known=known)
    assert paired.model_.members[0].card.form == "paired"
    error = np.abs(paired.predict(crystals, known=known) - values).mean()
    assert paired.score(crystals, values, known=known) > 0.9
    assert error < 0.5 * np.abs(model.predict(crystals)["prediction"] - values).mean()
    with pytest.raises(CgatError, match="143 values of e_form were given for 144 structures"):
        tune(start, crystals, values[1:], "e_form", "kernel")
    with pytest.raises(CgatError, match="the form 'kernel', from which nothing can start"):
        tune(model, crystals, values, "e_form")


def test_values_that_are_missing_or_no_numbers(table):
    crystals = list(table)[:2]
    assert np.isnan(table_of(crystals, [None, 1.0], "e_form", "HSE").label("e_form")).tolist() == [True, False]
    with pytest.raises(CgatError, match="the values of e_form are not numbers: could not convert string"):
        table_of(crystals, ["low", 1.0], "e_form", "HSE")


def test_few_crystals_are_for_the_kernel(model_folder, table, caplog):
    model, crystals = load_model(model_folder), list(table)[::10]
    values = [crystal.labels["e_form"] for crystal in crystals]
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
    store = Runs(tmp_path / "runs", {table.fingerprint: table}, stored=stored)
    plain, first, between = (
        store.get(Plan("e_form", "full", seeds=(0,), transfer=how, training=training).experiments(table, seed_runs)[0])
        for how in ({}, {"head_first": 0.5}, {"interpolate": True})
    )
    assert [run.curve["step"].tolist() for run in (plain, first)] == [[1, 2, 3, 4, 5, 6], [4, 5, 6]]
    assert plain.metrics["last_step"] == first.metrics["last_step"] == 6
    assert not np.allclose(plain.predictions["prediction"], first.predictions["prediction"])
    tried = between.metrics["tried"]
    assert tried["full"] == plain.metrics["tried"]["full"]
    assert between.metrics["validation_mae"] == pytest.approx(tried["interpolated"])
    assert tried["interpolated"] <= min(tried["full"], tried["pre-trained"])


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
        (["--label", "e_form", "--fast", "--recipe", "full"], "--recipe, --fast, --mode and --known exclude each"),
        (["--label", "e_form", "--fast", "--seeds", "0,1,2,3"], "has one member for each network: 2, not 4"),
    ],
)
def test_transfer_refuses_in_one_sentence(options, sentence, mine, model_folder, tmp_path, refused):
    assert sentence in refused("transfer", mine, "--from", model_folder, "--runs", tmp_path / "runs", *options)


def test_a_table_without_crystals_to_train_on_or_with_another_unit(
    model_folder, mine, table, seed_runs, tmp_path, refused
):
    parts = split(table.formulas, seed_runs[0].experiment.split)
    tested, milli = tmp_path / "tested.parquet", tmp_path / "milli.parquet"
    CrystalTable.read(mine).select(np.concatenate([parts.validation, parts.test])).write(tested)
    changed = pa.parquet.read_table(mine)
    metadata = json.loads(changed.schema.metadata[b"cgatlib"])
    metadata["units"]["e_form"] = "meV/atom"
    pa.parquet.write_table(changed.replace_schema_metadata({b"cgatlib": json.dumps(metadata).encode()}), milli)
    for path, words, sentence in (
        (tested, ["--mode", "full"], "training part is empty"),
        (milli, [], "milli.parquet states e_form in meV/atom; everywhere else it is in eV/atom"),
    ):
        command = ("transfer", path, "--from", model_folder, "--label", "e_form", *QUICK, "--runs", tmp_path / "runs")
        assert sentence in refused(*command, *words)
