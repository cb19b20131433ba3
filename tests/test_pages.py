"""What the notebooks share: tables, HTML, provenance."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cgatbook import pages
from cgatbook.tables import load_tables
from cgatlib import CgatError
from cgatlib.crystals import declared as sources
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.table import CrystalTable


def crystal(name: str, volume: float) -> Crystal:
    """Rock salt of the given volume per atom (Å³)."""
    edge = (2 * volume) ** (1 / 3)
    lattice = np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]) * edge / 2 ** (1 / 3)
    numbers = np.array([11, 17], dtype=np.uint8)
    coords = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
    own = abs(np.linalg.det(lattice)) / 2
    return Crystal(name, lattice, numbers, coords, {"volume_per_atom": own, "e_form": -2.0})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one table of two good crystals and one repeated id."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "parameters.yml").write_text("profiles: {}")
    (tmp_path / "data").mkdir()
    rows = [crystal("a", 20.0), crystal("b", 22.0), crystal("a", 24.0)]
    CrystalTable.from_crystals(rows, "PBE").write(tmp_path / "data" / "pbe.parquet")
    monkeypatch.chdir(tmp_path / "book")
    return tmp_path


ENTRY = {"file": "pbe.parquet", "functional": "PBE", "origin": "surrogate"}


class TestLoadTables:
    def test_counts_add_up(self, root: Path) -> None:
        source = load_tables({"pbe": ENTRY}, "data")["pbe"]
        assert len(source.table) == 2
        assert source.table.refused == {"duplicate id": 1}
        assert source.table.functional == "PBE"

    def test_imported_once(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_tables({"pbe": ENTRY}, "data")["pbe"]
        monkeypatch.setattr(sources, "_import", lambda *arguments: pytest.fail("imported again"))
        assert load_tables({"pbe": ENTRY}, "data")["pbe"].table.fingerprint == first.table.fingerprint

    def test_rows_that_disagree_are_refused_and_named(self, root: Path) -> None:
        path = root / "data" / "pbe.parquet"
        table = CrystalTable.read(path)
        reference = table.table.append_column("other", [[20.0, 40.0, 24.0]])
        CrystalTable(reference, "PBE").write(path)
        entry = {**ENTRY, "agree": {"volume_per_atom": ["other", 0.15]}}
        source = load_tables({"pbe": entry}, "data")["pbe"]
        assert len(source.table) == 1
        assert source.table.refused["volume_per_atom differs from other by more than 15%"] == 1
        with pytest.raises(CgatError, match="has no column 'another'; it has: material_id, "):
            load_tables({"pbe": {**ENTRY, "agree": {"volume_per_atom": ["another", 0.15]}}}, "data")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"functional": None}, "does not state its functional"),
            ({"origin": None}, "does not state its origin"),
            ({"origin": "guess"}, "unknown origin 'guess'; known: surrogate, dft"),
            ({"file": "none.parquet"}, "does not exist"),
            ({"functional": "SCAN"}, "PBE"),
        ],
    )
    def test_refused(self, root: Path, change: dict, expected: str) -> None:
        entry = {key: value for key, value in {**ENTRY, **change}.items() if value is not None}
        with pytest.raises(CgatError, match=expected):
            load_tables({"pbe": entry}, "data")


def test_printed_numbers_keep_their_digits() -> None:
    printed = pages.published("table1.csv").set_index(["label", "functional", "mode"])["printed"]
    assert printed["band_gap", "PBE", "none"] == "0.020"
    assert printed["e_form", "PBE", "none"] == "18"


class TestHtml:
    def test_labels_never_hide_what_they_are(self, root: Path) -> None:
        tables = load_tables({"pbe": ENTRY}, "data")
        assert pages.build_label(tables.values()) == "this build (surrogate labels)"
        assert "not by DFT" in pages.banner("demo", tables).data
        real = load_tables({"pbe": {**ENTRY, "origin": "dft"}}, "data")
        assert pages.build_label(real.values()) == "this build (DFT labels)"

    def test_table(self) -> None:
        frame = pd.DataFrame({"x < 1": ["1", None]}, index=["a & b", "c"])
        html = pages.show_table(frame, "Caption", bold=[(0, 0)]).data
        assert '<th scope="col">x &lt; 1</th>' in html
        assert '<th scope="row">a &amp; b</th><td><strong>1</strong></td>' in html
        assert "<td>–</td>" in html

    def test_figure_is_self_contained(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure()
        figure.subplots().plot([1, 2])
        html = pages.show_figure(figure, "fig", "A caption", 'A "line"', pd.DataFrame({"x": [1, 2]})).data
        assert 'alt="A &quot;line&quot;"' in html
        assert all(f'download="fig.{kind}" href="data:' in html for kind in ("svg", "png", "csv"))
        assert "http" not in html

    def test_element_counts(self, root: Path) -> None:
        table = load_tables({"pbe": ENTRY}, "data")["pbe"].table
        assert pages.element_counts(table).to_dict() == {"Na": 2, "Cl": 2}

    def test_footer(self, root: Path) -> None:
        tables = load_tables({"pbe": ENTRY}, "data")
        code = {"version": "1", "commit": "abc", "dirty": True}
        run = SimpleNamespace(
            metrics={"seconds": 90.0},
            provenance={"code": code, "machine": {"device": "cpu"}},
            experiment=SimpleNamespace(seed=4),
        )
        html = pages.footer(tables, [run], 0.0).data
        assert "1 (abc, modified)" in html
        assert "1, 1.5 min of training" in html
        assert "<dt>Seeds</dt><dd>4</dd>" in html
        assert tables["pbe"].table.fingerprint in html
