"""Experiments as data: a key that says everything, and folders whose numbers can be checked."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.model.config import ModelConfig
from cgatlib.runs import experiment as experiments
from cgatlib.runs.experiment import MEANING, Experiment, Run, file_digest, score
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig

PLAIN = Experiment("0123456789abcdef", "PBE", "e_form")
TRANSFERRED = replace(
    PLAIN, functional="SCAN", train_size=1000, source=PLAIN, transfer=TransferConfig("full", "source", True)
)


CHANGES = {
    "data": "fedcba9876543210",
    "functional": "SCAN",
    "label": "volume_per_atom",
    "train_size": 100,
    "seed": 1,
    "source": replace(PLAIN, seed=7),
    "transfer": TransferConfig("head"),
    "graph": GraphConfig(neighbours=12),
    "split": SplitConfig(seed=1),
    "model": ModelConfig(heads=5),
    "training": TrainingConfig(steps=2000),
    "more_labels": ("volume_per_atom",),
    "meaning": MEANING + 1,
}
NESTED = yaml.safe_load("""
graph: {neighbours: 12, ties: reference, tolerance: 1.0e-8, receiver: centre, quotient: false, max_radius: 9.0}
split: {seed: 1, train: 0.7, validation: 0.2, test: 0.2, groups: material_id}
model: {atom_width: 64, edge_width: 64, heads: 5, steps: 4, neighbours: 30, ranks: continuous, output_widths: [64],
  edge_update: attention, condition: difference, pooling: mean, roost_steps: 2, elements: one-hot}
training: {steps: 2000, batch_size: 64, learning_rate: 0.001, weight_decay: 0.01, cycles: 1, lowest: 0.2,
  evaluations: 10, validation_size: 100, precision: bf16-mixed, schedule: one-cycle, averaging: 0.002, clip: 5.0,
  patience: 0.2, trunk_rate: 0.1, label_weights: [2.0]}
transfer: {mode: head, target_statistics: source, reinitialise_head: true, test_crystals: seen, source_label: e_form,
  head_first: 0.1, interpolate: true}
""")


def test_every_field_is_tested():
    assert set(CHANGES) == {field.name for field in fields(Experiment)}
    for name, changes in NESTED.items():
        assert set(changes) == {field.name for field in fields(getattr(PLAIN, name))}


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_changes_the_key(name):
    base = TRANSFERRED if name in ("source", "transfer") else PLAIN
    assert replace(base, **{name: CHANGES[name]}).key != base.key


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in NESTED.items() for name in names])
def test_every_nested_field_changes_the_key(part, name):
    base = replace(TRANSFERRED, transfer=TransferConfig("full")) if part == "transfer" else PLAIN
    values = base.to_dict()
    values[part][name] = NESTED[part][name]
    if name in ("train", "validation", "test"):  # shares add up
        values["split"] |= {"train": 0.7, "test" if name == "test" else "validation": 0.2}
    if name == "ranks":  # of the network, and of its graphs
        values["graph"] |= {"neighbours": 12, "ties": "continuous", "tolerance": 0.0}
    assert Experiment.from_dict(values).key != base.key


def test_continuous_graphs_and_networks_need_each_other():
    for part in ({"graph": GraphConfig(12, "continuous", tolerance=0)}, {"model": ModelConfig(ranks="continuous")}):
        with pytest.raises(CgatError, match=r"ties do not go with a network for \w+ ranks"):
            replace(PLAIN, **part)


def test_a_change_in_the_source_changes_the_key():
    other = replace(TRANSFERRED, source=replace(PLAIN, training=TrainingConfig(steps=2000)))
    assert other.key != TRANSFERRED.key


def test_stating_a_default_does_not_change_the_key():
    stated = {"transfer": TransferConfig("none"), "split": SplitConfig(0, 0.8), "training": TrainingConfig(steps=1000)}
    assert replace(PLAIN, train_size=None, **stated).key == PLAIN.key


def test_a_whole_number_is_the_float():
    assert replace(PLAIN, training=TrainingConfig(clip=5)).key == replace(PLAIN, training=TrainingConfig(clip=5.0)).key


@pytest.fixture
def other_defaults(monkeypatch):
    """A later version, in which whoever does not say otherwise trains in another way."""
    for kind, changes in ((TrainingConfig, {"steps": 7, "evaluations": 3, "clip": 1.0}), (SplitConfig, {"seed": 3})):
        defaults = [changes.get(item.name, item.default) for item in fields(kind)]
        monkeypatch.setattr(kind.__init__, "__defaults__", tuple(defaults))


def test_a_changed_default_does_not_make_two_experiments_one(other_defaults):
    later = Experiment("0123456789abcdef", "PBE", "e_form", training=TrainingConfig(), split=SplitConfig())
    assert later.key != PLAIN.key
    assert Experiment.from_dict(PLAIN.to_dict()).key == PLAIN.key


def test_what_was_stored_before_a_field_came_is_the_same_experiment(other_defaults):
    """Experiments of the archives have neither a meaning nor these fields of the training."""
    stored = TRANSFERRED.to_dict()
    for values in (stored, stored["source"]):
        del values["meaning"]
        for name in ("schedule", "averaging", "clip", "patience", "trunk_rate"):
            del values["training"][name]
    assert Experiment.from_dict(stored).key == TRANSFERRED.key


@pytest.mark.parametrize("kind", [Experiment, GraphConfig, ModelConfig, SplitConfig, TrainingConfig, TransferConfig])
def test_earlier_values_belong_to_fields(kind):
    assert set(getattr(kind, "EARLIER", ())) <= {item.name for item in fields(kind)}


@pytest.mark.parametrize(
    ("part", "change", "sentence"),
    [
        (None, {"seed": "../../x"}, "experiment: seed must be int, not '../../x'"),
        (None, {"seed": 1.0}, "experiment: seed must be int, not 1.0"),
        (None, {"seed": True}, "experiment: seed must be int, not True"),
        (None, {"train_size": "3"}, "experiment: train_size must be int, not '3'"),
        (None, {"label": ["e_form"]}, r"experiment: label must be str, not \['e_form'\]"),
        (None, {"source": "0123"}, "experiment: source must be values by name, not '0123'"),
        (None, {"colour": "red"}, "experiment has an unknown value, 'colour'"),
        ("training", {"steps": 1e3}, "experiment: training: steps must be int, not 1000.0"),
        ("training", {"learning_rate": float("nan")}, "experiment: training: learning_rate must be float, not nan"),
        ("training", {"learning_rate": 10**400}, "experiment: training: learning_rate must be float, not 1000"),
        ("model", {"output_widths": [64, "64"]}, "experiment: model: output_widths must be int, not '64'"),
        ("model", {"output_widths": 64}, "experiment: model: output_widths must be tuple, not 64"),
        ("graph", {"quotient": 1}, "experiment: graph: quotient must be bool, not 1"),
        ("split", {"groups": "id"}, "experiment: split: groups must be 'formula' or 'material_id' or .*, not 'id'"),
    ],
)
def test_a_value_of_another_type_is_refused(part, change, sentence):
    values = PLAIN.to_dict()
    (values if part is None else values[part]).update(change)
    with pytest.raises(CgatError, match=sentence):
        Experiment.from_dict(values)


def test_a_missing_value_is_refused():
    values = PLAIN.to_dict()
    del values["graph"]["ties"]
    with pytest.raises(CgatError, match="experiment: graph lacks 'ties'"):
        Experiment.from_dict(values)


def test_a_chain_of_sources_without_an_end_is_refused():
    values = PLAIN.to_dict()
    for _ in range(2000):
        values = {**values, "source": values}
    with pytest.raises(CgatError, match="more sources"):
        Experiment.from_dict(values)


@pytest.mark.parametrize("experiment", [PLAIN, TRANSFERRED], ids=["plain", "transferred"])
def test_round_trip_through_json(experiment):
    back = Experiment.from_dict(json.loads(json.dumps(experiment.to_dict())))
    assert back == experiment
    assert back.key == experiment.key


FULL = {"source": PLAIN, "transfer": TransferConfig("full")}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": PLAIN}, "transfer mode 'none' and the source run do not go together"),
        ({"transfer": TransferConfig("full")}, "transfer mode 'full' and the source run do not go together"),
        (FULL | {"model": ModelConfig(heads=5)}, "need the same model and graph configuration"),
        (FULL | {"graph": GraphConfig(12)}, "need the same model and graph configuration"),
        (FULL | {"split": SplitConfig(seed=1)}, "need the same split, or test crystals leak"),
        (
            FULL | {"transfer": TransferConfig("head"), "training": TrainingConfig(trunk_rate=0.1)},
            "'head' trains the output network alone: trunk_rate does not apply",
        ),
        ({"graph": GraphConfig(neighbours=30)}, "graphs of 30 neighbours have shell ranks up to that number"),
        ({"more_labels": ("e_form",)}, "a label is named twice: e_form, e_form"),
        ({"training": TrainingConfig(label_weights=(1.0, 2.0))}, "there are 2 label_weights for the labels e_form"),
    ],
)
def test_contradictions_are_refused(change, sentence):
    with pytest.raises(CgatError, match=sentence):
        replace(PLAIN, **change)


# The code that determines a run's numbers


def test_training_code_covers_what_it_imports(imported):
    """A module that is left out must have no say in a run's numbers."""
    says_nothing = {
        "model",  # an empty __init__
        *("crystals.crystal", "crystals.table", "files", "predictor", "processes", "values"),
        *("runs.schedule", "runs.experiment", "runs.provenance", "runs.tested"),
    }
    listed = set(experiments._TRAINING_CODE)
    needed = set().union(*(imported(module) for module in listed))
    assert needed - says_nothing <= listed


# A finished run's folder


@pytest.fixture
def run(tmp_path) -> Run:
    """A folder as the runner leaves it, with made-up numbers."""
    folder = tmp_path / PLAIN.key
    folder.mkdir()
    names = {"material_id": ["a", "b", "c"], "formula": ["NaCl", "KCl", "NaCl"]}
    predictions = pd.DataFrame({**names, "target": [0.0, 1.0, 2.0], "prediction": [0.5, 1.0, 1.0]})
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    curve = pd.DataFrame({"step": [1], "validation_mae": [0.5]})
    curve.to_parquet(folder / "curve.parquet", index=False)
    (folder / "experiment.json").write_text(json.dumps(PLAIN.to_dict()))
    (folder / "metrics.json").write_text(json.dumps(score(predictions["prediction"] - predictions["target"])))
    seal(folder)
    return Run(folder)


def seal(folder: Path) -> None:
    files = {p.name: file_digest(p) for p in folder.iterdir() if p.name != "provenance.json"}
    (folder / "provenance.json").write_text(json.dumps({"files": files}))


def test_an_untouched_run_has_no_problems(run):
    assert run.problems() == []
    assert run.experiment == PLAIN
    assert run.metrics == pytest.approx({"test_mae": 0.5, "test_rmse": (1.25 / 3) ** 0.5})
    assert run.predictions["material_id"].tolist() == ["a", "b", "c"]
    assert run.curve["step"].tolist() == [1]


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet", "curve.parquet", "experiment.json"])
def test_a_changed_or_missing_file_is_found(run, name):
    path = run.path / name
    path.write_bytes(path.read_bytes() + b" ")
    assert run.problems() == [f"{name} was changed after the run"]
    path.unlink()
    assert run.problems() == [f"{name} is missing"]


def test_a_metric_that_does_not_follow_from_the_predictions_is_found(run):
    metrics = json.loads((run.path / "metrics.json").read_text())
    (run.path / "metrics.json").write_text(json.dumps(metrics | {"test_mae": 0.4}))
    seal(run.path)
    assert run.problems() == ["test_mae is 0.4, but the predictions give 0.5"]


@pytest.mark.parametrize("content", [None, "{", "[" * 100_000, "\xff"])
def test_a_file_that_cannot_be_read_is_named(run, content):
    path = run.path / "metrics.json"
    path.unlink() if content is None else path.write_text(content, encoding="latin-1")
    with pytest.raises(CgatError, match=rf"{PLAIN.key}/metrics\.json cannot be read"):
        _ = run.metrics
