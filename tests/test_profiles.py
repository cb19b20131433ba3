"""What the profiles of the book ask for: stored runs, the demonstration in short, or the paper's sizes."""

from pathlib import Path

import pytest

from cgatbook.answers import TARGETS, UNLIKE, transfers
from cgatbook.notebooks import effective_values, read_notebooks, read_profile
from cgatlib.runs.archive import RunArchive
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.store import Runs

ROOT = Path(__file__).parents[1]
NOTEBOOKS = read_notebooks(ROOT)


def plan_of(profile: str) -> Plan:
    (path,) = {
        values["demonstration"]
        for values in effective_values(NOTEBOOKS, read_profile(ROOT, profile), {}).values()
        if "demonstration" in values
    }
    return Plan.read(ROOT / path)


class TestRealData:
    PLAN = plan_of("mp")
    STORE = Runs(ROOT / "nowhere", stored=RunArchive(ROOT / "data" / "runs" / "real_data"))

    def test_slow_transfers_have_a_tenth_and_a_hundredth_of_the_chosen_rate(self) -> None:
        for pair in ("e_form-volume", "volume-e_form"):
            best = self.PLAN.rate(f"{pair}-full", self.STORE)
            assert self.PLAN.entries[f"{pair}-slow"].rates == pytest.approx([best / 10])
            assert self.PLAN.entries[f"{pair}-slower"].rates == pytest.approx([best / 100])

    def test_transfers_are_found_in_the_plan(self) -> None:
        within, between = (transfers(self.PLAN, crossed) for crossed in (False, True))
        assert within.keys() >= TARGETS.keys()
        assert between.items() >= UNLIKE.items()

    def test_nothing_is_trained_without_data(self) -> None:
        values = effective_values(NOTEBOOKS, read_profile(ROOT, "mp"), {})
        assert {v["data"] for v in values.values() if "demonstration" in v} == {""}


@pytest.mark.parametrize(("profile", "seeds", "most"), [("demo", 3, 150), ("ci", 2, 60)])
def test_the_demonstration_is_small(profile: str, seeds: int, most: int) -> None:
    plan = plan_of(profile)
    runs = [len(entry.seeds) * len(entry.sizes) for entry in plan.entries.values()]
    assert {t["origin"] for t in plan.tables.values()} == {"surrogate"}
    assert max(len(entry.seeds) for entry in plan.entries.values()) == seeds
    assert sum(runs) <= most
    for crossed in (False, True):
        for name in transfers(plan, crossed):
            assert f"{name}-head" in plan.entries


class TestPaper:
    """The plan that nobody has run here."""

    @staticmethod
    def runs(*names: str) -> list[Experiment]:
        plan = plan_of("paper")
        tables = {name: {**table, "fingerprint": f"{i}" * 16} for i, (name, table) in enumerate(plan.tables.items())}
        stated = Plan(plan.about, tables, plan.entries)
        return [e for name in names for e in stated.experiments(name, Runs(ROOT / "nowhere"))]

    def test_settings(self) -> None:
        found = self.runs("e_hull-pbe", "e_hull-scan-none", "e_hull-scan-full")
        assert {e.model.atom_width for e in found} == {128}
        assert {(e.training.batch_size, e.training.learning_rate, e.training.precision) for e in found} == {
            (512, 1.25e-4, "32-true")
        }
        epochs = {
            (
                e.functional,
                round(e.training.steps * 512 / (1.8e6 if e.source is None and e.functional == "PBE" else 178e3)),
            )
            for e in found
        }
        assert epochs == {("PBE", 390), ("SCAN", 390)}
        assert {(e.functional, e.training.cycles) for e in found} == {("PBE", 3), ("SCAN", 6)}

    def test_sizes(self) -> None:
        assert {e.train_size for e in self.runs("e_hull-scan-sizes-none")} == {11_000, 22_000, 45_000, 89_000, None}
        parents = self.runs("e_hull-pbe-sizes")
        assert {e.train_size for e in parents} == {178_000, 356_000, 712_000}
        assert {e.training.cycles for e in parents} == {4}

    def test_without_data(self) -> None:
        profile = read_profile(ROOT, "paper")
        assert profile.needs_data
        assert "never run" in profile.about
