"""What the profiles of the book ask for: stored runs of a plan, or the paper's sizes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cgatbook import tables
from cgatbook.notebooks import Values, effective_values, read_notebooks, read_profile
from cgatbook.tables import BookTable
from cgatlib.crystals.summary import LabelSummary, TableSummary
from cgatlib.runs.archive import RunArchive
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.store import Runs

ROOT = Path(__file__).parents[1]
NOTEBOOKS = read_notebooks(ROOT)
STUDIES = ("02_intra_property", "03_size_scaling", "04_compute_budget", "05_inter_property")


class _AskedError(Exception):
    pass


@pytest.fixture
def asked(run_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Experiment]]:
    """Return a function that says which experiments a page asks for first, by running it up to there."""

    def ask(found: list[Experiment], known: Any, experiments: Sequence[Experiment], *rest: Any) -> None:
        found += dict.fromkeys(experiments)
        raise _AskedError

    def run(name: str, values: Values) -> list[Experiment]:
        found: list[Experiment] = []
        monkeypatch.setattr(tables, "get_runs", partial(ask, found))
        with pytest.raises(_AskedError):
            run_page(name, values, ROOT)
        return found

    return run


def values_of(profile: str) -> dict[str, Values]:
    return effective_values(NOTEBOOKS, read_profile(ROOT, profile), {})


class TestRealData:
    PLAN = Plan.read(ROOT / "data" / "plans" / "real_data.yaml")
    STORE = Runs(ROOT / "nowhere", stored=RunArchive.open(ROOT / "data" / "runs" / "real_data"))

    def test_slow_transfers_have_a_tenth_and_a_hundredth_of_the_chosen_rate(self) -> None:
        for pair in ("e_form-volume", "volume-e_form"):
            best = self.PLAN.rate(f"{pair}-full", self.STORE)
            assert self.PLAN.entries[f"{pair}-slow"].rates == pytest.approx([best / 10])
            assert self.PLAN.entries[f"{pair}-slower"].rates == pytest.approx([best / 100])

    def test_tables_are_those_of_the_plan(self) -> None:
        for values in values_of("mp").values():
            for name, source in values.get("sources", {}).items():
                theirs = {key: value for key, value in self.PLAN.tables[name].items() if key != "pairs"}
                assert {key: value for key, value in source.items() if key != "borrowed"} == theirs
        assert list(values_of("mp")["01_data"]["sources"]) == list(self.PLAN.tables)

    @pytest.mark.parametrize(
        ("page", "functional", "label", "entries"),
        [
            ("02_intra_property", "PBEsol", "volume_per_atom", "volume-pbesol"),
            ("02_intra_property", "r2SCAN", "volume_per_atom", "volume-r2scan"),
            ("02_intra_property", "HSE", "band_gap", "gap-hse"),
            ("03_size_scaling", "r2SCAN", "volume_per_atom", "volume-r2scan"),
            ("05_inter_property", "PBEsol", "volume_per_atom", "e_form-volume"),
        ],
    )
    def test_rates_are_those_that_the_trials_chose(self, page: str, functional: str, label: str, entries: str) -> None:
        rates = values_of("mp")[page]["rates"][functional][label]
        none = "volume-pbesol-none" if entries == "e_form-volume" else f"{entries}-none"
        chosen = {"none": none, "head": f"{entries}-head", "full": f"{entries}-full"}
        assert rates == {mode: self.PLAN.rate(entry, self.STORE) for mode, entry in chosen.items()}

    @pytest.mark.parametrize(
        ("name", "number"), [(STUDIES[0], 33), (STUDIES[1], 72), (STUDIES[2], 72), (STUDIES[3], 12)]
    )
    def test_every_run_is_one_of_the_plan(self, name: str, number: int, asked: Callable[..., list[Experiment]]) -> None:
        planned = {e.key for entry in self.PLAN.entries for e in self.PLAN.outline(entry, self.STORE)}
        values = values_of("mp")[name]
        found = asked(name, values)
        assert len(found) == number
        unplanned = [e for e in found if not {e.key, e.source.key if e.source else e.key} <= planned]
        assert unplanned == []


def stated(*labels: str, **known: str) -> BookTable:
    distribution = LabelSummary(1000, 0.0, 0.0, 1.0, (0.0, 1.0), (1000,))
    table = TableSummary("", "", "dft", 1000, 500, {}, dict.fromkeys(labels, distribution), {"O": 1000}, "")
    return BookTable(replace(table, fingerprint=known["functional"], **known), None)


class TestPaper:
    """The expansion of the profile that nobody has run here."""

    LABELS = ("e_form", "e_above_hull", "band_gap", "volume_per_atom")
    TABLES = {  # noqa: RUF012
        "pbe": stated(*LABELS, functional="PBE"),
        "pbesol": stated("e_form", "e_above_hull", "volume_per_atom", functional="PBEsol"),
        "scan": stated("e_form", "e_above_hull", "band_gap", functional="SCAN"),
    }

    @pytest.fixture
    def paper(self, asked: Callable[..., list[Experiment]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        monkeypatch.setattr(tables, "load_tables", lambda *rest: self.TABLES)
        return lambda name: asked(name, values_of("paper")[name])

    def test_settings(self, paper: Callable[..., list[Experiment]]) -> None:
        found = paper("02_intra_property")
        assert {e.model.atom_width for e in found} == {128}
        assert {(e.training.batch_size, e.training.learning_rate, e.training.precision) for e in found} == {
            (512, 1.25e-4, "32-true")
        }
        epochs = {
            (e.functional == "PBE", e.training.steps * 512 / (1.8e6 if e.functional == "PBE" else 178e3)) for e in found
        }
        assert {(pre, round(n)) for pre, n in epochs} == {(True, 390), (False, 390)}
        assert {(e.functional == "PBE", e.training.cycles) for e in found} == {(True, 3), (False, 6)}

    def test_sizes(self, paper: Callable[..., list[Experiment]]) -> None:
        found = paper("03_size_scaling")
        assert {e.train_size for e in found} == {11_000, 22_000, 45_000, 89_000, None}
        parents = {e.source for e in found if e.source is not None and e.label == "e_above_hull"}
        assert {e.train_size for e in parents} == {178_000, 356_000, 712_000, None}
        assert {e.training.cycles for e in parents} == {4}

    @pytest.mark.parametrize(
        ("name", "number"),
        [
            ("02_intra_property", 4 + 6 * 3 * 3),  # networks on PBE; properties and functionals, procedures, seeds
            (
                "03_size_scaling",
                2 * 3 * 5 * (1 + 4) + 2 * 3 * 5 * (1 + 1),
            ),  # the grid, and the other property of Fig. 4
            ("04_compute_budget", 2 * 3 * 5 * (1 + 4)),
            # three pairs in the two functionals as far as these have the property: none, head, full, slow
            ("05_inter_property", 3 * (1 + 3) + 2 * 3 * (1 + 3 + 3)),
        ],
    )
    def test_number_of_runs(self, name: str, number: int, paper: Callable[..., list[Experiment]]) -> None:
        assert len(paper(name)) == number

    def test_without_data(self) -> None:
        profile = read_profile(ROOT, "paper")
        assert profile.needs_data
        assert "never run" in profile.about
