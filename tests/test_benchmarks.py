"""What is timed must be equal, counted rightly, and run with few packages."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, pack
from cgatlib.graphs.store import build_store
from cgatlib.model.config import ModelConfig

ROOT = Path(__file__).parents[1]
K = 12
CONFIG = ModelConfig(8, 6, 2, 3, neighbours=K, output_widths=(20, 8), roost_steps=2)
REFERENCE = GraphConfig(K, ties="reference", tolerance=1e-8, quotient=False)


@pytest.fixture(scope="module")
def benchmark_module() -> Iterator[Callable[[str], ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    rows = CrystalTable.read(ROOT / "data/demo/pbe.parquet").select([5, 3000, 9000, 12000])
    return [(crystal.lattice, crystal.numbers, crystal.frac_coords) for crystal in rows]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("quotient", [False, True])
def test_the_reference_implementation_computes_the_same(benchmark_module, cells, quotient):
    released, weights = benchmark_module("reference_graphs"), benchmark_module("reference_weights")
    reference, network = weights.same_networks(CONFIG)
    graphs, _ = pack(cells, GraphConfig(K, ties="reference", tolerance=1e-8, quotient=quotient))
    ours = network(graphs.batch(np.arange(len(cells))))
    batch = released.ReleasedBatch.of([released.released_graph(cell, K) for cell in cells])
    theirs = reference(batch)  # on the graphs of its own search
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    ours.square().sum().backward()
    theirs.square().sum().backward()
    parameters = dict(reference.named_parameters())
    idle = {name for name, p in parameters.items() if p.grad is None}
    assert idle == {name for name in parameters if ".Edge." in name and (".MH_" in name or name.startswith("graphs.2"))}
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}
    for name, expected in weights.in_our_layout(gradients).items():
        torch.testing.assert_close(network.get_parameter(name).grad, expected, rtol=1e-10, atol=1e-14, msg=name)


def test_stored_graphs_are_those_of_the_slow_search(benchmark_module, cells):
    released = benchmark_module("reference_graphs")
    graphs, _ = pack(cells, REFERENCE)
    for i, cell in enumerate(cells):
        listed, stored = released.released_graph(cell, K), released.unpacked_graph(graphs, i)
        rows = [
            sorted(zip(*(x.tolist() for x in (g.centre, g.rank, g.neighbour)), strict=True)) for g in (listed, stored)
        ]
        assert rows[0] == rows[1]
        assert torch.equal(listed.rank, stored.rank)
    quotient, _ = pack(cells, GraphConfig(K))
    with pytest.raises(CgatError, match="quotient graph"):
        released.unpacked_graph(quotient, 0)


def test_the_reference_implementation_refuses_other_forms(benchmark_module):
    with pytest.raises(CgatError, match="released form"):
        benchmark_module("reference").Reference(ModelConfig(8, 8, 2, 2, edge_update="attention"))


def test_unequal_forms_are_not_timed(benchmark_module, cells, monkeypatch):
    steps = benchmark_module("steps")
    assert steps.check_equal(CONFIG, cells) < 1e-12
    monkeypatch.setitem(steps.FORMS, "ours, quotient graph", GraphConfig())
    with pytest.raises(CgatError, match="cannot be compared"):
        steps.check_equal(CONFIG, cells)


def test_arithmetic_of_grouped_convolutions_is_counted_once(benchmark_module):
    heads = benchmark_module("reference").HeadNetworks(width=6, hidden=5, out=4, heads=3)
    x = torch.randn(10, 6, requires_grad=True)
    forward = 2 * 10 * 3 * (6 * 5 + 5 * 4)
    counted = benchmark_module("measuring").step_flop(heads, x)
    assert counted == 3 * forward


def test_ratios_are_taken_within_a_repeat(benchmark_module):
    measuring = benchmark_module("measuring")
    assert measuring.paired_ratio([4.0, 8.0, 12.0], [1.0, 2.0, 6.0]) == 4
    calls = []
    actions = {name: lambda repeat, name=name: calls.append((name, repeat)) for name in "ab"}
    assert {name: len(times) for name, times in measuring.interleaved(actions, 2).items()} == {"a": 2, "b": 2}
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_random_graphs_list_k_neighbours_per_atom(benchmark_module):
    graphs = benchmark_module("train_step").random_graphs(20, K)
    batch = graphs.batch(np.arange(20))
    assert torch.equal(torch.bincount(batch.edge_index[0]), torch.full((len(batch.numbers),), K))
    assert (batch.edge_index[1].diff() >= 0).all()
    assert torch.equal(batch.batch[batch.edge_index[0]], batch.batch[batch.edge_index[1]])
    assert 1 <= batch.rank.min() <= batch.rank.max() <= K


def test_training_steps_of_both_forms(benchmark_module, tmp_path, monkeypatch, capsys):
    steps = benchmark_module("train_step")
    monkeypatch.setattr(steps, "product_peak", lambda *where: 1e12)
    steps.main([*"--form both --steps 1 --batch 2 --out".split(), str(tmp_path / "steps.json")])
    result = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "steps.json").read_text()) == result
    slow, fast = result["rows"]
    assert [slow["form"], fast["form"]] == ["reference", "ours"]
    assert fast["ratio"] == fast["structures_per_s"] / slow["structures_per_s"]
    assert fast["hours_of_published_training"] == pytest.approx(1.8e6 * 390 / fast["structures_per_s"] / 3600)
    assert 0 < fast["gflop_per_node"] < slow["gflop_per_node"]
    assert max(row["difference_from_float64"] for row in result["rows"]) < 1e-4
    assert slow["batch"] == fast["batch"] == 2


@pytest.mark.slow
def test_one_command_times_all_sizes_with_few_packages():
    """Little else than torch, PyTorch Geometric, lightning, numpy and pyarrow."""
    absent = "ElementEmbeddings ase click filelock ipykernel IPython jupytext myst_nb nbclient nbformat"
    absent += " elementembeddings pandas papermill plotly pymatgen safetensors seaborn sklearn"
    path = str(ROOT / "benchmarks/train_step.py")
    arguments = "--size all --form both --steps 1 --batch 2 --precision bf16-mixed"
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({absent.split()}));"
        f"sys.argv = {[path, *arguments.split()]}; runpy.run_path({path!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["size"] for row in rows] == [size for size in ("paper", "released", "small") for _ in range(2)]
    assert all(0 < row["share_of_peak"] < 1 and row["difference_from_float64"] < 0.1 for row in rows)


def test_steps_of_a_store_need_every_edge(benchmark_module, tmp_path, table, tiny_graph, monkeypatch):
    """The released form on a stored quotient graph would be another function of the crystal."""
    steps = benchmark_module("train_step")
    monkeypatch.setattr(steps, "product_peak", lambda *where: 1e12)
    build_store(table, tmp_path / "store", tiny_graph)
    options = ["--store", str(tmp_path / "store"), "--steps", "1", "--batch", "2"]
    steps.main([*options, "--form", "ours"])
    with pytest.raises(CgatError, match="quotient graph"):
        steps.main([*options, "--form", "both"])


def test_a_batch_that_does_not_fit_is_halved(benchmark_module, monkeypatch):
    steps = benchmark_module("train_step")
    tried = []

    def measure(form, config, graphs, batch):
        tried.append(batch)
        if batch > 20:
            raise torch.cuda.OutOfMemoryError
        return batch

    monkeypatch.setattr(steps, "measure_form", measure)
    assert steps.measure_fitting("ours", CONFIG, None, 100) == 12
    assert tried == [100, 50, 25, 12]


@pytest.mark.slow
def test_the_whole_benchmark_runs(benchmark_module, tmp_path, capsys):
    benchmark_module("bench").main(["--quick", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    rows = results["data"][0]["steps"][0]["rows"]
    assert rows[0]["ratio"] == 1
    assert all(row["memory_mb"] > row["memory_before_step_mb"] * 0.9 for row in rows)
    assert (tmp_path / "results.md").read_text() in capsys.readouterr().out
