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
    card = ModelCard("e_form", "eV/atom", "PBE", statistics, tiny_model, tiny_graph, (11, 17))
    return Predictor(CGAT(tiny_model).eval(), card)


@pytest.fixture(scope="module")
def graphs(table, tiny_graph) -> PackedGraphs:
    return pack([(c.lattice, c.numbers, c.frac_coords) for c in list(table)[:20]], tiny_graph)[0]


@pytest.fixture
def folder(trained, tmp_path):
    """Of `trained`."""
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def change(folder, **values):
    """Values of ``model.json``; None removes one."""
    card = {**json.loads((folder / "model.json").read_text()), **values}
    (folder / "model.json").write_text(json.dumps({name: v for name, v in card.items() if v is not None}))


def refused(folder, sentence):
    with pytest.raises(CgatError, match=sentence) as refusal:
        Predictor.load(folder)
    assert "\n" not in str(refusal.value)


def test_predictions_are_the_networks_output_on_the_cards_scale(trained, graphs):
    with torch.no_grad():
        expected = trained.network(graphs.batch(np.arange(20)))[:, 0].double() * 0.3 - 1.5
    np.testing.assert_allclose(trained.predict_graphs(graphs), expected, rtol=1e-6)
    np.testing.assert_allclose(trained.predict_graphs(graphs, np.array([7, 3])), expected[[7, 3]], rtol=1e-5)
    assert trained.predict_graphs(graphs, np.arange(0)).shape == (0,)


@pytest.mark.parametrize("labels", [1, 2])
def test_save_and_load(labels, trained, tiny_model, graphs, tmp_path):
    made = trained
    if labels == 2:
        both = replace(trained.card, more_labels=("band_gap",), statistics=TargetStatistics((0.0, 1.0), (1.0, 2.0)))
        made = Predictor(CGAT(tiny_model, 2).eval(), both)
    made.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "model.json"}
    loaded = Predictor.load(tmp_path)
    assert loaded.card == made.card
    assert loaded.predict_graphs(graphs).shape == ((20,) if labels == 1 else (20, 2))
    np.testing.assert_array_equal(loaded.predict_graphs(graphs), made.predict_graphs(graphs))


@pytest.mark.parametrize(("name", "keep"), [("weights.safetensors", 100), ("model.json", 30)])
def test_a_missing_or_broken_file_is_named(name, keep, folder):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:keep])
    refused(folder, r"the model in .* cannot be read: ")
    (folder / name).unlink()
    refused(folder, f"holds no trained model: {name} is missing")


def test_labels_weights_and_statistics_go_together(trained, tiny_model, folder):
    with pytest.raises(CgatError, match="1 target statistics for the labels e_form, band_gap"):
        replace(trained.card, more_labels=("band_gap",))
    Predictor(CGAT(replace(tiny_model, heads=3)), trained.card).save(folder)
    refused(folder, "the weight .* does not fit")
    both = replace(trained.card, more_labels=("band_gap",), statistics=TargetStatistics((0.0, 1.0), (1.0, 2.0)))
    Predictor(trained.network, both).save(folder)
    refused(folder, "the weight .* does not fit")


def test_changed_weights_are_refused(folder):
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(folder, "is not the file that was written with it")
    change(folder, sha256=None)  # as in runs from before it stood there, whose provenance has it
    (folder / "provenance.json").write_text(json.dumps({"files": {path.name: file_digest(path)}}))
    Predictor.load(folder)
    path.write_bytes(content)
    refused(folder, "is not the file that was written with it")


def test_weights_that_are_not_finite_are_refused(trained, folder):
    network = copy.deepcopy(trained.network)
    with torch.no_grad():
        network.rank[0, 0] = np.nan
    replace(trained, network=network).save(folder)
    refused(folder, r"the weight rank of weights\.safetensors is not finite")


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0)])
def test_a_scale_that_is_none_is_refused(mean, std, folder):
    change(folder, statistics={"mean": mean, "std": std})
    refused(folder, "normalise nothing|mean")
