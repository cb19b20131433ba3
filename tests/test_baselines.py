"""Baselines: the crystals they may see, what they learn, and the files they are stored in."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from threadpoolctl import threadpool_limits

from cgatlib import CgatError
from cgatlib.cli import main
from cgatlib.crystals.composition import element_fractions
from cgatlib.evaluation import baselines
from cgatlib.evaluation.baselines import (
    BASELINES,
    Task,
    all_baselines,
    baseline,
    baseline_problems,
    read_baselines,
    write_baselines,
)
from cgatlib.evaluation.comparison import compare
from cgatlib.graphs.store import build_store
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig

NEED_NOTHING_MORE = [name for name, model in BASELINES.items() if not model.needs_source]
NEED_SOURCE = [name for name, model in BASELINES.items() if model.needs_source]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Boosting with a few trees on one thread: others only wait for each other on a hundred crystals."""
    monkeypatch.setattr(baselines, "_TREES", 25)
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def experiment(other_table):
    return Experiment(other_table.fingerprint, "PBEsol", "e_form")


@pytest.fixture(scope="module")
def source(table):
    """Formation energies under the other functional; one in nine is not known."""
    known = dict(zip(table.ids, (table.label("e_form") + 0.1).tolist(), strict=True))
    for material_id in list(known)[::9]:
        del known[material_id]
    return known


@pytest.fixture(scope="module")
def task(experiment, other_table, source):
    return Task.of(experiment, other_table, source)


def elements_sum(task):
    """Labels that are a sum of one number per element, weighted by its fraction."""
    return element_fractions(task.formulas.tolist()) @ np.sin(np.arange(103.0))


def predicted(name, task):
    """Predictions for the test part, (n_test,)."""
    model = BASELINES[name]
    return model.fit(task.paired() if model.needs_source else task).predictions


class TestTask:
    def test_parts_share_no_formula_and_carry_the_label(self, task, other_table):
        formulas = [set(task.formulas[rows]) for rows in vars(task.parts).values()]
        assert not formulas[0] & formulas[1]
        assert not formulas[2] & (formulas[0] | formulas[1])
        used = np.concatenate(list(vars(task.parts).values()))
        assert len(used) == np.isfinite(other_table.label("e_form")).sum()

    def test_graphs_give_the_same_task_as_their_table(self, task, experiment, other_table, tiny_graph, tmp_path):
        same = Task.of(experiment, build_store(other_table, tmp_path / "graphs", tiny_graph))
        assert same.source is None
        assert baseline("ridge", same).errors.equals(baseline("ridge", task).errors)

    @pytest.mark.parametrize(("change", "fewer"), [({"train_size": 20}, True), ({"split": SplitConfig(seed=3)}, False)])
    def test_size_and_split_of_the_experiment_act(self, experiment, other_table, task, change, fewer):
        other = baseline("ridge", Task.of(replace(experiment, **change), other_table))
        own = baseline("ridge", task)
        assert (other.n_train == 20) == fewer
        assert (set(other.errors["crystal"]) == set(own.errors["crystal"])) == fewer
        assert other.errors["error"][0] != own.errors["error"][0]

    def test_the_seed_chooses_the_training_crystals(self, experiment, other_table):
        tasks = [Task.of(replace(experiment, train_size=20, seed=seed), other_table) for seed in (0, 1)]
        assert set(tasks[0].parts.train) != set(tasks[1].parts.train)
        assert tasks[0].parts.test.tolist() == tasks[1].parts.test.tolist()

    def test_another_table_is_refused(self, experiment, table):
        with pytest.raises(CgatError, match=f"are of table {table.fingerprint}, the experiment is on table"):
            Task.of(experiment, table)


class TestModels:
    @pytest.mark.parametrize("name", BASELINES)
    def test_labels_of_the_test_part_are_not_looked_at(self, name, task):
        blank = task.labels.copy()
        blank[task.parts.test] = np.nan
        expected, found = (predicted(name, t) for t in (task, replace(task, labels=blank)))
        assert found.tolist() == expected.tolist()

    @pytest.mark.parametrize("name", ["ridge", "boosting", "source label + ridge", "source label + boosting"])
    def test_validation_crystals_choose(self, name, task):
        labels = elements_sum(task)
        spoilt = labels.copy()
        spoilt[task.parts.validation] = np.random.default_rng(0).normal(0, 5, len(task.parts.validation))
        choices = [dict(baseline(name, replace(task, labels=own)).choices) for own in (labels, spoilt)]
        assert choices[0] != choices[1]

    def test_constants(self, task):
        known = task.labels[task.parts.train]
        for name, value in (("mean", known.mean()), ("median", np.median(known))):
            found = baseline(name, task)
            assert set(predicted(name, task)) == {value}
            assert found.errors.empty  # they would be the labels, but for a constant
            assert found.mae == pytest.approx(np.abs(task.labels[task.parts.test] - value).mean())

    def test_ridge_finds_a_sum_over_elements(self, task):
        task = replace(task, labels=elements_sum(task))
        assert baseline("ridge", task).mae < 0.01 * baseline("mean", task).mae

    def test_boosting_finds_what_no_sum_over_elements_can(self, experiment, task):
        fractions = element_fractions(task.formulas.tolist())
        heavy = (fractions[:, [18, 36, 55]] > 0).any(axis=1)  # K, Rb, Ba as cations
        oxide = (fractions[:, [7, 15, 33]] > 0).any(axis=1)
        task = replace(task, labels=np.where(heavy ^ oxide, 1.0, 0.0))
        assert baseline("boosting", task).mae < 0.6 * baseline("ridge", task).mae

    def test_the_source_label_is_the_other_functionals(self, task, source):
        expected = [source[i] for i in task.ids[task.parts.test] if i in source]
        assert predicted("source label", task).tolist() == expected

    @pytest.mark.parametrize("name", NEED_SOURCE)
    def test_only_crystals_with_a_source_label_are_used(self, name, task, source):
        found, whole = baseline(name, task), baseline("mean", task)
        assert found.n_train < whole.n_train
        assert found.n_test == len(set(task.ids[task.parts.test]) & set(source)) < whole.n_test
        assert len(found.errors) == (0 if name == "source label" else found.n_test)
        assert "calculation" in found.needs

    def test_corrections_of_the_source_label_are_learnt(self, task):
        shifted = 1.2 * np.nan_to_num(task.source) + elements_sum(task)
        task = replace(task, labels=np.where(np.isnan(task.labels), np.nan, shifted))
        raw, linear, trees = (baseline(name, task).mae for name in NEED_SOURCE)
        assert linear < 0.02 * raw
        assert trees < 0.8 * raw

    def test_baselines_repeat(self, task):
        first, again = (baseline("boosting", task) for _ in range(2))
        assert first.errors.equals(again.errors)

    def test_all_that_apply(self, task):
        assert [b.name for b in all_baselines(task)] == list(BASELINES)
        assert [b.name for b in all_baselines(replace(task, source=None))] == NEED_NOTHING_MORE

    def test_bad_requests_are_refused(self, experiment, other_table, task):
        with pytest.raises(CgatError, match="give the task a `source`"):
            baseline("source label", replace(task, source=None))
        with pytest.raises(CgatError, match="no crystal of the train part has a source label"):
            baseline("source label", Task.of(experiment, other_table, {}))


class TestFiles:
    def test_what_is_written_is_read(self, task, tmp_path):
        written = [baseline("ridge", task), baseline("source label", task)]
        write_baselines(tmp_path / "new", written)
        found = read_baselines(tmp_path / "new")
        for one, other in zip(written, found, strict=True):
            np.testing.assert_array_equal(one.errors.astype({"error": np.float32}), other.errors)
            assert {**vars(one), "errors": None} == {**vars(other), "errors": None}
        assert baseline_problems(tmp_path / "new") == []
        assert baseline_problems(tmp_path) == []

    def test_a_mae_that_does_not_follow_is_found(self, task, tmp_path):
        write_baselines(tmp_path, [replace(baseline("ridge", task), mae=0.5), replace(baseline("mean", task), mae=0.5)])
        (problem,) = baseline_problems(tmp_path)
        assert problem.startswith("baseline 0 (ridge): the MAE is 0.5, but the errors give ")

    def test_changed_predictions_are_refused(self, task, tmp_path):
        write_baselines(tmp_path, [baseline("mean", task)])
        predictions = (tmp_path / "baselines.parquet").read_bytes()
        (tmp_path / "baselines.parquet").write_bytes(predictions[:-1] + b"x")
        with pytest.raises(CgatError, match=r"baselines\.parquet (was changed after it was written|cannot be read)"):
            read_baselines(tmp_path)
        assert len(baseline_problems(tmp_path)) == 1

    def test_a_missing_file_is_named(self, task, tmp_path):
        write_baselines(tmp_path, [baseline("mean", task)])
        (tmp_path / "baselines.json").unlink()
        with pytest.raises(CgatError, match=r"baselines\.json cannot be read"):
            read_baselines(tmp_path)


@pytest.mark.slow
def test_baselines_are_scored_on_the_test_crystals_of_a_run(
    experiment, other_table, table_paths, tiny_model, tiny_graph, tmp_path
):
    training = TrainingConfig(steps=4, batch_size=16, evaluations=2, cycles=1)
    experiment = replace(experiment, train_size=30, model=tiny_model, graph=tiny_graph, training=training)
    store = Runs(tmp_path / "runs", {other_table.fingerprint: other_table}, tmp_path / "graphs")
    run = store.get(experiment)
    found, simple = (baseline(name, Task.of(experiment, other_table)) for name in ("ridge", "mean"))
    assert found.n_train == run.metrics["n_train"]
    assert simple.mae == pytest.approx(run.metrics["test_mad"])
    assert compare([run.errors], [found.errors]).crystals == run.metrics["n_test"]


@pytest.fixture
def plan_file(tmp_path, table_paths):
    """A plan that transfers from one table to the other; one column of the second file pairs it with the first."""
    pairs = pq.read_table(table_paths[1])
    values = pa.array([None if i % 4 == 1 else float(i) for i in range(len(pairs))])
    pq.write_table(pairs.append_column("e_form_pbe", values), tmp_path / "high.parquet")
    shutil.copy(table_paths[0], tmp_path / "low.parquet")
    common = {"label": "e_form", "model": "tiny", "steps": 5, "evaluations": 1, "learning_rate": 0.001}
    plan = {
        "about": "two tables",
        "tables": {
            "low": {"file": "low.parquet", "functional": "PBE"},
            "high": {"file": "high.parquet", "functional": "PBEsol", "pairs": {"e_form": "e_form_pbe"}},
        },
        "runs": {
            "base": {**common, "table": "low", "splits": [0, 1]},
            "none": {**common, "table": "high", "splits": [0, 1]},
            "full": {**common, "table": "high", "from": "base", "mode": "full", "splits": [0, 1]},
            "sizes": {**common, "table": "high", "from": "base", "mode": "full", "sizes": [20, None]},
            "few": {
                **common,
                "table": "low",
                "from": {"run": "base", "seed": 0},
                "mode": "full",
                "sizes": [30],
                "seeds": [0, 1],
            },
        },
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def test_a_plan_has_baselines_for_every_target_and_split(plan_file, tmp_path):
    shown = CliRunner().invoke(
        main, ["baselines", str(plan_file), "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    )
    assert shown.exit_code == 0, shown.output
    found = read_baselines(tmp_path / "o")
    whole, few = ([b for b in found if b.train_size == size] for size in (None, 30))
    assert {(b.name, b.split["seed"]) for b in whole} == {(name, split) for name in BASELINES for split in (0, 1)}
    assert {(b.name, b.seed) for b in few} == {(name, seed) for name in NEED_NOTHING_MORE for seed in (0, 1)}
    assert {(b.functional, b.n_train) for b in few} == {("PBE", 30)}
    for split in (0, 1):
        sizes = {b.name: b.n_train for b in whole if b.split["seed"] == split}
        assert {sizes[name] for name in NEED_NOTHING_MORE} == {sizes["mean"]}
        assert all(sizes[name] < sizes["mean"] for name in NEED_SOURCE), sizes


def test_a_column_of_pairs_that_is_not_there_is_named(plan_file, tmp_path):
    plan_file.write_text(plan_file.read_text().replace("e_form_pbe", "e_form_lda"))
    shown = CliRunner().invoke(
        main, ["baselines", str(plan_file), "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    )
    assert shown.exit_code == 2
    assert "table high" in shown.output
    assert "has no column 'e_form_lda', which its pairs name" in " ".join(shown.output.split())
