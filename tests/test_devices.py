"""Where training runs: what is on a device, what waits for it, and several processes against one."""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cgatlib import CgatError, training
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.inputs import EmbeddingInputs, GraphInputs, TargetStatistics
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import ModelConfig
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.runs.store import Runs
from cgatlib.splits import SplitConfig
from cgatlib.training import TrainingConfig, fabric_of, in_every_process, kept_on
from cgatlib.transfer import TransferConfig

QUICK = TrainingConfig(steps=6, batch_size=15, learning_rate=0.01, cycles=1, evaluations=2)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.fixture(scope="module")
def graphs(table, tiny_graph) -> PackedGraphs:
    return pack([(c.lattice, c.numbers, c.frac_coords) for c in table], tiny_graph)[0]


@pytest.fixture(scope="module")
def targets(table) -> Tensor:
    return torch.tensor(table.label("e_form"))


@pytest.fixture
def experiment(table, tiny_graph, tiny_model) -> Experiment:
    shares = SplitConfig(0, 0.6, 0.2, 0.2)
    return Experiment(
        table.fingerprint, "PBE", "e_form", graph=tiny_graph, model=tiny_model, split=shares, training=QUICK
    )


def loop_on(data, network: nn.Module, folder: Path, accelerator: str = "cpu") -> training.TrainingLoop:
    """A training run before its first step."""
    fabric = fabric_of(accelerator, 1, "32-true")
    statistics = TargetStatistics.of(data.targets)
    return training.TrainingLoop(
        network.to(fabric.device), data, data, statistics, QUICK, 0, folder / "checkpoint.pt", fabric
    )


class SumOfElements(nn.Module):
    """The simplest network of a batch of graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(104, 2))

    def forward(self, batch) -> Tensor:
        summed = self.value.new_zeros(len(batch.ptr) - 1, 2)
        return summed.index_add(0, batch.batch, self.value.index_select(0, batch.numbers))


# Devices and processes


@pytest.mark.parametrize(
    ("accelerator", "number", "sentence"),
    [
        ("abacus", 1, "cannot train on 1 device(s) of type 'abacus': You selected an invalid accelerator name"),
        ("cpu", 0, "cannot train on 0 device(s) of type 'cpu'"),
        pytest.param(
            *("cuda", 1, "cannot train on 1 device(s) of type 'cuda'"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU"),
        ),
    ],
)
def test_devices_that_are_not_there_are_refused_in_one_sentence(accelerator, number, sentence):
    with pytest.raises(CgatError) as refusal:
        fabric_of(accelerator, number, "32-true")
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


def test_a_queueing_system_does_not_decide_the_processes(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "5")
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    assert fabric_of("cpu", 1, "32-true").world_size == 1
    assert fabric_of("cpu", 2, "32-true").strategy.num_processes == 2


def refuse(fabric) -> None:
    raise CgatError("no")


def test_what_a_process_refuses_is_raised_here():
    with pytest.raises(CgatError, match=r"^no$"):
        in_every_process(fabric_of("cpu", 1, "32-true"), refuse)


def test_every_process_needs_a_share_of_the_batch(tmp_path):
    data = EmbeddingInputs(torch.randn(20, 3), torch.randn(20))
    fabric = fabric_of("cpu", 2, "32-true")
    fabric.strategy.cluster_environment.set_world_size(2)  # as if started
    with pytest.raises(CgatError, match="a batch of 1 cannot be shared by 2 processes"):
        training.fit(
            *(nn.Linear(3, 2), data, data, TargetStatistics.of(data.targets)),
            *(replace(QUICK, batch_size=1), 0, tmp_path / "checkpoint.pt", fabric),
        )


# What lies on the device


@pytest.mark.parametrize(("spare", "device"), [(-1, "cpu"), (0, "cuda")])
def test_graphs_move_when_half_of_the_free_memory_holds_them(graphs, spare, device, monkeypatch):
    size = graphs.nodes.nbytes + graphs.edges.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size + spare, 10**12))
    assert kept_on(torch.device("cuda"), graphs).device == device


@cuda
def test_batches_made_on_a_gpu_are_the_same(graphs):
    indices, target = np.array([3, 0, 2, 2, 1]), torch.arange(5.0)
    ours, theirs = (g.batch(indices, target).cpu() for g in (graphs, kept_on(torch.device("cuda"), graphs)))
    for key in ours.keys():  # noqa: SIM118 - PyG's Batch
        assert torch.equal(ours[key], theirs[key]), key


class Waits(TorchDispatchMode):
    """Counts the operations whose result, or its size, the host would have to wait for on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        sized = "repeat_interleave" in str(func) and (kwargs or {}).get("output_size") is not None
        places = "aten.index." in str(func) and all(i is None or i.dtype == torch.int64 for i in args[1])
        if tags and not sized and not places:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_waits_are_noticed():
    x = torch.arange(4.0)
    with Waits() as waits:
        x[x > 1], float(x[0]), x.unique(), torch.repeat_interleave(x.long())
    assert sum(waits.found.values()) == 4


@pytest.mark.parametrize("kind", ["graphs", "embeddings"])
def test_a_step_waits_for_nothing(kind, graphs, targets, tmp_path):
    """On the CPU, where every operation of a step can be seen; on a GPU the test below asks the driver."""
    data = {
        "graphs": GraphInputs(graphs, np.arange(len(graphs)), targets),
        "embeddings": EmbeddingInputs(torch.randn(len(graphs), 3), targets),
    }[kind]
    loop = loop_on(data, SumOfElements() if kind == "graphs" else nn.Linear(3, 2), tmp_path)
    with Waits() as waits:
        for step in range(QUICK.steps // 2 - 1):  # the loss is looked at next
            loop.step(step)
    assert waits.found == {}


@cuda
@pytest.mark.parametrize("kind", ["graphs", "embeddings"])
def test_a_step_on_a_gpu_waits_for_nothing(kind, graphs, targets, tmp_path):
    there = torch.device("cuda", 0)
    data = {
        "graphs": GraphInputs(kept_on(there, graphs), np.arange(len(graphs)), targets),
        "embeddings": EmbeddingInputs(torch.randn(len(graphs), 3, device=there), targets),
    }[kind]
    loop = loop_on(data, SumOfElements() if kind == "graphs" else nn.Linear(3, 2), tmp_path, "cuda")
    loop.step(0)  # the first step makes the optimiser's state
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("edge_update", ["plain", "attention", "hypernetwork"])
def test_mixed_precision_keeps_the_state_of_a_crystal_in_single(edge_update, graphs):
    """Sums over edges, the crystal embedding and the value: only products of matrices lose digits."""
    config = ModelConfig(16, 16, 2, 3, neighbours=4, output_widths=(16, 8), roost_steps=1, edge_update=edge_update)
    torch.manual_seed(0)
    network, batch = CGAT(config), graphs.batch(np.arange(32))
    nn.init.constant_(network.output.scales, 0.5)
    exact = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        embedding = network.embed(batch)
        value = network.output(embedding)
    assert embedding.dtype == value.dtype == torch.float32
    assert torch.equal(value, network.output(embedding))
    assert 0 < relative(value, exact.double()) < 0.03


@cuda
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-3), ("bf16-mixed", 0.1)])
@pytest.mark.parametrize("edge_update", ["plain", "attention", "hypernetwork"])
def test_a_gpu_computes_what_the_cpu_computes_in_double_precision(precision, tolerance, edge_update, graphs):
    """Outputs and gradients, relative to their size."""
    config = ModelConfig(16, 16, 2, 3, neighbours=4, output_widths=(16, 8), roost_steps=1, edge_update=edge_update)
    torch.manual_seed(0)
    network = CGAT(config)
    nn.init.constant_(network.output.scales, 0.5)
    exact = CGAT(config).double()
    exact.load_state_dict(network.state_dict())
    expected = exact(graphs.batch(np.arange(32)))
    expected[:, 0].abs().mean().backward()

    fabric = fabric_of("cuda", 1, precision)
    model = fabric.setup(network)
    found = model(kept_on(fabric.device, graphs).batch(np.arange(32)))
    fabric.backward(found[:, 0].abs().mean())
    assert relative(found, expected) < tolerance
    ours, theirs = (torch.cat([p.grad.cpu().flatten() for p in net.parameters()]) for net in (network, exact))
    assert relative(ours, theirs) < tolerance


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().cpu().double() - expected.detach()).norm() / expected.detach().norm())


@cuda
def test_a_run_on_a_gpu_gives_what_the_cpu_gives(experiment, table_paths, tmp_path):
    cpu, gpu = (run_on(tmp_path, experiment, table_paths[0], accelerator=a) for a in ("cpu", "cuda"))
    assert gpu.curve["validation_mae"].to_numpy() == pytest.approx(cpu.curve["validation_mae"].to_numpy(), rel=1e-3)
    assert gpu.problems() == []


def run_on(folder: Path, experiment: Experiment, table: Path, stored: Mapping[str, Run] | None = None, **where) -> Run:
    """The run, made where it is said."""
    root = folder / "-".join(["runs", *(str(value) for value in where.values())])
    tables = {experiment.data: CrystalTable.read(table)}
    return Runs(root, tables, folder / "graphs", stored or {}, **where).get(experiment)


# Several processes


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "head"])
def test_two_processes_give_what_one_gives(mode, experiment, table_paths, tmp_path):
    stored = {}
    if mode == "head":
        stored[experiment.key] = run_on(tmp_path, experiment, table_paths[0])
        experiment = replace(experiment, source=experiment, transfer=TransferConfig("head"))
    one, two = (run_on(tmp_path, experiment, table_paths[0], stored, devices=number) for number in (1, 2))
    for column in ("train_mae", "validation_mae"):
        assert two.curve[column].to_numpy() == pytest.approx(one.curve[column].to_numpy(), rel=1e-5)
    ours, theirs = two.predictions, one.predictions
    assert ours["material_id"].tolist() == theirs["material_id"].tolist()
    assert ours["prediction"].to_numpy() == pytest.approx(theirs["prediction"].to_numpy(), rel=1e-4, abs=1e-4)
    assert two.problems() == []


PROGRAM = """
import sys
from pathlib import Path

import torch
from torch import nn

from cgatlib import CgatError
from cgatlib.inputs import EmbeddingInputs, TargetStatistics
from cgatlib.training import TrainingConfig, fabric_of, fit, in_every_process


class Stopped(CgatError):
    pass


def train(fabric, spoiled=False, stop=False):
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    data = EmbeddingInputs(x, x[:, 0] * x[:, 1])
    statistics = TargetStatistics.of(data.targets)
    config = TrainingConfig(steps=40, batch_size=7, learning_rate=0.01, evaluations=2)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    if spoiled and fabric.global_rank == 1:
        network.register_forward_hook(lambda module, given, output: output * torch.nan)

    def report(progress):
        if stop:
            raise Stopped("stopped")

    progress = fit(network, data, data, statistics, config, 0, Path(sys.argv[1]) / "checkpoint.pt", fabric, report)
    return progress.curve, progress.earlier_seconds


def spoiled(fabric):
    return train(fabric, spoiled=True)


def stopped(fabric):
    return train(fabric, stop=True)


if __name__ == "__main__":
    for processes, job in ((2, spoiled), (2, stopped), (2, train)):
        try:
            curve, earlier = in_every_process(fabric_of("cpu", processes, "32-true"), job)
            print("resumed", earlier > 0)
        except CgatError as error:
            print(type(error).__name__, error)
    (Path(sys.argv[1]) / "checkpoint.pt").unlink()
    whole, _ = train(fabric_of("cpu", 1, "32-true"))
    print("equal", all(abs(a[key] - b[key]) < 1e-5 for a, b in zip(whole, curve, strict=True) for key in a))
"""


@pytest.mark.slow
def test_processes_stop_together_and_resume_together(tmp_path):
    """A loss that is not finite in one process only, an interruption, and its continuation."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "CgatError the training loss is no longer finite at step 20; lower the learning rate",
        "Stopped stopped",
        "resumed True",
        "equal True",
    ]
