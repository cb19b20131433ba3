"""From runs to a model with a card: numbers follow from the runs; runs that do not belong together are refused."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from cgatlib import CgatError
from cgatlib.cards import Domain, EnsembleCard
from cgatlib.cli import main
from cgatlib.crystals.crystal import SYMBOLS
from cgatlib.ensemble import Ensemble, load_model, starting_points
from cgatlib.files import file_digest
from cgatlib.predictor import Predictor
from cgatlib.release import release
from cgatlib.runs.experiment import Experiment, Run, of_label
from cgatlib.runs.store import Runs
from cgatlib.runs.trainer import parts_of


@pytest.fixture(scope="module")
def card(model_folder) -> EnsembleCard:
    return load_model(model_folder).card


@pytest.fixture
def store(seed_runs):
    return Runs(seed_runs[0].path.parent)


@pytest.fixture
def parts(seed_runs, table, store):
    experiment = seed_runs[0].experiment
    return parts_of(experiment, store.graphs(table.fingerprint, experiment.graph))


def outputs(runs, crystals) -> np.ndarray:
    """Predictions of each run (runs, crystals)."""
    return np.stack([Ensemble((Predictor.load(run.path),)).predict(crystals)["prediction"] for run in runs])


# Several labels


def test_a_model_of_two_labels_is_two_models_of_one(seed_runs, other_table, tmp_path):
    """Each label's numbers are those of the runs, where the label is known."""
    start = replace(seed_runs[0].experiment, data=other_table.fingerprint, functional="PBEsol")
    experiments = [replace(start, more_labels=("volume_per_atom",), seed=seed) for seed in (0, 1)]
    store = Runs(tmp_path / "runs", {other_table.fingerprint: other_table})
    runs = store.get_all(experiments)
    model = release(runs, other_table, tmp_path / "out", store)
    found = model.predict([other_table.crystal(row) for row in range(len(other_table))]).set_index("material_id")
    for label, accuracy in model.card.accuracy.items():
        tested = [of_label(run.predictions, run.experiment, label) for run in runs]
        error = (tested[0]["prediction"] + tested[1]["prediction"]) / 2 - tested[0]["target"]
        assert accuracy.errors.n_test == len(error)
        assert accuracy.errors.mae == pytest.approx(error.abs().mean())
        rows = found.loc[tested[0]["material_id"]]
        inside = error.abs().to_numpy() <= rows[f"uncertainty_{label}"].to_numpy()
        assert accuracy.uncertainty.coverage[0] == pytest.approx(inside.mean(), abs=1.5 / len(inside))
    assert model.card.accuracy["e_form"].errors.n_test < model.card.accuracy["volume_per_atom"].errors.n_test
    assert load_model(tmp_path / "out").card == model.card
    shown = CliRunner().invoke(main, ["model", "show", str(tmp_path / "out")])
    assert "out: e_form, volume_per_atom (PBEsol), eV/atom" in shown.output
    for label, unit in {"e_form": "eV/atom", "volume_per_atom": "Å³/atom"}.items():
        assert f"{label}:\ntest MAE: {model.card.accuracy[label].errors.mae:.4g} {unit}, RMSE" in shown.output


# What the card says


def test_the_folder_holds_a_card_and_one_file_per_seed(model_folder, seed_runs, card):
    files = {"card.json", "uncertainty.safetensors", *(f"e_form-{seed}.safetensors" for seed in range(3))}
    assert {path.name for path in model_folder.iterdir()} == files
    for member, run in zip(card.members, seed_runs, strict=True):
        ours, theirs = load_file(model_folder / member.file), load_file(run.path / "weights.safetensors")
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
        assert member.sha256 == file_digest(model_folder / member.file)
        assert (Experiment.from_dict(member.experiment), member.metrics) == (run.experiment, run.metrics)
        assert member.code == run.provenance["code"]


def test_the_same_runs_give_the_same_bytes(model_folder, seed_runs, table, store, tmp_path):
    release(seed_runs, table, tmp_path / "again", store, {"name": "binaries", "licence": "none"})
    for path in model_folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_errors_are_those_of_the_mean_of_the_stored_predictions(card, seed_runs):
    predictions = np.stack([run.predictions["prediction"] for run in seed_runs])
    error = predictions.mean(axis=0) - seed_runs[0].predictions["target"]
    errors = card.accuracy["e_form"].errors
    assert errors.n_test == predictions.shape[1]
    assert errors.mae == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert errors.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert errors.mad == pytest.approx(seed_runs[0].metrics["test_mad"])
    assert errors.spread == pytest.approx(predictions.std(axis=0, ddof=1).mean(), rel=1e-4)
    assert errors.mae < max(run.metrics["test_mae"] for run in seed_runs)


def test_baselines_know_no_structure(card, table, parts, seed_runs):
    errors, values = card.accuracy["e_form"].errors, table.label("e_form")
    train, test = values[parts.train], values[parts.test]
    assert errors.baselines["mean"] == pytest.approx(seed_runs[0].metrics["test_mad"])
    assert errors.baselines["median"] == pytest.approx(np.abs(test - np.median(train)).mean())
    assert errors.baselines["zero"] == pytest.approx(np.abs(test).mean())
    assert 0 < errors.baselines["boosting"] < errors.baselines["zero"]


def test_errors_are_told_by_class(card, model_folder, table, parts):
    classes = card.accuracy["e_form"].errors.classes
    assert list(classes) == ["binary compounds"]
    assert classes["binary compounds"] == (len(parts.test), pytest.approx(card.accuracy["e_form"].errors.mae))


def test_the_uncertainty_is_learnt_from_the_validation_set_and_scored_on_the_test_set(model_folder, table, parts):
    model = load_model(model_folder)
    stated = model.card.accuracy["e_form"].uncertainty
    assert stated.n_validation == len(parts.validation)
    found = model.predict([table.crystal(row) for row in parts.test])
    error = np.abs(found["prediction"] - table.label("e_form")[parts.test]).to_numpy()
    uncertainty = found["uncertainty"].to_numpy()
    assert stated.coverage == pytest.approx([(error <= k * uncertainty).mean() for k in (1, 2)], abs=1.5 / len(error))
    assert stated.rank_correlation == pytest.approx(spearmanr(error, uncertainty).statistic, abs=1e-3)
    quarter = np.argsort(uncertainty, kind="stable")[: -(-len(error) // 4)]
    assert stated.mae_by_quarter[0] == pytest.approx(error[quarter].mean(), rel=1e-3)
    assert len(stated.mae_by_quarter) == 4


def test_worst_elements_are_those_with_the_largest_mean_error(seed_runs, table, parts, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cgatlib.release._ENOUGH", 3)
    worst = release(seed_runs, table, tmp_path / "out", store).card.accuracy["e_form"].errors.worst_elements
    error = np.abs(
        np.mean([run.predictions["prediction"] for run in seed_runs], axis=0) - seed_runs[0].predictions["target"]
    )
    numbers = [set(table.crystal(row).numbers.tolist()) for row in parts.test]
    counts = Counter(z for found in numbers for z in found)
    mean = {z: error[[z in found for found in numbers]].mean() for z, count in counts.items() if count >= 3}
    expected = sorted(mean, key=lambda z: -mean[z])[:5]
    assert [symbol for symbol, *_ in worst] == [SYMBOLS[z - 1] for z in expected]
    assert [count for _, count, _ in worst] == [counts[z] for z in expected]
    assert [value for *_, value in worst] == pytest.approx([mean[z] for z in expected])


def test_the_domain_is_that_of_the_training_crystals(card, table, parts):
    crystals = [table.crystal(row) for row in parts.train]
    sodium = sum(11 in crystal.numbers for crystal in crystals)
    assert card.domain.elements["Na"] == sodium
    volumes = [crystal.volume_per_atom for crystal in crystals]
    assert card.domain.ranges["volume_per_atom"] == pytest.approx((min(volumes), max(volumes)))
    assert card.domain.ranges["atoms"] == (2, 2)


def test_data_are_described_and_named_by_their_fingerprint(card, table, seed_runs, store, tmp_path):
    assert card.data == {"name": "binaries", "licence": "none", "fingerprint": table.fingerprint}
    bare = release(seed_runs[:2], replace_source(table, "mine.parquet"), tmp_path / "bare", store).card
    assert bare.data == {"name": "mine.parquet", "licence": "not stated", "fingerprint": table.fingerprint}


def replace_source(table, source):
    return replace(table, source=source)


def test_card_round_trip(card):
    assert EnsembleCard.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["members"][0]["experiment"]["label"] == "e_form"


def test_one_run_has_an_uncertainty_too(seed_runs, table, store, tmp_path):
    model = release(seed_runs[:1], table, tmp_path / "one", store)
    assert EnsembleCard.from_json(model.card.to_json()) == model.card
    assert (model.predict(list(table)[:9])["uncertainty"] > 0).all()
    assert 0 < model.card.accuracy["e_form"].uncertainty.coverage[0] <= 1


# Precision


def test_weights_in_half_precision_are_half_as_large_and_as_good(seed_runs, model_folder, table, store, tmp_path):
    model, whole = release(seed_runs, table, tmp_path / "half", store, half=True), load_model(model_folder)
    for member in model.card.members:
        stored = load_file(tmp_path / "half" / member.file)
        assert {weight.dtype.name for weight in stored.values()} == {"float16"}
    assert model.members[0].network.rank.dtype == torch.float32
    maes = [one.card.accuracy["e_form"].errors.mae for one in (model, whole)]
    assert maes[0] == pytest.approx(maes[1], rel=1e-3)
    assert maes[0] != maes[1]
    found = model.predict(list(table)[:20])["prediction"]
    np.testing.assert_allclose(found, whole.predict(list(table)[:20])["prediction"], atol=3e-3)


def test_half_precision_that_is_too_coarse_is_refused(seed_runs, table, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cgatlib.release._HALF", 0.0)
    with pytest.raises(CgatError, match=r"e_form: half precision changes the test MAE from .*: too coarse"):
        release(seed_runs, table, tmp_path / "half", store, half=True)
    assert not (tmp_path / "half").exists()


# Several trunks


@pytest.fixture(scope="module")
def joint_run(seed_runs, table, table_paths, tmp_path_factory) -> Run:
    """One network for two properties, of which it knows the volume better than the energy."""
    first = seed_runs[0].experiment
    more = replace(first, more_labels=("volume_per_atom",), training=replace(first.training, steps=2, evaluations=1))
    store = Runs(tmp_path_factory.mktemp("joint"), {table.fingerprint: table},
                     seed_runs[0].path.parent / ".graphs")  # fmt: skip
    return store.get(more)


@pytest.fixture(scope="module")
def two_trunks(seed_runs, joint_run, table, tmp_path_factory) -> Path:
    """A model that takes the volume from the joint run and the energy from two single ones."""
    out = tmp_path_factory.mktemp("trunks") / "both"
    release([joint_run, *seed_runs[:2]], table, out, Runs(seed_runs[0].path.parent))
    return out


def test_each_label_comes_from_the_trunk_with_the_smallest_validation_error(two_trunks, joint_run, seed_runs, table):
    model = load_model(two_trunks)
    assert list(model.card.accuracy) == ["e_form", "volume_per_atom"]
    files = {label: [member.file for member in model.card.of_label(label)] for label in model.card.accuracy}
    assert files["e_form"] == ["e_form-0.safetensors", "e_form-1.safetensors"]
    assert files["volume_per_atom"] == ["volume_per_atom-0.safetensors"]
    crystals = list(table)[:20]
    found = model.predict(crystals)
    singles = outputs(seed_runs[:2], crystals).mean(axis=0)
    np.testing.assert_allclose(found["prediction_e_form"], singles, rtol=1e-5, atol=1e-6)
    joint = Ensemble((Predictor.load(joint_run.path),)).predict(crystals)["prediction_volume_per_atom"]
    np.testing.assert_allclose(found["prediction_volume_per_atom"], joint, rtol=1e-5)
    assert (found.filter(like="uncertainty") > 0).all(axis=None)
    shown = CliRunner().invoke(main, ["model", "show", str(two_trunks)])
    assert "member volume_per_atom-0.safetensors: test MAE" in shown.output


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
    shown = CliRunner().invoke(main, ["model", "show", "volume"]).output
    assert shown.startswith("volume: volume_per_atom (PBE), Å³/atom\n")


def test_a_label_starts_from_the_trunk_that_predicts_it(two_trunks, seed_runs, joint_run, tmp_path):
    """And a label that none predicts from the one that is named."""
    singles, joint = [run.experiment for run in seed_runs[:2]], [joint_run.experiment]
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
    (start,) = starting_points(two_trunks, tmp_path, ["volume_per_atom"])
    assert Predictor.load(start.path).card == Predictor.load(joint_run.path).card
    with pytest.raises(CgatError, match="predicts e_form, volume_per_atom, not band_gap: source_label must name"):
        starting_points(two_trunks, tmp_path, ["band_gap"])


def test_a_trunk_that_is_best_for_nothing_is_left_out(seed_runs, table, table_paths, store, tmp_path):
    e = seed_runs[0].experiment
    worse = replace(e, training=replace(e.training, steps=1, evaluations=1))
    run = replace(store, root=tmp_path / "runs", cache=store.root / ".graphs").get(worse)
    with pytest.raises(CgatError, match=f"for no label are the runs {run.experiment.key} better in validation"):
        release([run, *seed_runs], table, tmp_path / "out", store)
    assert not (tmp_path / "out").exists()


def test_elements_of_the_pre_training_alone_are_known(table):
    sodium = [c for c in table if 11 in c.numbers]
    domain = Domain.of(sodium, {z for c in table for z in c.numbers.tolist()})
    assert (domain.elements["Na"], domain.elements["Li"]) == (len(sodium), 0)
    assert 3 in domain.numbers


def test_rare_elements_are_a_warning(table):
    by_name = {crystal.material_id: crystal for crystal in table}
    wide = {"atoms": (1, 9), "volume_per_atom": (1, 99), "nearest_distance": (1, 9)}
    domain = Domain({"Na": 5, "Cl": 4, "Li": 0}, wide)
    assert domain.warnings(by_name["NaCl-rocksalt"]) == "Cl in 4 training crystals"
    assert domain.warnings(by_name["LiCl-rocksalt"]) == "Li in no training crystals; Cl in 4 training crystals"
    assert Domain({"Na": 5, "Cl": 5}, wide).warnings(by_name["NaCl-rocksalt"]) == ""


# What is refused


def test_runs_of_another_split_are_refused(seed_runs, table, table_paths, store, tmp_path):
    first = seed_runs[0].experiment
    other = replace(first, split=replace(first.split, seed=5))
    run = replace(store, root=tmp_path / "runs", cache=store.root / ".graphs").get(other)
    with pytest.raises(CgatError, match=f"{other.key} differ in their split: they are no model together"):
        release([*seed_runs, run], table, tmp_path / "out", store)
    assert not (tmp_path / "out").exists()


def test_runs_of_one_seed_are_refused(seed_runs, table, store, tmp_path):
    with pytest.raises(CgatError, match="need different seeds, not 0, 0"):
        release([seed_runs[0], seed_runs[0]], table, tmp_path / "out", store)


def test_another_table_is_refused(seed_runs, other_table, store, tmp_path):
    with pytest.raises(CgatError, match=rf"trained on a table with fingerprint .* is {other_table.fingerprint}"):
        release(seed_runs, other_table, tmp_path / "out", store)


def test_a_model_is_replaced_and_anything_else_is_not(seed_runs, table, store, tmp_path):
    out = tmp_path / "out"
    release(seed_runs, table, out, store)
    release(seed_runs[:2], table, out, store)
    assert {path.name for path in out.iterdir()} == {
        *("card.json", "uncertainty.safetensors", "e_form-0.safetensors", "e_form-1.safetensors"),
    }
    (tmp_path / "thesis").mkdir()
    with pytest.raises(CgatError, match="thesis exists and is not a model: it is not replaced"):
        release(seed_runs, table, tmp_path / "thesis", store)
    (out / "notes.md").write_text("mine")
    with pytest.raises(CgatError, match="out exists and is not a model: it is not replaced"):
        release(seed_runs, table, out, store)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "thesis"}


def test_a_seed_that_is_a_path_leads_nowhere(seed_runs, table, store, tmp_path):
    folder = shutil.copytree(seed_runs[0].path, tmp_path / "runs" / "run")
    experiment = folder / "experiment.json"
    experiment.write_text(experiment.read_text().replace('"seed": 0', '"seed": "../../x"'))
    with pytest.raises(CgatError, match=r"runs/run: experiment: .*seed must be int, not '../../x'"):
        release([Run(folder)], table, tmp_path / "out", store)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_weights_that_do_not_give_the_predictions_are_refused(seed_runs, table, store, tmp_path):
    folder = shutil.copytree(seed_runs[0].path, tmp_path / "run")
    other = Predictor.load(folder)
    with torch.no_grad():
        for weight in other.network.parameters():
            weight *= 1.1
    other.save(folder)
    with pytest.raises(CgatError, match="its weights do not give its predictions"):
        release([Run(folder)], table, tmp_path / "out", store)
