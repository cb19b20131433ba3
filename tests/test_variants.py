"""The comparison of the released code with the printed equations."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from cgatbook.stored import StoredResults
from cgatbook.variants import NOISE_BOUNDS, change_text, cost, noise_rows, noise_sentence, noise_table, variant_table
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.model.config import ModelConfig

ROOT = Path(__file__).parents[1]
SMALL = ModelConfig(8, 8, 2, 2, neighbours=6, output_widths=(8,), roost_steps=1, elements="one-hot")
GRAPH = GraphConfig(neighbours=6, ties="deterministic")


def run(seed, mae):
    """Stand-in for a finished run with this test error."""
    return SimpleNamespace(
        experiment=SimpleNamespace(seed=seed, label="e_form", split=SimpleNamespace(seed=0),
                                   transfer=SimpleNamespace(mode="none"), training=SimpleNamespace(patience=None)),
        metrics={"test_mae": mae},
        errors=pd.DataFrame({"crystal": [1, 2], "group": [0, 1], "error": [mae, -mae]}),
    )  # fmt: skip


@pytest.fixture
def results():
    """A released network and a variant with half of its errors, two seeds each."""
    found = {name: [run(seed, mae) for seed, mae in enumerate(maes)]
             for name, maes in {"released": (0.2, 0.3), "wide": (0.1, 0.15)}.items()}  # fmt: skip
    return StoredResults(SimpleNamespace(), {}, found=found)


@pytest.fixture
def cells(make_crystal):
    return [(c.lattice, c.numbers, c.frac_coords) for c in (make_crystal("a"), make_crystal("b", (12, 8), 4.2))]


def test_every_listed_neighbour_is_an_edge(cells):
    assert cost(SMALL, GRAPH, cells)["edges"] == 6
    assert cost(SMALL, replace(GRAPH, neighbours=4, ties="whole_shells"), cells)["edges"] == 6


def test_wider_edges_and_edge_attention_cost_more(cells):
    plain, wide = (cost(replace(SMALL, edge_width=width), GRAPH, cells) for width in (8, 32))
    attention = cost(replace(SMALL, edge_update="attention"), GRAPH, cells)
    for dearer in (wide, attention):
        assert dearer["parameters"] > plain["parameters"]
        assert dearer["gflop"] > plain["gflop"]


def test_threads_are_given_back(cells, monkeypatch):
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    cost(SMALL, GRAPH, cells)
    assert used == [1, 7]


def test_changes_are_paired_by_seed(results):
    assert change_text(results.comparison("wide", "released")) == "-50.0% [-50.0%, -50.0%]"


def test_the_table_compares_with_its_first_row(cells, results):
    costs = dict.fromkeys(("released", "wide"), cost(SMALL, GRAPH, cells))
    table = variant_table(results, costs, {"released": "as released", "wide": "wide edges"})
    assert table.index.tolist() == ["as released", "wide edges"]
    assert table["test MAE / meV/atom"].tolist() == ["250.0\u00a0±\u00a070.7", "125.0\u00a0±\u00a035.4"]
    assert table["change"].tolist() == ["–", "-50.0% [-50.0%, -50.0%]"]


def test_noise_of_rules_and_of_the_released_model():
    moves, released = noise_rows(ROOT / "benchmarks/noise.json"), ROOT / "benchmarks/noise_pbe.json"
    table = noise_table(moves, released)
    assert len(table) == moves.groupby(["label", "rule"]).ngroups + 4  # properties of the model
    assert (table.loc["Volume / Å³/atom: continuous ranks", list(NOISE_BOUNDS)].astype(float) < [3, 15, 3]).all()
    missed = sum((table[move].tail(4).astype(float) > 100 * bound).sum() for move, bound in NOISE_BOUNDS.items())
    assert "0.02 Å 15 %" in noise_sentence(released)
    assert f"keeps {12 - missed} of 12" in noise_sentence(released)
