"""Stored results of several plans: which one answers, and how long it was trained."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cgatbook.stored import Archives, MissingRunsError, StoredResults, training_of
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
