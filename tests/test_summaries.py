"""Tables and runs that are not here: summaries stand in for tables, archives for training."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from cgatbook.studies import Study
from cgatbook.tables import BookTable, get_runs, load_tables
from cgatlib import CgatError
from cgatlib.cli import main
from cgatlib.crystals.declared import Source
from cgatlib.crystals.summary import TableSummary, distributions, summarise
from cgatlib.crystals.table import CrystalTable
from cgatlib.evaluation.statistics import histogram_edges
from cgatlib.figures.data import label_histograms
from cgatlib.runs.archive import RunArchive
from cgatlib.runs.store import Runs

NO_REJECTS = pd.DataFrame({"material_id": [], "reason": [], "source": []}, dtype=str)
STORED = "data/runs"


def source(table: CrystalTable, reasons: list[str] | None = None) -> Source:
    rejects = pd.DataFrame({"material_id": "x", "reason": reasons, "source": "f"}) if reasons else NO_REJECTS
    return Source(table, Path("nowhere"), rejects, "dft")


@pytest.fixture
def summaries(table: CrystalTable, other_table: CrystalTable) -> dict[str, TableSummary]:
    reasons = ["label missing", "label out of range: e_form = 99.5", "label out of range: e_form = 77.5"]
    return summarise({"pbe": source(table), "pbesol": source(other_table, reasons)}, "pbe")


class TestSummary:
    def test_numbers_are_those_of_the_table(self, summaries, table: CrystalTable, other_table: CrystalTable) -> None:
        found, label = summaries["pbesol"], summaries["pbesol"].labels["e_form"]
        values = other_table.label("e_form")
        known = values[~np.isnan(values)]
        assert (len(found), found.formulas) == (144, len(set(other_table.formulas)))
        assert (found.fingerprint, found.functional, found.origin) == (other_table.fingerprint, "PBEsol", "dft")
        assert list(found.labels) == list(other_table.labels)
        assert label.count == len(known) < 144
        assert label.median == np.median(known)
        assert label.mean == pytest.approx(known.mean())
        assert label.deviation == pytest.approx(known.std(ddof=1))
        assert label.crystals == tuple(np.histogram(known, label.edges)[0])
        volumes = summaries["pbesol"].labels["volume_per_atom"]
        difference = other_table.label("volume_per_atom") - table.label("volume_per_atom")  # the same ids in order
        assert (volumes.difference, volumes.pairs) == (pytest.approx(difference.mean()), 144)
        assert found.reference == table.fingerprint
        assert (summaries["pbe"].labels["e_form"].difference, summaries["pbe"].labels["e_form"].pairs) == (None, 0)
        assert found.elements["Li"] == sum("Li" in formula for formula in other_table.formulas)
        assert list(found.elements)[:3] == ["Li", "O", "F"]

    def test_tables_share_their_bins(self, summaries, table: CrystalTable, other_table: CrystalTable) -> None:
        both = [t.label("volume_per_atom") for t in (table, other_table)]
        edges = {s.labels["volume_per_atom"].edges for s in summaries.values()}
        assert edges == {tuple(histogram_edges(np.concatenate(both)))}
        label_histograms(*distributions(summaries.values()))

    def test_reasons_without_the_value_of_the_crystal(self, summaries) -> None:
        assert summaries["pbesol"].refused == {"label missing": 1, "label out of range": 2}
        assert summaries["pbe"].refused == {}

    def test_no_label_of_a_crystal_is_kept(self, summaries, table: CrystalTable, tmp_path: Path) -> None:
        """But for the median of an odd number of crystals."""
        text = summaries["pbe"].write(tmp_path).read_text()
        written = set(map(float, re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)))
        assert not written & set(table.label("e_form"))
        assert not any(name in text for name in table.ids)
        assert len(text) < 20_000

    def test_written_and_read(self, summaries, tmp_path: Path) -> None:
        path = summaries["pbesol"].write(tmp_path)
        assert path == tmp_path / "tables" / f"{summaries['pbesol'].fingerprint}.json"
        assert TableSummary.read(tmp_path, summaries["pbesol"].fingerprint) == summaries["pbesol"]

    @pytest.mark.parametrize("content", [None, "{", "{}", '{"labels": {"e_form": {"colour": 1}}}'])
    def test_a_file_that_is_missing_or_damaged(self, content: str | None, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "tables").mkdir()
            (tmp_path / "tables" / "f00.json").write_text(content)
        with pytest.raises(CgatError, match="the summary of table f00 cannot be read"):
            TableSummary.read(tmp_path, "f00")


def declared(table: CrystalTable, file: str) -> dict[str, Any]:
    return {"file": file, "functional": table.functional, "origin": "dft", "fingerprint": table.fingerprint}


@pytest.fixture
def root(tmp_path: Path, table: CrystalTable, other_table: CrystalTable, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with two tables and the profile that is to be built without them."""
    (tmp_path / "book").mkdir()
    folder = tmp_path / "tables"
    table.write(folder / "pbe.parquet")
    other_table.write(folder / "pbesol.parquet")
    sources = {"pbe": declared(table, "pbe.parquet"), "pbesol": declared(other_table, "pbesol.parquet")}
    common = {"data": "", "stored": STORED, "sources": sources}
    profile = {"about": "stored", "common": common}
    (tmp_path / "book" / "parameters.yml").write_text(yaml.safe_dump({"profiles": {"mp": profile}}))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/01_data\n")
    here = Path(__file__).parents[1]
    shutil.copy(here / "book" / "01_data.md", tmp_path / "book")
    (tmp_path / "data").mkdir()
    shutil.copytree(here / "data" / "published", tmp_path / "data" / "published")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources_of(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "book" / "parameters.yml").read_text())["profiles"]["mp"]["common"]["sources"]


class TestCommand:
    def test_summaries_are_those_of_the_tables(self, root: Path) -> None:
        result = CliRunner().invoke(main, ["book", "summarise", "--root", str(root), "--data", str(root / "tables")])
        assert result.exit_code == 0, result.output
        assert len(result.output.splitlines()) == 2
        here = load_tables(sources_of(root), "tables")
        absent = load_tables(sources_of(root), "", STORED)
        assert {name: t.table for name, t in absent.items()} == {name: t.table for name, t in here.items()}
        assert all(t.path is None for t in absent.values())
        assert all(t.path.is_file() for t in here.values())

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"fingerprint": "0" * 16}, "source pbe: the profile states the fingerprint 0000000000000000, not "),
            ({"file": "none.parquet"}, "source pbe: "),
            ({"stored": ""}, "profile mp has no stored results that summaries of its tables could go with"),
        ],
    )
    def test_refused(self, root: Path, change: dict[str, str], sentence: str) -> None:
        path = root / "book" / "parameters.yml"
        profile = yaml.safe_load(path.read_text())
        common = profile["profiles"]["mp"]["common"]
        (common if "stored" in change else common["sources"]["pbe"]).update(change)
        path.write_text(yaml.safe_dump(profile))
        result = CliRunner().invoke(main, ["book", "summarise", "--root", str(root), "--data", str(root / "tables")])
        assert result.exit_code == 2
        assert f"Error: {sentence}" in result.output
        assert len(result.output.splitlines()) == 1
        assert not (root / STORED).exists()


class TestAbsentTables:
    def test_without_file_and_summary(self, root: Path) -> None:
        expected = r"source pbe: neither pbe.parquet nor a stored summary of it is here; name the folder .* --data"
        with pytest.raises(CgatError, match=expected):
            load_tables(sources_of(root), "", STORED)
        with pytest.raises(CgatError, match=expected):
            load_tables({"pbe": {"file": "pbe.parquet", "functional": "PBE", "origin": "dft"}}, "")

    def test_borrowed_labels_are_not_shown_and_change_no_fingerprint(self, root: Path) -> None:
        whole = load_tables(sources_of(root), "tables")["pbe"].table
        entries = {"pbe": {**sources_of(root)["pbe"], "borrowed": ["volume_per_atom"]}}
        for data in ("tables", ""):
            whole.write(root / STORED)
            found = load_tables(entries, data, STORED)["pbe"].table
            assert list(found.labels) == ["e_form"]
            assert found.fingerprint == whole.fingerprint


def study(**changes: Any) -> Study:
    values = {"model": "tiny", "steps": 2, "pretraining_steps": 2, "batch_size": 8, "learning_rate": 1e-3}
    values |= {"pretraining_rate": 1e-3, "lowest": 0.1, "cycles": 1, "pretraining_cycles": 1, "evaluations": 1}
    return Study(**{**values, "seeds": (0,), "pretraining_seeds": (0,), **changes})


class TestStoredRuns:
    @pytest.fixture
    def made(self, root: Path) -> dict[str, BookTable]:
        """The tables of the book, whose runs are in its store."""
        tables = load_tables(sources_of(root), "tables")
        get_runs(tables, study().modes(tables["pbe"].table, tables["pbesol"].table, "e_form"), 1)
        return tables

    @pytest.fixture
    def archived(self, root: Path, made: dict[str, BookTable]) -> Path:
        """The book after its runs were archived, and its tables taken away."""
        tables = made
        experiments = study().modes(tables["pbe"].table, tables["pbesol"].table, "e_form")
        runs = get_runs(tables, experiments, 1)
        assert [run.experiment for run in runs] == experiments
        RunArchive.write(root / STORED / "some", runs)
        for table in tables.values():
            table.table.write(root / STORED)
        shutil.rmtree(root / ".cgatlib")
        shutil.rmtree(root / "tables")
        return root

    def test_pages_show_the_same_without_the_tables(
        self, root: Path, run_page: Callable[..., list[Any]], request: pytest.FixtureRequest
    ) -> None:
        values = {"sources": sources_of(root), "targets": ["pbesol"], "labels": ["e_form"], "evaluations": 1}
        values |= {"steps": 2, "pretraining_steps": 2, "batch_size": 8, "learning_rate": 1e-3, "cycles": 1}
        values |= {"pretraining_rate": 1e-3, "pretraining_cycles": 1, "seeds": [0], "pretraining_seeds": [0]}
        pages = {"01_data": {"sources": sources_of(root)}, "02_intra_property": {**values, "workers": 1}}
        here = {name: run_page(name, {**v, "data": "tables"}, root) for name, v in pages.items()}
        request.getfixturevalue("archived")
        absent = {name: run_page(name, {**v, "data": "", "stored": STORED}, root) for name, v in pages.items()}
        for name in pages:
            assert _tables(absent[name]) == _tables(here[name])
            assert len(_tables(here[name])) >= 2
            pairs = zip(_figures(here[name]), _figures(absent[name]), strict=True)
            for (figure, drawn), (stored_figure, stored_drawn) in pairs:
                assert figure == stored_figure
                pd.testing.assert_frame_equal(drawn, stored_drawn)
        assert "the tables are not here" in absent["01_data"][0].data
        assert "the tables are not here" not in here["01_data"][0].data
        assert not (root / ".cgatlib").exists()  # nothing was imported, packed or trained

    def test_what_is_not_stored_names_its_tables(self, archived: Path) -> None:
        tables = load_tables(sources_of(archived), "", STORED)
        low, high = tables["pbe"].table, tables["pbesol"].table
        stored = study().modes(low, high, "e_form")
        assert len(get_runs(tables, stored, 1, STORED)) == len(stored)
        with pytest.raises(CgatError) as caught:
            get_runs(tables, study(steps=3).modes(low, high, "e_form"), 1, STORED)
        # the three on the target set, and the network that two of them start from, whose weights are not archived
        assert str(caught.value).startswith("runs are needed that are not stored (4), and their tables are not here")
        assert re.search(r"pbe, pbesol|pbesol, pbe", str(caught.value))
        scratch = next(e for e in stored if e.functional == "PBEsol" and e.source is None)
        with pytest.raises(CgatError, match=r"stored \(1\), .*: pbesol; name their folder with --data"):
            get_runs(tables, [replace(scratch, seed=7)], 1, STORED)

    @pytest.mark.parametrize(
        ("change", "retrained"),
        [
            ({}, 0),
            ({"rates": {"PBEsol": {"e_form": {"head": 2e-3}}}}, 1),
            ({"steps": 3}, 3),  # none, head, full
            ({"pretraining_steps": 3}, 3),  # the pre-trained network, and the two that start from it
            ({"seeds": (0, 1)}, 3),  # both seeds start from one network
            ({"batch_size": 4}, 4),
        ],
    )
    def test_a_change_trains_what_it_touches(
        self, made: dict[str, BookTable], change: dict[str, Any], retrained: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained: list[str] = []
        monkeypatch.setattr(Runs, "train", lambda self, missing, *rest: trained.extend(missing) or {})
        low, high = made["pbe"].table, made["pbesol"].table
        with suppress(CgatError):  # which says that nothing was trained
            get_runs(made, study(**change).modes(low, high, "e_form"), 1)
        assert len(trained) == retrained
        trained.clear()
        get_runs(made, study().modes(low, high, "e_form"), 1)  # and back
        assert trained == []

    def test_no_such_folder_of_stored_results(self, archived: Path) -> None:
        with pytest.raises(CgatError, match="elsewhere is not a folder of runs"):
            get_runs(load_tables(sources_of(archived), "", STORED), [], 1, "elsewhere")


def _figures(shown: list[Any]) -> list[tuple[str, pd.DataFrame]]:
    return [part for part in shown if isinstance(part, tuple)]


def _tables(shown: list[Any]) -> list[str]:
    """Bodies of the tables among what a page has shown, without the heading of our own numbers."""
    html = [part.data for part in shown if "<table" in getattr(part, "data", "")]
    bodies = [re.sub(r"<caption>.*?</caption>", "", part) for part in html]
    return [re.sub(r"this build \(DFT labels\)|DFT labels, stored runs", "ours", part) for part in bodies]


def test_summaries_kept_with_the_repository_are_whole() -> None:
    folder = Path(__file__).parents[1] / STORED
    for path in (folder / "tables").glob("*.json"):
        summary = TableSummary.read(folder, path.stem)
        assert summary.fingerprint == path.stem
        assert json.loads(path.read_text())["origin"] == "dft"
        for label in summary.labels.values():
            assert 0.98 * label.count < sum(label.crystals) <= label.count
