"""Trained networks as a tool: every structure keeps its row, and says why when it has no prediction."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cgatlib import CgatError, predictor
from cgatlib.crystals import CrystalTable
from cgatlib.crystals.checks import ATOMIC_NUMBERS, Crystal
from cgatlib.graphs.packing import pack
from cgatlib.inputs import TargetStatistics
from cgatlib.model.cgat import CGAT
from cgatlib.predictor import ModelCard, Predictor

COLUMNS = ["material_id", "prediction", "unit", "note"]


@pytest.fixture(scope="module")
def trained(tiny_model, tiny_graph, table) -> Predictor:
    """Random weights; the card says that it knows the elements of `table`."""
    torch.manual_seed(0)
    elements = tuple(sorted({z for crystal in table for z in crystal.numbers.tolist()}))
    statistics = TargetStatistics(-1.5, 0.3)
    return Predictor(
        CGAT(tiny_model).eval(), ModelCard("e_form", "eV/atom", "PBE", statistics, tiny_model, tiny_graph, elements)
    )


def crystal(name: str, symbols: str, coords, a: float = 4.0) -> Crystal:
    numbers = np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols.split()])
    return Crystal(name, a * np.eye(3), numbers, np.array(coords, dtype=float), {})


GOOD = crystal("good", "Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]])
UNSEEN = crystal("unseen", "Fe Cl", [[0, 0, 0], [0.5, 0.5, 0.5]])
OVERLAP = crystal("overlap", "Na Cl", [[0, 0, 0], [0.01, 0, 0]])
SPARSE = crystal("sparse", "Na", [[0, 0, 0]], a=9.9)


def write_cif(path: Path, structure: Crystal) -> Path:
    from pymatgen.core import Structure

    Structure(structure.lattice, structure.numbers, structure.frac_coords).to(filename=str(path), fmt="cif")
    return path


def test_predictions_are_the_networks_output_in_the_cards_unit(trained, table):
    crystals = list(table)[:20]
    found = trained.predict_crystals([c.material_id for c in crystals], crystals)
    graphs, _ = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], trained.card.graph)
    with torch.no_grad():
        expected = trained.network(graphs.batch(np.arange(20)))[:, 0].double() * 0.3 - 1.5
    assert list(found) == COLUMNS
    np.testing.assert_allclose(found["prediction"], expected, rtol=1e-6)
    assert set(found["unit"]) == {"eV/atom"}
    assert set(found["note"]) == {""}


def test_what_cannot_be_judged_keeps_its_row_and_says_why(trained):
    crystals = [UNSEEN, GOOD, OVERLAP, "undecodable file", SPARSE, GOOD]
    found = trained.predict_crystals(list("abcdef"), crystals)
    notes = dict(zip(found["material_id"], found["note"], strict=True))
    assert list(notes) == list("abcdef")
    assert notes["a"] == "element not in the training data: Fe"
    assert notes["c"].startswith("overlapping atoms: 0.040 Å apart")
    assert notes["d"] == "undecodable file"
    assert notes["b"] == notes["f"] == ""
    assert found["prediction"].isna().tolist() == [True, False, True, True, False, False]
    alone = trained.predict_crystals(["x"], [GOOD])["prediction"][0]
    assert found["prediction"][1] == found["prediction"][5] == pytest.approx(alone, rel=1e-6)


def test_too_few_neighbours_is_a_note(trained):
    near = Predictor(trained.network, replace(trained.card, graph=replace(trained.card.graph, max_radius=8.0)))
    found = near.predict_crystals(["good", "sparse"], [GOOD, SPARSE])
    assert found["note"].tolist() == ["", "atom 0 has 0 neighbours within 8 Å, fewer than 4"]
    assert math.isnan(found["prediction"][1])


def test_several_unseen_elements_are_named_in_order(trained):
    mixed = crystal("mixed", "W Na Fe", [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])
    assert trained.predict_crystals(["m"], [mixed])["note"][0] == "element not in the training data: Fe, W"


def test_nothing_that_can_be_judged_gives_no_prediction(trained):
    found = trained.predict_crystals(["a", "b"], [UNSEEN, "broken"])
    assert found["prediction"].isna().all()


def test_save_and_load(trained, table, tmp_path):
    trained.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"weights.safetensors", "model.json"}
    loaded = Predictor.load(tmp_path / "model")
    assert loaded.card == trained.card
    crystals = list(table)[:5]
    pd.testing.assert_frame_equal(
        loaded.predict_crystals(list("abcde"), crystals), trained.predict_crystals(list("abcde"), crystals)
    )


def test_card_round_trip(trained):

    assert ModelCard.from_json(json.dumps(asdict(trained.card))) == trained.card


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_is_named(name, trained, tmp_path):
    trained.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CgatError, match=f"holds no trained model: {name} is missing"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(("name", "keep"), [("weights.safetensors", 100), ("model.json", 30)])
def test_a_broken_file_is_refused_in_one_line(name, keep, trained, tmp_path):
    trained.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CgatError, match=r"the model in .* cannot be read: ") as refusal:
        Predictor.load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_model_are_refused(trained, tiny_model, tmp_path):
    trained.save(tmp_path)
    torch.manual_seed(0)
    other = replace(trained.card, model=replace(tiny_model, heads=3))
    Predictor(CGAT(other.model), other).save(tmp_path / "other")
    (tmp_path / "other" / "weights.safetensors").replace(tmp_path / "weights.safetensors")
    with pytest.raises(CgatError, match="cannot be read") as refusal:
        Predictor.load(tmp_path)
    assert "\n" not in str(refusal.value)


# Files


def test_structure_files_are_named_by_their_stem(trained, tmp_path):
    paths = [write_cif(tmp_path / "salt.cif", GOOD), write_cif(tmp_path / "iron.cif", UNSEEN)]
    broken = tmp_path / "broken.cif"
    broken.write_text("data_broken\n_cell_length_a nonsense\n")
    absent, odd = tmp_path / "absent.cif", tmp_path / "notes.txt"
    odd.write_text("hello")
    found = trained.predict_files([*paths, broken, absent, odd]).set_index("material_id")
    assert list(found.index) == ["salt", "iron", "broken", "absent", "notes"]
    direct = trained.predict_crystals(["salt"], [GOOD])["prediction"][0]
    assert found["prediction"]["salt"] == pytest.approx(direct, rel=1e-5)
    assert found["note"]["salt"] == ""
    assert found["note"]["iron"] == "element not in the training data: Fe"
    for name in ("broken", "absent", "notes"):
        assert math.isnan(found["prediction"][name])
        assert found["note"][name]
        assert "\n" not in found["note"][name]
    assert "notes.txt is neither CIF, POSCAR nor extxyz" in found["note"]["notes"]


def test_tables_are_predicted_in_chunks_and_in_order(trained, table, table_paths, monkeypatch):
    monkeypatch.setattr(predictor, "_CHUNK", 50)
    found = trained.predict_files([table_paths[0]])
    assert found["material_id"].tolist() == table.ids
    assert list(found.index) == list(range(len(table)))
    whole = trained.predict_crystals(table.ids, list(table))
    np.testing.assert_allclose(found["prediction"], whole["prediction"], rtol=1e-5)


def test_a_table_need_not_state_its_functional(trained, table, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(
        table.table.select(["material_id", "formula", "n_atoms", "lattice", "numbers", "frac_coords"]),
        tmp_path / "bare.parquet",
    )
    assert len(trained.predict_files([tmp_path / "bare.parquet"])) == len(table)


def test_bad_rows_of_a_table_keep_their_place(trained, tmp_path):
    CrystalTable.from_crystals([GOOD, UNSEEN, OVERLAP], "PBE").write(tmp_path / "mixed.parquet")
    found = trained.predict_files([tmp_path / "mixed.parquet"])
    assert found["material_id"].tolist() == ["good", "unseen", "overlap"]
    assert found["prediction"].isna().tolist() == [False, True, True]


def test_a_file_that_is_no_table_is_refused_by_name(trained, tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    for name in ("bad.parquet", "absent.parquet"):
        with pytest.raises(CgatError, match=rf"cannot read .*{name} as a parquet table"):
            trained.predict_files([tmp_path / name])


def test_nothing_to_predict_is_refused(trained):
    with pytest.raises(CgatError, match="there are no structures to predict"):
        trained.predict_files([])
