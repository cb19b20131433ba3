"""Training steps per second on one device, ours against the released form.

    python benchmarks/train_step.py --device cuda --size all --form both --precision bf16-mixed --out steps.json

Needs torch, PyTorch Geometric, lightning, numpy and pyarrow alone: the graphs come from a packed store or are random,
and the elements are described by unit vectors. Ours takes the steps of the training loop, batches included; the batches
of the released form are made beforehand. Progress goes to standard error, the result as json to standard output.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # a checkout is enough
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from benchmarks.measuring import BATCH, SIZES, largest_difference, product_peak, seconds, step_flop, synchronise
from benchmarks.reference_graphs import ReleasedBatch, unpacked_graph
from benchmarks.reference_weights import same_networks
from benchmarks.report import table
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import PackedGraphs, pack_lists
from cgatlib.graphs.store import GraphStore
from cgatlib.inputs import GraphInputs, Inputs, TargetStatistics
from cgatlib.model.config import ModelConfig
from cgatlib.runs.provenance import provenance
from cgatlib.training import TrainingConfig, TrainingLoop, fabric_of, kept_on

PUBLISHED = 1.8e6 * 390  # structures x epochs of the paper's pre-training
PUBLISHED_BATCH = 512
FORMS = ("reference", "ours")  # in the order in which they are timed
COLUMNS = {
    "size": "{size}",
    "form": "{form}",
    "batch": "{batch}",
    "structures/s": "{structures_per_s:.4g}",
    "ratio": "{ratio:.1f}",
    "share of peak": "{share_of_peak:.0%}",
    "memory, GB": "{memory_gb:.2f}",
    "hours of the published training": "{hours_of_published_training:,.0f}",
    "deviation": "{difference_from_float64:.0e}",
}


def random_graphs(n: int, k: int, seed: int = 0) -> PackedGraphs:
    """Graphs with the sizes of real ones: some 6 atoms, up to 4 elements, k listed neighbours per atom."""
    rng = np.random.default_rng(seed)
    n_atoms = np.clip(rng.lognormal(1.7, 0.6, n).astype(int), 1, 60)
    crystal, centre = np.repeat(np.arange(n), n_atoms), np.repeat(np.arange(n_atoms.sum()), k)
    neighbour = (np.cumsum(n_atoms) - n_atoms)[crystal[centre]] + rng.integers(0, n_atoms[crystal[centre]])
    rank = np.minimum((rng.random((len(crystal), k)) < 0.3).cumsum(1).ravel() + 1, k)
    numbers = rng.integers(1, 90, (n, 4))[crystal, rng.integers(0, 4, len(crystal))]
    config = GraphConfig(k, "reference", 1e-8, quotient=False)
    return pack_lists(n_atoms, numbers, centre, neighbour, rank, np.ones_like(rank), config)


@dataclass(frozen=True)
class ReleasedInputs:
    """Graphs as the reference implementation takes them; a batch is made and sent the first time it is asked for."""

    graphs: PackedGraphs
    targets: Tensor  # (n,)
    device: torch.device
    made: dict[bytes, ReleasedBatch] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.graphs)

    def inputs(self, rows: np.ndarray) -> ReleasedBatch:
        """The batch of `rows`."""
        if rows.tobytes() not in self.made:
            listed = [unpacked_graph(self.graphs, int(row)) for row in rows]
            self.made[rows.tobytes()] = ReleasedBatch.of(listed).to(self.device)
        return self.made[rows.tobytes()]


def network_of(form: str, config: ModelConfig) -> nn.Module:
    """The network that is timed."""
    reference, ours = same_networks(config)
    return reference if form == "reference" else ours


def inputs_of(form: str, graphs: PackedGraphs, device: torch.device) -> Inputs:
    """The graphs, with random targets, as the network of a form takes them."""
    targets = torch.randn(len(graphs), generator=torch.Generator().manual_seed(0))
    if form == "reference":
        return ReleasedInputs(graphs, targets, device)
    return GraphInputs(kept_on(device, graphs), np.arange(len(graphs)), targets)


def step_seconds(network: nn.Module, data: Inputs, batch: int, steps: int, fabric: Fabric) -> float:
    """Seconds per step of the training loop; the same steps are taken once before."""
    config = TrainingConfig(steps=steps, batch_size=batch, evaluations=1)
    statistics = TargetStatistics.of(data.targets)
    loop = TrainingLoop(network, data, data, statistics, config, 0, Path("never-written"), fabric)

    def all_steps() -> None:
        for step in range(steps):
            loop.step(step)
        synchronise(fabric.device)

    all_steps()
    return seconds(all_steps) / steps


@torch.no_grad()
def deviation(form: str, config: ModelConfig, graphs: PackedGraphs, fabric: Fabric) -> float:
    """Largest difference of the outputs on the device from those of the CPU in double precision, 8 graphs."""
    network, rows = network_of(form, config), np.arange(min(8, len(graphs)))
    with fabric.autocast():
        there = network.to(fabric.device)(inputs_of(form, graphs, fabric.device).inputs(rows).to(fabric.device))
    exact = network.cpu().double()(inputs_of(form, graphs, torch.device("cpu")).inputs(rows))
    return largest_difference(there.cpu().double(), exact)


def measure_form(
    form: str, config: ModelConfig, graphs: PackedGraphs, batch: int, steps: int, fabric: Fabric
) -> dict[str, Any]:
    """Rate, arithmetic and memory of a form."""
    gpu = fabric.device.type == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    network, data = network_of(form, config).to(fabric.device), inputs_of(form, graphs, fabric.device)
    rate = batch / step_seconds(network, data, batch, steps, fabric)
    memory = torch.cuda.max_memory_allocated() / 1e9 if gpu else None
    few = np.arange(min(batch, 32))  # arithmetic is proportional to the number of nodes
    flop = step_flop(network, data.inputs(few).to(fabric.device)) / int(graphs.node_ptr[len(few)])
    return {
        "form": form,
        "batch": batch,
        "structures_per_s": rate,
        "gflop_per_node": flop / 1e9,
        "memory_gb": memory,
        "difference_from_float64": deviation(form, config, graphs, fabric),
        "hours_of_published_training": PUBLISHED / rate / 3600,
    }


def measure_fitting(form: str, config: ModelConfig, graphs: PackedGraphs, batch: int, *how: Any) -> dict[str, Any]:
    """`measure_form` with the batch halved until it fits into the memory of the GPU."""
    while True:
        try:
            return measure_form(form, config, graphs, batch, *how)
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2  # out here the tensors of the failed attempt are gone


def measure(options: argparse.Namespace, fabric: Fabric, peak: float) -> Iterator[dict[str, Any]]:
    """One row per size and form; rows of ours say how many times faster than the reference implementation they are."""
    for size in SIZES if options.size == "all" else [options.size]:
        config = replace(SIZES[size], elements="one-hot")
        batch = options.batch or (BATCH[size] if fabric.device.type == "cpu" else PUBLISHED_BATCH)
        if options.store:
            store = GraphStore.open(options.store)
            graphs, config = store.graphs, replace(config, neighbours=store.config.neighbours)
        else:
            graphs = random_graphs(max(2000, batch), config.neighbours)
        nodes, slow = int(graphs.node_ptr[-1]) / len(graphs), None
        for form in FORMS if options.form == "both" else [options.form]:
            row = measure_fitting(form, config, graphs, batch, options.steps, fabric)
            rate = row["structures_per_s"]
            slow = slow or rate
            yield {
                "size": size,
                **row,
                "nodes_per_graph": nodes,
                "share_of_peak": row["gflop_per_node"] * 1e9 * nodes * rate / peak,
                "ratio": rate / slow if options.form == "both" else None,
            }


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=("all", *SIZES), default="small")
    parser.add_argument("--form", choices=("both", *FORMS), default="ours")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--store", type=Path, help="packed graph store; random graphs otherwise")
    parser.add_argument(
        "--batch", type=int, help=f"structures per step; by default {PUBLISHED_BATCH} on a GPU and fewer on a CPU"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--tf32", action="store_true", help="products of float32 matrices in TF32 where the GPU has it")
    parser.add_argument("--out", type=Path, help="also write the json there")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    options = arguments(given)
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    fabric = fabric_of(options.device, 1, options.precision)
    peak = product_peak(fabric.device, torch.bfloat16 if options.precision == "bf16-mixed" else torch.float32)
    result: dict[str, Any] = {
        **{name: getattr(options, name) for name in ("device", "precision", "steps", "tf32")},
        "graphs": options.store.name if options.store else "random",
        "threads": torch.get_num_threads(),
        "peak_tflop_per_s": peak / 1e12,
        "rows": [],
        **provenance(),
    }
    for row in measure(options, fabric, peak):
        result["rows"].append(row)
        print(f"{row['size']}, {row['form']}: {row['structures_per_s']:.4g} structures/s", file=sys.stderr, flush=True)
        if options.out:  # what is measured is kept when the next size fails
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(COLUMNS, result["rows"]), file=sys.stderr)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
