"""Models to use: every structure keeps its row, says why when it has no prediction, and how far to trust it."""

import copy
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cgatlib
from cgatlib import CgatError, ensemble
from cgatlib.crystals.crystal import ATOMIC_NUMBERS, Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import Ensemble, find_model, load_model, released_models, starting_points
from cgatlib.graphs.packing import pack
from cgatlib.predictor import Predictor
from cgatlib.runs.experiment import Experiment

COLUMNS = ["material_id", "prediction", "uncertainty", "unit", "note"]


@pytest.fixture(scope="module")
def model(model_folder) -> Ensemble:
    return load_model(model_folder)


def crystal(name: str, symbols: str, coords, a: float = 3.2) -> Crystal:
    numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols.split()])
    return Crystal(name, a * np.eye(3), numbers, np.array(coords, dtype=float), {})


GOOD = crystal("good", "Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]])
UNSEEN = crystal("unseen", "Fe Cl", [[0, 0, 0], [0.5, 0.5, 0.5]])
OVERLAP = crystal("overlap", "Na Cl", [[0, 0, 0], [0.01, 0, 0]])
INFINITE = crystal("infinite", "Na Cl", [[0, 0, 0], [math.inf, 0, 0]])
SPARSE = crystal("sparse", "Na", [[0, 0, 0]], a=9.9)
LARGE = crystal("large", "Na Cl Na Cl", [[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]], a=4.4)


# Predictions


def test_prediction_and_uncertainty_follow_from_the_members(model, table):
    crystals = list(table)[:20]
    found = model.predict(crystals)
    assert list(found) == COLUMNS
    assert found["material_id"].tolist() == table.ids[:20]
    members = np.stack([Ensemble((member,)).predict(crystals)["prediction"] for member in model.members])
    np.testing.assert_allclose(found["prediction"], members.mean(axis=0), rtol=1e-6)
    graphs = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], model.members[0].card.graph)[0]
    scale = model.members[0].scale("e_form")
    estimate = model.estimators[0]("e_form", model.members[0].embed_graphs(graphs), members / scale)
    factor = model.card.accuracy["e_form"].uncertainty.factor
    np.testing.assert_allclose(found["uncertainty"], scale * factor * estimate, rtol=1e-3)
    assert (found["uncertainty"] > 0).all()
    assert set(found["unit"]) == {"eV/atom"}
    assert set(found["note"]) == {""}


def test_an_output_that_is_no_number_is_a_note(model):
    """Weights may be finite, and what they give for some crystal may not."""
    wild = copy.deepcopy(model.members[0].network)
    with torch.no_grad():
        for weight in wild.parameters():
            weight *= 1e30
    found = Ensemble((replace(model.members[0], network=wild), *model.members[1:]), model.card).predict([GOOD, UNSEEN])
    assert found["prediction"].isna().all()
    assert found["uncertainty"].isna().all()
    assert found["note"][0] == "the network's output is not a finite number"


def test_members_give_what_their_runs_gave(model, table, seed_runs):
    place = {name: i for i, name in enumerate(table.ids)}
    for member, run in zip(model.members, seed_runs, strict=True):
        crystals = [table.crystal(place[name]) for name in run.predictions["material_id"]]
        again = Ensemble((member,)).predict(crystals)
        np.testing.assert_allclose(again["prediction"], run.predictions["prediction"], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_judged_keeps_its_row_and_says_why(model):
    crystals = [UNSEEN, GOOD, OVERLAP, INFINITE, GOOD]
    found = model.predict(crystals, ids=list("abcde"))
    notes = dict(zip(found["material_id"], found["note"], strict=True))
    assert list(notes) == list("abcde")
    assert notes["a"] == "element not in the training data: Fe"
    assert notes["c"].startswith("overlapping atoms: 0.032 Å apart")
    assert notes["d"] == "bad geometry: coordinates are not finite"
    assert notes["b"] == notes["e"] == ""
    for column in ("prediction", "uncertainty"):
        assert found[column].isna().tolist() == [True, False, True, True, False]
        assert found[column][1] == found[column][4] == pytest.approx(model.predict(GOOD)[column][0], rel=1e-5)


def test_too_few_neighbours_is_a_note(model):
    near = [
        Predictor(member.network, replace(member.card, graph=replace(member.card.graph, max_radius=8.0)))
        for member in model.members
    ]
    found = Ensemble(tuple(near), model.card).predict([GOOD, SPARSE])
    assert found["note"].tolist() == ["", "atom 0 has 0 neighbours within 8 Å, fewer than 4"]
    assert math.isnan(found["prediction"][1])


def test_what_lies_outside_the_training_data_is_predicted_with_a_warning(model):
    found = model.predict([LARGE, SPARSE])
    assert found["prediction"].notna().all()
    assert found["note"][0] == "outside the training data: 4 atoms per cell (at most 2 there)"
    assert "outside the training data: 1 atoms per cell (at least 2 there)" in found["note"][1]
    assert "outside the training data: atoms 9.9 Å apart" in found["note"][1]


def test_several_unseen_elements_are_named_in_order(model):
    mixed = crystal("mixed", "W Na Fe", [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])
    assert model.predict(mixed)["note"][0] == "element not in the training data: Fe, W"


def test_nothing_to_judge_gives_an_empty_prediction_and_nothing_an_empty_table(model):
    assert model.predict([UNSEEN])["prediction"].isna().all()
    empty = model.predict([])
    assert (list(empty), len(empty)) == (COLUMNS, 0)


def test_chunks_change_nothing(model, table, monkeypatch):
    whole = model.predict(table)
    monkeypatch.setattr(ensemble, "_CHUNK", 50)
    parts = model.predict(table)
    assert parts["material_id"].tolist() == table.ids
    assert list(parts.index) == list(range(len(table)))
    np.testing.assert_allclose(parts["prediction"], whole["prediction"], rtol=1e-5)


def test_files_and_tables_in_the_order_given(model, tmp_path):
    from pymatgen.core import Structure

    CrystalTable.from_crystals([UNSEEN, GOOD], "PBE").write(tmp_path / "mixed.parquet")
    Structure(GOOD.lattice, GOOD.numbers, GOOD.frac_coords).to(filename=str(tmp_path / "salt.cif"), fmt="cif")
    (tmp_path / "notes.txt").write_text("hello")
    found = model.predict_files([tmp_path / name for name in ("salt.cif", "mixed.parquet", "notes.txt")])
    assert found["material_id"].tolist() == ["salt", "unseen", "good", "notes"]
    assert found["prediction"].isna().tolist() == [False, True, False, True]
    assert found["prediction"][0] == pytest.approx(found["prediction"][2], rel=1e-4)
    assert found["note"][3] == "undecodable file: notes.txt is neither CIF, POSCAR nor extxyz by its name"


def test_nothing_to_predict_is_refused(model):
    with pytest.raises(CgatError, match="there are no structures to predict"):
        model.predict_files([])


# Where models come from


@pytest.fixture
def released(model_folder, tmp_path, monkeypatch):
    """A folder of released models with one in it, ``volume-demo``."""
    folder = tmp_path / "released_models"
    shutil.copytree(model_folder, folder / "volume-demo")
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", folder)
    return folder


def test_a_released_model_is_loaded_by_its_name(released, model):
    assert released_models() == {"volume-demo": released / "volume-demo"}
    pd.testing.assert_frame_equal(cgatlib.load_model("volume-demo").predict([GOOD]), model.predict([GOOD]))


def test_a_path_is_a_folder_even_where_a_released_model_has_its_name(released, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "volume-demo")
    assert [find_model(name) for name in ("volume-demo", "./volume-demo", Path("volume-demo"))] == [
        released / "volume-demo",
        Path("volume-demo"),
        Path("volume-demo"),
    ]


def test_an_unknown_name_lists_the_known_ones(released, monkeypatch, tmp_path):
    with pytest.raises(CgatError, match="no model 'volume': neither a folder nor a released model; known: volume-demo"):
        load_model("volume")
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path / "none")
    with pytest.raises(CgatError, match="known: none"):
        load_model("volume")


def test_a_run_is_a_model_of_one_member_without_uncertainty(seed_runs):
    one = load_model(seed_runs[0].path)
    found = one.predict([GOOD, UNSEEN])
    assert found["prediction"].notna().tolist() == [True, False]
    assert found["uncertainty"].isna().all()


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def put(name, value, folder):
    """Change a value of the card."""
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, name: value}))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("atom_width", 10**9, "atom_width must be at most 10000, not 1000000000"),
        ("atom_width", 10_000, "of e_form-0.safetensors does not fit: the network has "),
        ("steps", 10**9, "steps must be at most 100, not 1000000000"),
        ("heads", "two", "heads must be int, not 'two'"),
        ("output_widths", [10**9], "output_widths are at most 100 numbers from 1 to 10000"),
    ],
)
def test_a_card_of_another_network_is_refused_before_that_is_made(key, value, sentence, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    members = json.loads((folder / "card.json").read_text())["members"]
    members[0]["experiment"]["model"][key] = value
    put("members", members, folder)
    with pytest.raises(CgatError, match=sentence):
        load_model(folder)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "e_form-1.safetensors").unlink(), "holds no trained model: e_form-1.safetensors is missing"),
        (lambda f: (f / "e_form-1.safetensors").write_bytes(b"broken"), "cannot be read"),
        (
            lambda f: shutil.copy(f / "e_form-0.safetensors", f / "e_form-1.safetensors"),
            "1.safetensors is not the file that",
        ),
        (lambda f: (f / "card.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "card.json").write_text("{}"), "cannot be read"),
        (
            lambda f: (f / "card.json").write_text(
                (f / "card.json").read_text().replace('"file": "e_form-1.', '"file": "../e_form-1.')
            ),
            "lies in a file such as e_form-0.safetensors, not '../e_form-1.safetensors'",
        ),
        (partial(put, "members", []), "a model has at least one member"),
        (partial(put, "accuracy", {"e_form": {"errors": {}, "uncertainty": None}}), "card.json: accuracy: e_form"),
        (partial(put, "accuracy", {}), "the members of the model do not predict  once each"),
        (lambda f: (f / "uncertainty.safetensors").unlink(), "uncertainty.safetensors is missing"),
        (lambda f: (f / "uncertainty.safetensors").write_bytes(b"broken"), "uncertainty.safetensors is not the file"),
        (partial(put, "domain", {"elements": {"Xx": 1}, "ranges": {}}), "the ranges of a domain are atoms, volume"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(spoil, sentence, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    spoil(folder)
    with pytest.raises(CgatError, match=sentence) as refusal:
        load_model(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_package_imports_models_only_when_asked():
    code = "import sys, cgatlib; print([n for n in ('torch', 'numpy', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="No cgatlib attribute load_models"):
        _ = cgatlib.load_models


@pytest.mark.slow
def test_predicting_imports_neither_the_training_loop_nor_pymatgen():
    code = "import sys, cgatlib.ensemble; print([n for n in ('lightning', 'pymatgen') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


# Views and old cards


@pytest.fixture
def view(released) -> str:
    """Name of a view of ``volume-demo``."""
    (released / "energy-demo").mkdir()
    (released / "energy-demo" / "view.json").write_text(json.dumps({"model": "volume-demo", "label": "e_form"}))
    return "energy-demo"


def test_a_view_is_its_model_with_one_label(view, released, model, seed_runs, tmp_path):
    """Here of a model that has no other; `test_release` cuts one out of two."""
    assert list(released_models()) == [view, "volume-demo"]
    pd.testing.assert_frame_equal(load_model(view).predict([GOOD, UNSEEN]), model.predict([GOOD, UNSEEN]))
    assert load_model(view).card == model.card
    assert [run.experiment for run in starting_points(view, tmp_path)] == [run.experiment for run in seed_runs]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": "volume-demo", "label": "band_gap"}, "the model predicts e_form, not band_gap"),
        ({"model": "absent", "label": "e_form"}, "view.json: 'absent' is no released model"),
        ({"model": "energy-demo", "label": "e_form"}, "view.json: 'energy-demo' is no released model of which"),
        ({"model": "volume-demo"}, "view.json lacks 'label'"),
    ],
)
def test_a_view_of_nothing_is_refused(content, sentence, view, released):
    (released / view / "view.json").write_text(json.dumps(content))
    with pytest.raises(CgatError, match=sentence):
        load_model(view)


def test_a_card_in_which_one_label_stands_before_the_others_is_read(model_folder, model, tmp_path):
    """The spread of the members times the factor is then the uncertainty."""
    folder = shutil.copytree(model_folder, tmp_path / "old")
    card = json.loads((folder / "card.json").read_text())
    first = card.pop("accuracy")["e_form"]
    for name in ("baselines", "classes"):
        del first["errors"][name]
    del first["uncertainty"]["rank_correlation"], card["estimates"], card["half"]
    for member in card["members"]:
        (folder / member.pop("file")).rename(folder / f"{member['experiment']['seed']}.safetensors")
        del member["labels"]
    (folder / "uncertainty.safetensors").unlink()
    (folder / "card.json").write_text(json.dumps({"label": "e_form", "unit": "eV/atom", **first, **card}))
    old, now = load_model(folder), model.predict([GOOD, LARGE])
    found = old.predict([GOOD, LARGE])
    np.testing.assert_array_equal(found["prediction"], now["prediction"])
    outputs = np.stack([Ensemble((member,)).predict([GOOD, LARGE])["prediction"] for member in old.members])
    factor = old.card.accuracy["e_form"].uncertainty.factor
    np.testing.assert_allclose(found["uncertainty"], factor * outputs.std(axis=0, ddof=1), rtol=1e-4)


# Starting points of further training


def test_members_are_starting_points(model_folder, seed_runs, tmp_path):
    starts = starting_points(model_folder, tmp_path)
    assert [run.experiment for run in starts] == [run.experiment for run in seed_runs]
    for start, run in zip(starts, seed_runs, strict=True):
        ours, theirs = (Predictor.load(one.path).network.state_dict() for one in (start, run))
        assert all((ours[name] == theirs[name]).all() for name in theirs)
        assert Predictor.load(start.path).card == Predictor.load(run.path).card


def test_a_run_is_its_own_starting_point(seed_runs, tmp_path):
    (start,) = starting_points(seed_runs[0].path, tmp_path)
    assert start.path == seed_runs[0].path
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_say_how_it_was_trained_is_no_starting_point(seed_runs, tmp_path):
    Predictor.load(seed_runs[0].path).save(tmp_path / "imported")
    with pytest.raises(CgatError, match="does not say how it was trained"):
        starting_points(tmp_path / "imported", tmp_path / "cache")


def test_a_card_written_before_a_field_was_added_is_read(model_folder, seed_runs, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "old")
    card = json.loads((folder / "card.json").read_text())
    for member in card["members"]:
        del member["experiment"]["meaning"], member["experiment"]["training"]["schedule"]
    (folder / "card.json").write_text(json.dumps(card))
    (start, *_) = starting_points(folder, tmp_path / "cache")
    assert isinstance(start.experiment, Experiment)
    assert start.experiment == seed_runs[0].experiment
