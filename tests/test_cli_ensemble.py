"""``cgatlib predict`` and ``cgatlib model`` from the shell's side: what they print, write and refuse."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cgatlib import ensemble
from cgatlib.cards import EnsembleCard
from cgatlib.cli import main
from cgatlib.ensemble import load_model

COLUMNS = ["material_id", "prediction", "uncertainty", "unit", "note"]


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


def refused(*arguments) -> str:
    """The one sentence with which a command ends."""
    lines = invoke(*arguments, code=2).stderr.strip().splitlines()
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1].removeprefix("Error: ")


@pytest.fixture
def released(model_folder, tmp_path, monkeypatch) -> str:
    """Name of the one model that comes with the package."""
    shutil.copytree(model_folder, tmp_path / "released_models" / "binaries-pbe")
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path / "released_models")
    return "binaries-pbe"


# predict


@pytest.fixture
def structures(tmp_path) -> list[Path]:
    """Structure files: one that can be predicted and three that cannot."""
    from pymatgen.core import Lattice, Structure

    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    folder = tmp_path / "cifs"
    folder.mkdir()
    Structure(Lattice.cubic(3.2), ["Na", "Cl"], places).to(filename=str(folder / "fine.cif"))
    Structure(Lattice.cubic(3.2), ["Fe", "Cl"], places).to(filename=str(folder / "unseen.cif"))
    overlapping = "\n".join(
        ["overlap", "1.0", "3.5 0 0", "0 3.5 0", "0 0 3.5", "Na Cl", "1 1", "direct", "0 0 0", "0.02 0 0"]
    )
    (folder / "overlap.vasp").write_text(overlapping)
    (folder / "broken.cif").write_text("data_broken\n_cell_length_a ?\n")
    return [folder / name for name in ("broken.cif", "fine.cif", "unseen.cif", "overlap.vasp")]


def test_predictions_are_printed_as_csv_in_the_order_given(released, structures):
    text = invoke("predict", "--model", released, *structures).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["material_id"] for row in rows] == ["broken", "fine", "unseen", "overlap"]
    assert list(rows[0]) == COLUMNS
    fine = rows[1]
    assert float(fine["uncertainty"]) > 0
    assert np.isfinite(float(fine["prediction"]))
    assert fine["note"] == ""
    for row in (rows[0], *rows[2:]):
        assert (row["prediction"], row["uncertainty"]) == ("", "")
    assert rows[2]["note"] == "element not in the training data: Fe"
    assert rows[3]["note"].startswith("overlapping atoms: 0.07")
    assert {row["unit"] for row in rows} == {"eV/atom"}


def test_predictions_can_be_printed_as_json(released, structures):
    rows = json.loads(invoke("predict", "--model", released, *structures, "--json").stdout)
    assert [row["prediction"] is None for row in rows] == [True, False, True, True]
    assert list(rows[0]) == COLUMNS


def test_predictions_go_to_a_file(model_folder, structures, table_paths, table, tmp_path):
    out = tmp_path / "predictions.csv"
    command = ["predict", "--model", model_folder, structures[1], table_paths[0], structures[2], "--out", out]
    n = len(table)
    assert invoke(*command).stdout.strip() == f"{n + 1} of {n + 2} crystals predicted: {out}"
    report = json.loads(invoke(*command, "--json").stdout)
    assert report == {"crystals": n + 2, "predicted": n + 1, "not_judged": 1, "out": str(out)}
    found = pd.read_csv(out)
    assert found["material_id"].tolist() == ["fine", *table.ids, "unseen"]
    expected = load_model(model_folder).predict(table)["prediction"]
    np.testing.assert_allclose(found["prediction"][1:-1], expected, rtol=1e-5)


def test_a_runs_folder_is_a_model_too(seed_runs, structures):
    rows = list(csv.DictReader(io.StringIO(invoke("predict", "--model", seed_runs[0].path, structures[1]).stdout)))
    assert rows[0]["prediction"]
    assert rows[0]["uncertainty"] == ""


def test_predict_refuses_in_one_sentence(released, structures, tmp_path):
    out = tmp_path / "predictions.csv"
    (tmp_path / "empty").mkdir()
    sentence = refused("predict", "--model", tmp_path / "empty", structures[0], "--out", out)
    assert "holds no trained model: model.json is missing" in sentence
    assert "known: binaries-pbe" in refused("predict", "--model", "volume", structures[0])
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    sentence = refused("predict", "--model", released, tmp_path / "bad.parquet", "--out", out)
    assert "bad.parquet as a parquet table" in sentence
    assert not out.exists()
    absent = tmp_path / "absent" / "predictions.csv"
    assert str(absent.parent) in refused("predict", "--model", released, structures[1], "--out", absent)


def test_predictions_replace_only_predictions(released, structures, table_paths, tmp_path):
    out = tmp_path / "predictions.csv"
    for _ in range(2):
        invoke("predict", "--model", released, structures[1], "--out", out)
    (tmp_path / "mine.csv").write_text("material_id,prediction\n")
    for path, why in (
        (structures[1], "is an input"),
        (structures[1].parent, "holds the input"),
        (tmp_path / "mine.csv", "exists and is not a table of predictions"),
        (tmp_path, "holds the input"),
    ):
        assert why in refused("predict", "--model", released, structures[1], "--out", path)
    before = table_paths[0].read_bytes()
    assert "is an input" in refused("predict", "--model", released, table_paths[0], "--out", table_paths[0])
    assert table_paths[0].read_bytes() == before


# model


def test_models_are_listed(released, model_folder):
    card = load_model(model_folder).card
    (line,) = invoke("model", "list").stdout.splitlines()
    assert line.split()[:3] == ["binaries-pbe", "e_form", "PBE"]
    assert f"test MAE {card.accuracy['e_form'].errors.mae:.3g} eV/atom" in line
    assert "3 members" in line
    found = json.loads(invoke("model", "list", "--json").stdout)
    assert found["binaries-pbe"]["accuracy"]["e_form"]["errors"]["mae"] == card.accuracy["e_form"].errors.mae


def test_without_models_the_list_is_empty(monkeypatch, tmp_path):
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path)
    assert invoke("model", "list").stdout == ""
    assert json.loads(invoke("model", "list", "--json").stdout) == {}


@pytest.mark.parametrize("by_name", [True, False])
def test_a_card_is_shown(by_name, released, model_folder):
    name = released if by_name else model_folder
    card = load_model(name).card
    text = " ".join(invoke("model", "show", name).stdout.split())
    assert text.startswith(f"{name}: e_form (PBE), eV/atom name: binaries licence: none fingerprint: ")
    assert f"test MAE: {card.accuracy['e_form'].errors.mae:.4g} eV/atom" in text
    assert f"test errors within it: {card.accuracy['e_form'].uncertainty.coverage[0]:.1%}" in text
    assert "split: by formula, seed 0" in text
    assert "member e_form-2.safetensors: test MAE" in text
    assert f"Na {card.domain.elements['Na']}" in text
    assert "without the structure, eV/atom: boosted trees on the composition" in text
    assert f"rank correlation with the errors {card.accuracy['e_form'].uncertainty.rank_correlation:.2f}" in text
    assert "errors by class, eV/atom (test crystals): binary compounds" in text
    assert EnsembleCard.from_json(invoke("model", "show", name, "--json").stdout) == card


def test_views_are_listed_shown_and_predict(released, structures, tmp_path):
    (tmp_path / "released_models" / "energy").mkdir()
    (tmp_path / "released_models" / "energy" / "view.json").write_text('{"model": "binaries-pbe", "label": "e_form"}')
    first, second = invoke("model", "list").stdout.splitlines()
    assert (first.split()[0], second.split()[0]) == (released, "energy")
    assert first.split()[1:] == second.split()[1:]
    assert invoke("model", "show", "energy").stdout.startswith("energy: e_form (PBE), eV/atom")
    predicted = [invoke("predict", "--model", name, *structures).stdout for name in ("energy", released)]
    assert predicted[0] == predicted[1]


def test_what_has_no_card_cannot_be_shown(seed_runs):
    assert "card.json is missing" in refused("model", "show", seed_runs[0].path)


def test_release_makes_a_model_of_runs(seed_runs, table_paths, model_folder, tmp_path):
    about = tmp_path / "about.yml"
    about.write_text("name: binaries\nlicence: none\n")
    out = tmp_path / "model"
    paths = [run.path for run in seed_runs]
    text = invoke("model", "release", *paths, "--table", table_paths[0], "--about", about, "--out", out).stdout
    assert text.startswith(f"{out}: e_form, MAE ")
    assert text.endswith("eV/atom, from e_form-0.safetensors, e_form-1.safetensors, e_form-2.safetensors\n")
    assert load_model(out).card == load_model(model_folder).card
    half = tmp_path / "half"
    invoke("model", "release", *paths, "--table", table_paths[0], "--half", "--out", half)
    assert "stored in half precision" in invoke("model", "show", half).stdout
    sizes = [sum(path.stat().st_size for path in folder.glob("e_form-*")) for folder in (half, out)]
    assert sizes[0] < 0.8 * sizes[1]  # the names of the weights take some of so small a file


def test_release_refuses_in_one_sentence(seed_runs, table_paths, tmp_path):
    command = ["model", "release", seed_runs[0].path, "--out", tmp_path / "model"]
    assert "trained on a table with fingerprint" in refused(*command, "--table", table_paths[1])
    (tmp_path / "list.yml").write_text("- a\n- b\n")
    sentence = refused(*command, "--table", table_paths[0], "--about", tmp_path / "list.yml")
    assert "list.yml holds no names and values" in sentence
