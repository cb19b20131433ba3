"""Models to use: every structure keeps its row, says why when it has no prediction, and how far to trust it."""

import copy
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
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

COLUMNS = ["material_id", "prediction", "uncertainty", "unit", "note"]
PAIR = [[0, 0, 0], [0.5, 0.5, 0.5]]


@pytest.fixture(scope="module")
def model(model_folder) -> Ensemble:
    return load_model(model_folder)


def crystal(name: str, symbols: str, coords, a: float = 3.2) -> Crystal:
    numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols.split()])
    return Crystal(name, a * np.eye(3), numbers, np.array(coords, dtype=float), {})


GOOD = crystal("good", "Na Cl", PAIR)
UNSEEN = crystal("unseen", "W Na Fe", [*PAIR, [0.5, 0, 0]])
OVERLAP = crystal("overlap", "Na Cl", [[0, 0, 0], [0.01, 0, 0]])
INFINITE = crystal("infinite", "Na Cl", [[0, 0, 0], [math.inf, 0, 0]])
SPARSE = crystal("sparse", "Na", [[0, 0, 0]], a=9.9)
LARGE = crystal("large", "Na Cl Na Cl", [[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]], a=4.4)


# Predictions


def test_prediction_and_uncertainty_follow_from_the_members(model, table, monkeypatch):
    monkeypatch.setattr(ensemble, "_CHUNK", 8)
    crystals = list(table)[:20]
    found = model.predict(crystals)
    assert list(found) == COLUMNS
    assert found["material_id"].tolist() == table.ids[:20]
    graphs = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], model.members[0].card.graph)[0]
    members = np.stack([member.predict_graphs(graphs) for member in model.members])
    np.testing.assert_allclose(found["prediction"], members.mean(axis=0), rtol=1e-5)
    scale = model.members[0].scale("e_form")
    estimate = model.estimators[0]("e_form", model.members[0].embed_graphs(graphs), members / scale)
    factor = model.card.accuracy["e_form"].uncertainty.factor
    np.testing.assert_allclose(found["uncertainty"], scale * factor * estimate, rtol=1e-3)
    assert (set(found["unit"]), set(found["note"])) == ({"eV/atom"}, {""})


def test_members_give_what_their_runs_gave(model, table, seed_runs):
    place = {name: i for i, name in enumerate(table.ids)}
    for member, run in zip(model.members, seed_runs, strict=True):
        crystals = [table.crystal(place[name]) for name in run.predictions["material_id"]]
        again = Ensemble((member,)).predict(crystals)
        np.testing.assert_allclose(again["prediction"], run.predictions["prediction"], rtol=1e-5, atol=1e-6)


def test_a_model_is_one_line_where_it_is_shown(model):
    assert repr(model) == "<model of e_form (PBE), members: 2>"


def test_every_crystal_keeps_its_row_and_says_why_it_has_no_prediction(model):
    crystals = [UNSEEN, GOOD, OVERLAP, INFINITE, GOOD, LARGE, SPARSE]
    found = model.predict(crystals, ids=list("abcdefg"))
    assert found["material_id"].tolist() == list("abcdefg")
    expected = ["element not in the training data: Fe, W", "", "overlapping atoms: 0.032 Å apart"]
    expected += ["bad geometry: coordinates are not finite", ""]
    expected += ["outside the training data: 4 atoms per cell (at most 2 there)"]
    expected += ["outside the training data: 1 atoms per cell (at least 2 there)"]
    for note, start in zip(found["note"], expected, strict=True):
        assert note.startswith(start)
        assert bool(note) == bool(start)
    assert "outside the training data: atoms 9.9 Å apart" in found["note"][6]
    for column in ("prediction", "uncertainty"):
        assert found[column].isna().tolist() == [True, False, True, True, False, False, False]
        assert found[column][1] == found[column][4] == pytest.approx(model.predict(GOOD)[column][0], rel=1e-5)


def test_notes_of_what_the_network_cannot_do(model):
    wild = copy.deepcopy(model.members[0].network)
    with torch.no_grad():
        for weight in wild.parameters():
            weight *= 1e30  # finite, and what it gives is not
    wild = Ensemble((replace(model.members[0], network=wild), *model.members[1:]), model.card)
    short = replace(model.members[0].card, graph=replace(model.members[0].card.graph, max_radius=8.0))
    near = Ensemble(tuple(replace(member, card=short) for member in model.members), model.card)
    for one, bad, note in (
        (wild, GOOD, "the network's output is not a finite number"),
        (near, SPARSE, "atom 0 has 0 neighbours within 8 Å, fewer than 4"),
    ):
        found = one.predict([bad, UNSEEN])
        assert found[["prediction", "uncertainty"]].isna().all(axis=None)
        assert found["note"][0] == note


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
    with pytest.raises(CgatError, match="there are no structures to predict"):
        model.predict_files([])
    empty = model.predict([])
    assert (list(empty), len(empty)) == (COLUMNS, 0)


def test_a_run_is_a_model_of_one_member_without_uncertainty(seed_runs):
    found = load_model(seed_runs[0].path).predict([GOOD, UNSEEN])
    assert found["prediction"].notna().tolist() == [True, False]
    assert found["uncertainty"].isna().all()


def test_what_imports_what():
    """The package and the commands nothing that takes long; predicting neither the training loop nor pymatgen."""
    look = "print(sorted({'lightning', 'numpy', 'pymatgen', 'torch'} & sys.modules.keys()));"
    code = f"import sys, cgatlib, cgatlib.cli; {look} import cgatlib.ensemble; {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['numpy', 'torch']"]


# Where models come from


@pytest.fixture
def released(model_folder, tmp_path, monkeypatch):
    """A folder of released models with ``volume-demo`` in it and ``energy-demo``, a view of that."""
    folder = tmp_path / "released_models"
    shutil.copytree(model_folder, folder / "volume-demo")
    (folder / "energy-demo").mkdir()
    (folder / "energy-demo" / "view.json").write_text(json.dumps({"model": "volume-demo", "label": "e_form"}))
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", folder)
    return folder


def test_a_released_model_has_a_name_and_a_path_is_a_folder(released, model, tmp_path, monkeypatch):
    assert released_models() == {name: released / name for name in ("energy-demo", "volume-demo")}
    pd.testing.assert_frame_equal(cgatlib.load_model("volume-demo").predict([GOOD]), model.predict([GOOD]))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(released / "volume-demo", "volume-demo")
    assert find_model("volume-demo") == released / "volume-demo"
    assert find_model("./volume-demo") == find_model(Path("volume-demo")) == Path("volume-demo")
    with pytest.raises(CgatError, match="no model 'volume': neither a folder nor a released model; known: energy-demo"):
        load_model("volume")


def test_a_view_is_its_model_with_one_label(released, model, seed_runs, tmp_path):
    """Here of a model that has no other; `test_release` cuts one out of two."""
    pd.testing.assert_frame_equal(load_model("energy-demo").predict([GOOD, UNSEEN]), model.predict([GOOD, UNSEEN]))
    assert load_model("energy-demo").card == model.card
    assert [run.experiment for run in starting_points("energy-demo", tmp_path)] == [run.experiment for run in seed_runs]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"model": "volume-demo", "label": "band_gap"}, "the model predicts e_form, not band_gap"),
        ({"model": "absent", "label": "e_form"}, "view.json: 'absent' is no released model"),
        ({"model": "energy-demo", "label": "e_form"}, "view.json: 'energy-demo' is no released model of which"),
        ({"model": "volume-demo"}, "label"),
    ],
)
def test_a_view_of_nothing_is_refused(content, sentence, released):
    (released / "energy-demo" / "view.json").write_text(json.dumps(content))
    with pytest.raises(CgatError, match=sentence):
        load_model("energy-demo")


# Damage


def put(value, *keys):
    """Change a value of the card."""

    def change(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        part = card
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (folder / "card.json").write_text(json.dumps(card))

    return change


def written(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


NETWORK = ("members", 0, "experiment", "model")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "e_form-1.safetensors").unlink(), "holds no trained model: e_form-1.safetensors is missing"),
        (written("e_form-1.safetensors", b"broken"), "e_form-1.safetensors is not the file that was written with it"),
        (written("card.json", b"{"), "cannot be read"),
        (written("card.json", b"{}"), "cannot be read"),
        (put("../e_form-1.safetensors", "members", 1, "file"), "lies in a file such as e_form-0.safetensors, not '../"),
        (put([], "members"), "a model has at least one member"),
        (put({"e_form": {"errors": {}, "uncertainty": None}}, "accuracy"), "accuracy"),
        (put({}, "accuracy"), "the members of the model do not predict  once each"),
        (lambda f: (f / "uncertainty.safetensors").unlink(), "uncertainty.safetensors is missing"),
        (written("uncertainty.safetensors", b"broken"), "uncertainty.safetensors is not the file"),
        (put({"elements": {"Xx": 1}, "ranges": {}}, "domain"), "the ranges of a domain are atoms, volume"),
        (put(10**9, *NETWORK, "atom_width"), "atom_width must be from 1 to 10000, not 1000000000"),
        (put(10_000, *NETWORK, "atom_width"), "of e_form-0.safetensors does not fit: the network has "),
        (put(10**9, *NETWORK, "steps"), "steps must be from 1 to 100, not 1000000000"),
        (put("two", *NETWORK, "heads"), "heads"),
        (put([10**9], *NETWORK, "output_widths"), "output_widths are at most 100 numbers from 1 to 10000"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(spoil, sentence, model_folder, tmp_path):
    """Before a network is made that would fill the memory."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    spoil(folder)
    with pytest.raises(CgatError, match=sentence) as refusal:
        load_model(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


# Earlier cards


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
        del member["labels"], member["experiment"]["meaning"], member["experiment"]["training"]["schedule"]
    (folder / "uncertainty.safetensors").unlink()
    (folder / "card.json").write_text(json.dumps({"label": "e_form", "unit": "eV/atom", **first, **card}))
    found, now = load_model(folder).predict([GOOD, LARGE]), model.predict([GOOD, LARGE])
    np.testing.assert_array_equal(found["prediction"], now["prediction"])
    outputs = [Ensemble((member,)).predict([GOOD, LARGE])["prediction"] for member in model.members]
    factor = model.card.accuracy["e_form"].uncertainty.factor
    np.testing.assert_allclose(found["uncertainty"], factor * np.std(outputs, axis=0, ddof=1), rtol=1e-4)
    starts = starting_points(folder, tmp_path / "cache")
    assert [start.experiment.seed for start in starts] == [0, 1]


# Starting points of further training


def test_members_are_starting_points(model_folder, seed_runs, tmp_path):
    starts = starting_points(model_folder, tmp_path)
    assert [run.experiment for run in starts] == [run.experiment for run in seed_runs]
    for start, run in zip(starts, seed_runs, strict=True):
        ours, theirs = Predictor.load(start.path), Predictor.load(run.path)
        assert ours.card == theirs.card
        state = theirs.network.state_dict()
        assert all(torch.equal(weight, state[name]) for name, weight in ours.network.state_dict().items())


def test_a_run_is_its_own_starting_point_and_an_imported_network_is_none(seed_runs, tmp_path):
    (start,) = starting_points(seed_runs[0].path, tmp_path)
    assert start.path == seed_runs[0].path
    assert list(tmp_path.iterdir()) == []
    Predictor.load(seed_runs[0].path).save(tmp_path / "imported")
    with pytest.raises(CgatError, match="does not say how it was trained"):
        starting_points(tmp_path / "imported", tmp_path / "cache")
