"""One trained network with its card: saved, read again, refused where it is damaged."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cgatlib import CgatError
from cgatlib.files import file_digest
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.inputs import TargetStatistics
from cgatlib.model.cgat import CGAT
from cgatlib.predictor import ModelCard, Predictor


@pytest.fixture(scope="module")
def trained(tiny_model, tiny_graph) -> Predictor:
    """Random weights."""
    torch.manual_seed(0)
    statistics = TargetStatistics(-1.5, 0.3)
    return Predictor(
        CGAT(tiny_model).eval(), ModelCard("e_form", "eV/atom", "PBE", statistics, tiny_model, tiny_graph, (11, 17))
    )


@pytest.fixture(scope="module")
def graphs(table, tiny_graph) -> PackedGraphs:
    return pack([(c.lattice, c.numbers, c.frac_coords) for c in list(table)[:20]], tiny_graph)[0]


def test_predictions_are_the_networks_output_on_the_cards_scale(trained, graphs):
    with torch.no_grad():
        expected = trained.network(graphs.batch(np.arange(20)))[:, 0].double() * 0.3 - 1.5
    np.testing.assert_allclose(trained.predict_graphs(graphs), expected, rtol=1e-6)
    np.testing.assert_allclose(trained.predict_graphs(graphs, np.array([7, 3])), expected[[7, 3]], rtol=1e-5)


def test_no_graphs_give_no_predictions(trained, graphs):
    assert trained.predict_graphs(graphs, np.arange(0)).shape == (0,)


def test_save_and_load(trained, graphs, tmp_path):
    trained.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"weights.safetensors", "model.json"}
    loaded = Predictor.load(tmp_path / "model")
    assert loaded.card == trained.card
    np.testing.assert_array_equal(loaded.predict_graphs(graphs), trained.predict_graphs(graphs))


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
    forget_digest(tmp_path)
    with pytest.raises(CgatError, match="cannot be read") as refusal:
        Predictor.load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_labels_weights_and_statistics_go_together(trained, tmp_path):
    with pytest.raises(CgatError, match="1 target statistics for the labels e_form, band_gap"):
        replace(trained.card, more_labels=("band_gap",))
    both = TargetStatistics((0.0, 1.0), (1.0, 2.0))
    card = replace(trained.card, more_labels=("band_gap",), statistics=both)
    Predictor(trained.network, card).save(tmp_path)
    with pytest.raises(CgatError, match="cannot be read") as refusal:
        Predictor.load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_model_of_two_labels_is_saved_and_loaded(trained, tiny_model, graphs, tmp_path):
    card = replace(trained.card, more_labels=("band_gap",), statistics=TargetStatistics((0.0, 1.0), (1.0, 2.0)))
    made = Predictor(CGAT(tiny_model, 2).eval(), card)
    made.save(tmp_path)
    loaded = Predictor.load(tmp_path)
    assert loaded.card == card
    assert loaded.predict_graphs(graphs).shape == (len(graphs), 2)
    np.testing.assert_array_equal(loaded.predict_graphs(graphs), made.predict_graphs(graphs))


def forget_digest(folder):
    """As in folders from before it was kept."""
    card = json.loads((folder / "model.json").read_text())
    del card["sha256"]
    (folder / "model.json").write_text(json.dumps(card))


def test_changed_weights_are_refused(trained, tmp_path):
    trained.save(tmp_path)
    path = tmp_path / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CgatError, match="is not the file that was written with it"):
        Predictor.load(tmp_path)
    forget_digest(tmp_path)
    Predictor.load(tmp_path)
    (tmp_path / "provenance.json").write_text(json.dumps({"files": {path.name: file_digest(path)}}))
    Predictor.load(tmp_path)  # a run from before model.json held the digest
    path.write_bytes(content)
    with pytest.raises(CgatError, match="is not the file that was written with it"):
        Predictor.load(tmp_path)


def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    network = copy.deepcopy(trained.network)
    with torch.no_grad():
        network.rank[0, 0] = np.nan
    replace(trained, network=network).save(tmp_path)
    with pytest.raises(CgatError, match=r"the weight rank of weights\.safetensors is not finite"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(
    ("mean", "std", "reason"),
    [(0.0, 0.0, "normalise nothing"), (0.0, -1.0, "normalise nothing"), (float("nan"), 1.0, "must be float, not nan")],
)
def test_a_scale_that_is_none_is_refused(mean, std, reason, trained, tmp_path):
    trained.save(tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card | {"statistics": {"mean": mean, "std": std}}))
    with pytest.raises(CgatError, match=reason):
        Predictor.load(tmp_path)
