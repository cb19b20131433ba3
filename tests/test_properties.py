"""A property is declared once: what a table, the commands and the figures know of it comes from there."""

import csv
import json

import pandas as pd
import pytest
from click.testing import CliRunner

from cgatlib import CgatError
from cgatlib.cli import main
from cgatlib.crystals.crystal import PROPERTIES, Property
from cgatlib.crystals.table import CrystalTable, read_table
from cgatlib.evaluation.statistics import histogram_edges
from cgatlib.figures.data import label_histograms
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.config import MODELS

BULK = Property("bulk_modulus", "GPa", 0.0, 1000.0, title="Bulk modulus", symbol="$K$", text="K",
                columns=("bulk_modulus", "k_vrh"), error_unit="GPa")  # fmt: skip


@pytest.fixture(autouse=True)
def declared(monkeypatch, tiny_model, tiny_graph):
    monkeypatch.setitem(PROPERTIES, BULK.name, BULK)
    monkeypatch.setitem(MODELS, "tiny", tiny_model)
    monkeypatch.setitem(GRAPHS, "tiny", tiny_graph)


def invoke(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_made_up_property_from_table_to_figure_and_commands(table, structure_dict, tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["material_id", "structure", "k_vrh"])
        rows = [(c.material_id, json.dumps(structure_dict(c)), 50 + i) for i, c in enumerate(table)]
        writer.writerows([*rows[1:], (*rows[0][:2], -3.0)])
    out = tmp_path / "t.parquet"
    report = invoke("data", "import", tmp_path / "t.csv", "--out", out, "--functional", "PBE", "--json")
    assert report["labels"]["bulk_modulus"] == report["taken"] == len(table) - 1
    assert report["reasons"] == {"label out of range": 1}
    assert invoke("data", "describe", out, "--json")["labels"]["bulk_modulus"]["unit"] == "GPa"

    quick = ("--model", "tiny", "--steps", "2", "--batch-size", "16", "--runs", tmp_path / "runs")
    (trained,) = invoke("train", out, "--label", "bulk_modulus", *quick, "--json")["runs"]
    assert trained["test_mae"] > 0

    values, place = read_table(out).label("bulk_modulus"), {"label": "bulk_modulus", "functional": "PBE"}
    edges = histogram_edges(values)
    bins = pd.DataFrame({**place, "low": edges[:-1], "high": edges[1:], "crystals": 1})
    numbers = pd.DataFrame([{**place, "count": len(values), "median": 80.0, "mean": 80.0}])
    (panel,) = label_histograms(bins, numbers).axes
    assert panel.get_title("left") == "Bulk modulus"
    assert panel.get_xlabel().startswith("$K$ (GPa)")


def test_a_property_that_is_not_declared_is_refused(make_crystal):
    with pytest.raises(CgatError, match=r"unknown labels \['hardness'\]; known: .*bulk_modulus"):
        CrystalTable.from_crystals([make_crystal(hardness=1.0)], "PBE")
