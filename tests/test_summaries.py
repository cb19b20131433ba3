"""Summaries, which stand in for tables that are not here."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from cgatlib import CgatError
from cgatlib.cli import main
from cgatlib.crystals.sources import Source
from cgatlib.crystals.table import CrystalTable
from cgatlib.evaluation.statistics import histogram_edges
from cgatlib.evaluation.summaries import TableSummary, distributions, summarise
from cgatlib.figures.data import label_histograms

NO_REJECTS = pd.DataFrame({"material_id": [], "reason": [], "source": []}, dtype=str)
STORED = "data/runs"


def source(table: CrystalTable, reasons: list[str] | None = None) -> Source:
    rejects = pd.DataFrame({"material_id": "x", "reason": reasons, "source": "f"}) if reasons else NO_REJECTS
    return Source(table, rejects, "dft")


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


@pytest.fixture
def root(tmp_path: Path, table: CrystalTable, other_table: CrystalTable) -> Path:
    """A book of one page, whose profile names a plan with two tables."""
    (tmp_path / "book").mkdir()
    declared = {}
    for name, one in (("pbe", table), ("pbesol", other_table)):
        one.write(tmp_path / "tables" / f"{name}.parquet")
        declared[name] = {"file": f"{name}.parquet", "functional": one.functional, "origin": "dft"}
        declared[name]["fingerprint"] = one.fingerprint
    plan = {"about": "two tables", "tables": declared, "runs": {}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    profiles = {"mp": {"about": "stored", "common": {"demonstration": "plan.yaml", "data": ""}}}
    (tmp_path / "book" / "parameters.yml").write_text(yaml.safe_dump({"profiles": profiles}))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/01_data\n")
    shutil.copy(Path(__file__).parents[1] / "book" / "01_data.md", tmp_path / "book")
    return tmp_path


def summarised(root: Path) -> Any:
    return CliRunner().invoke(main, ["book", "summarise", "--root", str(root), "--data", str(root / "tables")])


class TestCommand:
    def test_summaries_are_those_of_the_tables(self, root: Path, summaries) -> None:
        result = summarised(root)
        assert result.exit_code == 0, result.output
        assert len(result.output.splitlines()) == 2
        for one in summaries.values():
            found = TableSummary.read(root / STORED, one.fingerprint)
            assert (found.labels, found.elements) == (one.labels, one.elements)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"fingerprint": "0" * 16}, "table pbe: the plan states the fingerprint 0000000000000000, "),
            ({"file": "none.parquet"}, "source pbe: "),
        ],
    )
    def test_refused(self, root: Path, change: dict[str, str], sentence: str) -> None:
        plan = yaml.safe_load((root / "plan.yaml").read_text())
        plan["tables"]["pbe"].update(change)
        (root / "plan.yaml").write_text(yaml.safe_dump(plan))
        result = summarised(root)
        assert result.exit_code == 2
        assert f"Error: {sentence}" in result.output
        assert len(result.output.splitlines()) == 1
        assert not (root / STORED).exists()


def test_summaries_kept_with_the_repository_are_whole() -> None:
    folder = Path(__file__).parents[1] / STORED
    for path in (folder / "tables").glob("*.json"):
        summary = TableSummary.read(folder, path.stem)
        assert summary.fingerprint == path.stem
        assert json.loads(path.read_text())["origin"] == "dft"
        for label in summary.labels.values():
            assert 0.98 * label.count < sum(label.crystals) <= label.count <= len(summary)
