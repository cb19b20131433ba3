"""From runs to a model with a card: numbers follow from the runs; runs that do not belong together are refused."""

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from cgatlib import CgatError
from cgatlib.cards import Domain, EnsembleCard
from cgatlib.crystals.crystal import SYMBOLS
from cgatlib.ensemble import load_model, starting_points
from cgatlib.files import file_digest
from cgatlib.predictor import Predictor
from cgatlib.release import release
from cgatlib.runs.experiment import Experiment, Run, of_label
from cgatlib.runs.store import Runs
from cgatlib.runs.trainer import parts_of


@pytest.fixture(scope="module")
def card(model_folder) -> EnsembleCard:
    return load_model(model_folder).card


@pytest.fixture(scope="module")
def store(seed_runs, table, other_table) -> Runs:
    """Where `seed_runs` lie."""
    runs = Runs(seed_runs[0].path.parent)
    runs.add(table, other_table)
    return runs


@pytest.fixture(scope="module")
def parts(seed_runs, table, store):
    experiment = seed_runs[0].experiment
    return parts_of(experiment, store.graphs(table.fingerprint, experiment.graph))


@pytest.fixture(scope="module")
def joint_run(seed_runs, store) -> Run:
    """One network for two properties, of which it knows the volume better than the energy."""
    first = seed_runs[0].experiment
    training = replace(first.training, steps=2, evaluations=1)
    return store.get(replace(first, more_labels=("volume_per_atom",), training=training))


# What the card says


def test_the_folder_holds_a_card_and_one_file_per_seed(model_folder, seed_runs, card, table):
    files = {
        "card.json",
        "uncertainty.safetensors",
        *(f"e_form-{run.experiment.seed}.safetensors" for run in seed_runs),
    }
    assert {path.name for path in model_folder.iterdir()} == files
    for member, run in zip(card.members, seed_runs, strict=True):
        ours, theirs = load_file(model_folder / member.file), load_file(run.path / "weights.safetensors")
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
        assert member.sha256 == file_digest(model_folder / member.file)
        assert (Experiment.from_dict(member.experiment), member.metrics) == (run.experiment, run.metrics)
        assert member.code == run.provenance["code"]
    assert EnsembleCard.from_json(card.to_json()) == card
    assert card.data == {"name": "binaries", "licence": "none", "fingerprint": table.fingerprint}


def test_errors_are_those_of_the_mean_of_the_stored_predictions(card, seed_runs, table, parts):
    predictions, values = np.stack([run.predictions["prediction"] for run in seed_runs]), table.label("e_form")
    error = predictions.mean(axis=0) - seed_runs[0].predictions["target"]
    errors, test = card.accuracy["e_form"].errors, values[parts.test]
    assert errors.n_test == predictions.shape[1]
    assert errors.mae == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert errors.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert errors.mad == errors.baselines["mean"] == pytest.approx(seed_runs[0].metrics["test_mad"])
    assert errors.spread == pytest.approx(predictions.std(axis=0, ddof=1).mean(), rel=1e-4)
    assert errors.baselines["median"] == pytest.approx(np.abs(test - np.median(values[parts.train])).mean())
    assert errors.baselines["zero"] == pytest.approx(np.abs(test).mean())
    assert 0 < errors.baselines["boosting"] < errors.baselines["zero"]
    assert errors.classes == {"binary compounds": (len(test), pytest.approx(errors.mae))}


def test_the_uncertainty_is_learnt_from_the_validation_set_and_scored_on_the_test_set(model_folder, table, parts):
    model = load_model(model_folder)
    stated = model.card.accuracy["e_form"].uncertainty
    assert stated.n_validation == len(parts.validation)
    found = model.predict([table.crystal(row) for row in parts.test])
    error = np.abs(found["prediction"] - table.label("e_form")[parts.test]).to_numpy()
    uncertainty = found["uncertainty"].to_numpy()
    assert stated.coverage == pytest.approx([(error <= k * uncertainty).mean() for k in (1, 2)], abs=1.5 / len(error))
    rank = spearmanr(error, uncertainty).statistic
    assert stated.rank_correlation == pytest.approx(rank, abs=0.02)  # near ties may change places
    quarter = np.argsort(uncertainty, kind="stable")[: -(-len(error) // 4)]
    assert stated.mae_by_quarter[0] == pytest.approx(error[quarter].mean(), rel=1e-3)
    assert len(stated.mae_by_quarter) == 4


def test_one_run_is_a_model_with_its_worst_elements_and_an_uncertainty(
    seed_runs, table, parts, store, tmp_path, monkeypatch
):
    monkeypatch.setattr("cgatlib.release._ENOUGH", 3)
    model = release(seed_runs[:1], replace(table, source="mine.parquet"), tmp_path / "one", store)
    assert model.card.data == {"name": "mine.parquet", "licence": "not stated", "fingerprint": table.fingerprint}
    assert (model.predict(list(table)[:9])["uncertainty"] > 0).all()
    assert 0 < model.card.accuracy["e_form"].uncertainty.coverage[0] <= 1
    error = np.abs(seed_runs[0].predictions["prediction"] - seed_runs[0].predictions["target"])
    by_element = defaultdict(list)
    for row, value in zip(parts.test, error, strict=True):
        for z in table.crystal(row).numbers:
            by_element[SYMBOLS[z - 1]].append(value)
    expected = [(symbol, len(v), np.mean(v)) for symbol, v in by_element.items() if len(v) >= 3]
    expected = sorted(expected, key=lambda row: -row[2])[:5]
    assert [list(row) for row in model.card.accuracy["e_form"].errors.worst_elements] == [
        [symbol, n, pytest.approx(mae, rel=1e-4)] for symbol, n, mae in expected
    ]


def test_the_domain_is_that_of_the_training_crystals(card, table, parts):
    crystals = [table.crystal(row) for row in parts.train]
    assert card.domain.elements["Na"] == sum(11 in crystal.numbers for crystal in crystals)
    volumes = [crystal.volume_per_atom for crystal in crystals]
    assert card.domain.ranges["volume_per_atom"] == pytest.approx((min(volumes), max(volumes)))
    assert card.domain.ranges["atoms"] == (2, 2)


def test_elements_of_the_pre_training_alone_are_known_and_rare_ones_are_a_warning(table):
    sodium = [c for c in table if 11 in c.numbers]
    domain = Domain.of(sodium, {z for c in table for z in c.numbers.tolist()})
    assert (domain.elements["Na"], domain.elements["Li"]) == (len(sodium), 0)
    assert 3 in domain.numbers
    by_name = {crystal.material_id: crystal for crystal in table}
    wide = {"atoms": (1, 9), "volume_per_atom": (1, 99), "nearest_distance": (1, 9)}
    domain = Domain({"Na": 5, "Cl": 4, "Br": 5, "Li": 0}, wide)
    assert domain.warnings(by_name["NaBr-rocksalt"]) == ""
    assert domain.warnings(by_name["LiCl-rocksalt"]) == "Li in no training crystals; Cl in 4 training crystals"


# Precision


def test_weights_in_half_precision_are_half_as_large_and_as_good(
    seed_runs, model_folder, table, store, tmp_path, monkeypatch
):
    model, whole = release(seed_runs, table, tmp_path / "half", store, half=True), load_model(model_folder)
    stored = load_file(tmp_path / "half" / model.card.members[0].file)
    assert {weight.dtype.name for weight in stored.values()} == {"float16"}
    assert model.members[0].network.rank.dtype == torch.float32
    maes = [one.card.accuracy["e_form"].errors.mae for one in (model, whole)]
    assert maes[0] == pytest.approx(maes[1], rel=1e-3)
    assert maes[0] != maes[1]
    monkeypatch.setattr("cgatlib.release._HALF", 0.0)
    with pytest.raises(CgatError, match=r"e_form: half precision changes the test MAE from .*: too coarse"):
        release(seed_runs, table, tmp_path / "coarse", store, half=True)
    assert not (tmp_path / "coarse").exists()


# Several labels and trunks


def test_a_model_of_two_labels_is_two_models_of_one(seed_runs, other_table, store, tmp_path, invoke):
    """Each label's numbers are those of the runs, where the label is known."""
    start = replace(seed_runs[0].experiment, data=other_table.fingerprint, functional="PBEsol")
    runs = [store.get(replace(start, more_labels=("volume_per_atom",), seed=seed)) for seed in (0, 1)]
    model = release(runs, other_table, tmp_path / "out", store)
    found = model.predict(list(other_table)).set_index("material_id")
    shown = invoke("model", "show", tmp_path / "out").stdout
    assert "out: e_form, volume_per_atom (PBEsol), eV/atom" in shown
    for (label, accuracy), unit in zip(model.card.accuracy.items(), ("eV/atom", "Å³/atom"), strict=True):
        tested = [of_label(run.predictions, run.experiment, label) for run in runs]
        error = (tested[0]["prediction"] + tested[1]["prediction"]) / 2 - tested[0]["target"]
        assert accuracy.errors.n_test == len(error)
        assert accuracy.errors.mae == pytest.approx(error.abs().mean())
        inside = error.abs().to_numpy() <= found.loc[tested[0]["material_id"], f"uncertainty_{label}"].to_numpy()
        assert accuracy.uncertainty.coverage[0] == pytest.approx(inside.mean(), abs=1.5 / len(inside))
        assert f"{label}:\ntest MAE: {accuracy.errors.mae:.4g} {unit}, RMSE" in shown
    assert model.card.accuracy["e_form"].errors.n_test < model.card.accuracy["volume_per_atom"].errors.n_test


@pytest.fixture(scope="module")
def two_trunks(seed_runs, joint_run, table, store, tmp_path_factory) -> Path:
    """A model that takes the volume from the joint run and the energy from two single ones."""
    out = tmp_path_factory.mktemp("trunks") / "both"
    release([joint_run, *seed_runs], table, out, store)
    return out


def test_each_label_comes_from_the_trunk_with_the_smallest_validation_error(two_trunks, joint_run, model_folder, table):
    model, crystals = load_model(two_trunks), list(table)[:20]
    files = {label: [member.file for member in model.card.of_label(label)] for label in model.card.accuracy}
    assert files == {
        "e_form": ["e_form-0.safetensors", "e_form-1.safetensors"],
        "volume_per_atom": ["volume_per_atom-0.safetensors"],
    }
    found, singles, joint = (load_model(one).predict(crystals) for one in (two_trunks, model_folder, joint_run.path))
    np.testing.assert_allclose(found["prediction_e_form"], singles["prediction"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["uncertainty_e_form"], singles["uncertainty"], rtol=1e-4)
    np.testing.assert_allclose(found["prediction_volume_per_atom"], joint["prediction_volume_per_atom"], rtol=1e-5)


def test_a_view_cuts_one_label_out_of_two(joint_run, table, store, tmp_path, monkeypatch):
    """Its columns are those of a model of one label; what starts from it starts from the network as it was trained."""
    monkeypatch.setattr("cgatlib.ensemble.RELEASED_MODELS", tmp_path / "released")
    whole = release([joint_run], table, tmp_path / "released" / "both", store)
    (tmp_path / "released" / "volume").mkdir()
    text = json.dumps({"model": "both", "label": "volume_per_atom"})
    (tmp_path / "released" / "volume" / "view.json").write_text(text)
    view, crystals = load_model("volume"), list(table)[:20]
    found, expected = view.predict(crystals), whole.predict(crystals)
    assert list(found) == ["material_id", "prediction", "uncertainty", "unit", "note"]
    assert set(found["unit"]) == {"Å³/atom"}
    for name in ("prediction", "uncertainty"):
        np.testing.assert_allclose(found[name], expected[f"{name}_volume_per_atom"], rtol=1e-5)
    assert view.card.accuracy == {"volume_per_atom": whole.card.accuracy["volume_per_atom"]}
    (start,) = starting_points("volume", tmp_path / "starts", ["band_gap"])
    assert start.experiment == joint_run.experiment
    assert Predictor.load(start.path).card == Predictor.load(joint_run.path).card


def test_a_label_starts_from_the_trunk_that_predicts_it(two_trunks, seed_runs, joint_run, tmp_path):
    """And a label that none predicts from the one that is named."""
    singles, joint = [run.experiment for run in seed_runs], [joint_run.experiment]
    for labels, source_label, expected in (
        (["e_form"], None, singles),
        (["volume_per_atom"], None, joint),
        (["volume_per_atom"], "e_form", singles),
        (["band_gap", "volume_per_atom"], None, joint),
        (["volume_per_atom"], "fresh", joint),
        (["band_gap"], "volume_per_atom", joint),
        (["band_gap"], "e_form", singles),
    ):
        starts = starting_points(two_trunks, tmp_path, labels, source_label)
        assert [run.experiment for run in starts] == expected
    with pytest.raises(CgatError, match="predicts e_form, volume_per_atom, not band_gap: source_label must name"):
        starting_points(two_trunks, tmp_path, ["band_gap"])


# What is refused


def test_runs_that_do_not_belong_together_are_refused(seed_runs, table, other_table, store, tmp_path):
    first = seed_runs[0].experiment
    split = store.get(replace(first, split=replace(first.split, seed=5)))
    worse = store.get(replace(first, training=replace(first.training, steps=1, evaluations=1)))
    for runs, given, sentence in (
        ([*seed_runs, split], table, f"{split.experiment.key} differ in their split: they are no model together"),
        ([worse, *seed_runs], table, f"for no label are the runs {worse.experiment.key} better in validation"),
        ([seed_runs[0]] * 2, table, "need different seeds, not 0, 0"),
        (seed_runs, other_table, f"trained on a table with fingerprint .* is {other_table.fingerprint}"),
    ):
        with pytest.raises(CgatError, match=sentence):
            release(runs, given, tmp_path / "out", store)
        assert not (tmp_path / "out").exists()


def test_a_model_is_replaced_and_else_nothing_is(seed_runs, model_folder, table, store, tmp_path):
    out = shutil.copytree(model_folder, tmp_path / "out")
    (out / "e_form-1.safetensors").write_bytes(b"damaged")
    release(seed_runs, table, out, store, {"name": "binaries", "licence": "none"})
    assert {path.name for path in out.iterdir()} == {path.name for path in model_folder.iterdir()}
    for path in model_folder.glob("e_form-*"):
        assert path.read_bytes() == (out / path.name).read_bytes()
    release(seed_runs[:1], table, out, store)
    assert {path.name for path in out.iterdir()} == {"card.json", "uncertainty.safetensors", "e_form-0.safetensors"}
    (tmp_path / "thesis").mkdir()
    (out / "notes.md").write_text("mine")
    for name in ("thesis", "out"):
        with pytest.raises(CgatError, match=f"{name} exists and is not a model: it is not replaced"):
            release(seed_runs, table, tmp_path / name, store)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "thesis"}


def test_a_changed_run_is_refused(seed_runs, table, store, tmp_path):
    folder = shutil.copytree(seed_runs[0].path, tmp_path / "runs" / "run")
    other = Predictor.load(folder)
    with torch.no_grad():
        for weight in other.network.parameters():
            weight *= 1.1
    other.save(folder)
    with pytest.raises(CgatError, match="its weights do not give its predictions"):
        release([Run(folder)], table, tmp_path / "out", store)
    experiment = folder / "experiment.json"
    experiment.write_text(experiment.read_text().replace('"seed": 0', '"seed": "../../x"'))
    with pytest.raises(CgatError, match=r"runs/run: experiment: .*seed.*'../../x'"):
        release([Run(folder)], table, tmp_path / "out", store)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
