"""Stored results of several plans: which one answers, and how long it was trained."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from cgatbook.stored import Archives, MissingRunsError, StoredResults, TrainedResults, changed_plan, training_of
from cgatlib import CgatError

ROOT = Path(__file__).parents[1]
SHORT = ["data/plans/real_data.yaml", "data/runs/real_data"]
TARGET = [f"volume-pbesol-{mode}" for mode in ("none", "head", "full")]


@pytest.fixture(scope="module")
def short() -> StoredResults:
    return Archives.open(ROOT, [SHORT]).parts[0]


def trained_longer(part: StoredResults, names: list[str]) -> StoredResults:
    """The same results as if the runs of `names`, and no others, had been trained with patience."""

    class Longer(StoredResults):
        def runs(self, name):
            if name not in names:
                raise MissingRunsError(name)
            training = replace(part.runs(name)[0].experiment.training, patience=0.2)
            return [
                SimpleNamespace(experiment=replace(run.experiment, training=training), metrics=run.metrics)
                for run in part.runs(name)
            ]

    return Longer(part.plan, part.archive)


def test_the_preferred_archive_answers_once_it_has_all_runs(short):
    for known, expected in (([], "short"), (TARGET[:2], "short"), (TARGET, "long")):
        both = Archives((trained_longer(short, known), short))
        assert both.of(*TARGET).mae(TARGET[0]).training == expected
    assert both.of(*TARGET, "gap-hse-none").mae(TARGET[0]).training == "short"  # what is compared was trained alike


def test_what_no_archive_has(short):
    none = Archives((trained_longer(short, []),))
    assert not none.has(TARGET[0])
    with pytest.raises(MissingRunsError, match="volume-pbesol-none, volume-pbesol-head"):
        none.of(*TARGET[:2])
    with pytest.raises(CgatError, match="no plan has a run 'volume'"):
        none.has("volume")


def test_untouched_networks_are_not_trained(short):
    assert training_of(short.runs("volume-pbesol-untouched")[0]) == "none"


@pytest.fixture
def plan(tmp_path: Path, table, other_table) -> Path:
    """The plan of a demonstration of two steps a run, and its tables."""
    for name, one in (("pbe", table), ("pbesol", other_table)):
        one.write(tmp_path / "tables" / f"{name}.parquet")
    tables = {
        name: {"file": f"{name}.parquet", "functional": functional, "origin": "surrogate"}
        for name, functional in (("pbe", "PBE"), ("pbesol", "PBEsol"))
    }
    before = {"table": "pbe", "label": "e_form"}
    after = {"table": "pbesol", "label": "e_form"}
    content = {
        "about": "demonstration",
        "tables": tables,
        "defaults": {"model": "tiny", "batch_size": 8, "steps": 2, "evaluations": 1, "learning_rate": 1e-3},
        "runs": {"pre": before, "none": after, "full": {**after, "from": "pre", "mode": "full"}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "plan.yaml"


def test_a_demonstration_trains_what_is_asked_for_and_nothing_twice(plan):
    def here() -> TrainedResults:
        return TrainedResults.here(plan, plan.parent / "tables", plan.parent / "home")

    live = here()
    assert live.has("none")
    assert len(live.archive) == 1
    found = live.table("none", "full")
    assert list(found["mode"]) == ["none", "full"]
    assert found["pretrain_size"].tolist() == [0, live.runs("pre")[0].metrics["n_train"]]
    assert set(live.curves("full")["source_label"]) == {"e_form"}
    assert live.origins == ["surrogate"]
    assert "3 runs" in live.footer(0.0).data
    again = here()
    assert again.mae("full").value == live.mae("full").value
    assert again.runs("full")[0].metrics["seconds"] == live.runs("full")[0].metrics["seconds"]


def test_changes_act_on_what_no_run_states_itself(plan):
    content = yaml.safe_load(plan.read_text())
    content["runs"] = dict(reversed(content["runs"].items()))
    content["runs"]["pre"]["steps"] = 5
    plan.write_text(yaml.safe_dump(content, sort_keys=False))
    changes = {"steps": 3, "seeds": [0, 1]}
    live = TrainedResults.here(plan, plan.parent / "tables", plan.parent / "home", changes=changes)
    assert list(live.plan.entries) == ["pre", "none", "full"]
    found = [run.experiment for run in live.runs("full")]
    assert [(e.seed, e.training.steps, e.source.training.steps) for e in found] == [(0, 3, 5), (1, 3, 5)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stpes": 3}, "changes {'stpes': 3}: defaults: unknown field 'stpes'; known: table, label,"),
        ({"steps": "many"}, "defaults: steps must be a whole number, not 'many'"),
        ({"steps": -1}, "defaults: steps: input should be greater than or equal to 0, not -1"),
        ({"seeds": 3}, "defaults: seeds must be a list, not 3"),
        ({"label": "band_gap"}, "every run of the plan states its own label"),
    ],
)
def test_changes_that_are_refused(plan, changes, expected):
    with pytest.raises(CgatError) as caught:
        changed_plan(plan, changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_table_of_a_demonstration_states_its_origin(plan):
    content = yaml.safe_load(plan.read_text())
    del content["tables"]["pbe"]["origin"]
    plan.write_text(yaml.safe_dump(content))
    with pytest.raises(CgatError, match="table pbe does not state its origin; known: surrogate, dft"):
        TrainedResults.here(plan, plan.parent / "tables", plan.parent / "home")
