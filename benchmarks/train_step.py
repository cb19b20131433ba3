"""Training steps per second on one device.

    python benchmarks/train_step.py --device cuda --size paper --precision bf16-mixed

Needs torch, PyTorch Geometric, lightning, numpy and pyarrow alone: the graphs come from a packed store or are random,
and the elements are described by unit vectors. Progress goes to standard error, the result as json to standard output.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # a checkout is enough
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import nn

from benchmarks.measuring import BATCH, SIZES, largest_difference, product_peak, seconds, step_flop, synchronise
from benchmarks.yardstick_graphs import ReleasedBatch, unpacked_graph
from benchmarks.yardstick_weights import yardstick_of
from cgatlib.experiments.provenance import provenance
from cgatlib.graphs.packing import PackedGraphs
from cgatlib.graphs.store import GraphStore
from cgatlib.model.cgat import CGAT, ModelConfig

PUBLISHED = 1.8e6 * 390  # structures x epochs of the paper's pre-training


def random_graphs(n: int, k: int, seed: int = 0) -> PackedGraphs:
    """Graphs with the sizes of real ones: some 6 atoms, up to 4 elements, k listed neighbours per atom."""
    rng = np.random.default_rng(seed)
    size = np.clip(rng.lognormal(1.7, 0.6, n).astype(int), 1, 60)
    graph = np.repeat(np.arange(n), size)
    centre = np.repeat(np.arange(len(graph)), k)  # among all atoms
    first = (np.cumsum(size) - size)[graph[centre]]
    neighbour = first + rng.integers(0, size[graph[centre]])
    rank = np.clip(rng.random((len(graph), k)) < 0.3, 0, 1).cumsum(1).ravel() + 1
    order = np.argsort(neighbour, kind="stable")
    node_ptr = np.concatenate(([0], np.cumsum(size)))
    elements = rng.integers(1, 90, (n, 4))
    columns = {
        "node_ptr": node_ptr,
        "edge_ptr": k * node_ptr,
        "numbers": elements[graph, rng.integers(0, 4, len(graph))],
        "multiplicity": np.ones(len(graph)),
        "receiver": (neighbour - first)[order],
        "sender": (centre - first)[order],
        "rank": np.minimum(rank, k)[order],
        "count": np.ones(len(centre)),
    }
    return PackedGraphs.of(**columns)


def network_of(options: argparse.Namespace, config: ModelConfig) -> nn.Module:
    """The network that is timed, with the weights of seed 0."""
    torch.manual_seed(0)
    network = CGAT(config)
    nn.init.constant_(network.output.scales, 0.5)  # the residual blocks take part, as they do once trained
    return yardstick_of(network) if options.form == "yardstick" else network


def inputs_of(options: argparse.Namespace, graphs: PackedGraphs, rows: np.ndarray) -> Any:
    """The batch of `rows` in the form that the network takes."""
    if options.form == "ours":
        return graphs.batch(rows)
    return ReleasedBatch.of([unpacked_graph(graphs, int(row)) for row in rows])


def timed_steps(network: nn.Module, graphs: PackedGraphs, options: argparse.Namespace, fabric: Fabric) -> float:
    """Seconds per optimiser step, batches included; the device is waited for at the ends only."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-6, fused=True)
    model, wrapped = fabric.setup(network, optimizer)
    rng = np.random.default_rng(0)

    def steps(n: int) -> None:
        for _ in range(n):
            rows = rng.choice(len(graphs), options.batch, replace=len(graphs) < options.batch)
            inputs = inputs_of(options, graphs, rows).to(fabric.device)
            loss = model(inputs)[:, 0].float().abs().mean()
            wrapped.zero_grad()
            fabric.backward(loss)
            wrapped.step()
        synchronise(fabric.device)

    steps(options.warmup)
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return seconds(lambda: steps(options.steps)) / options.steps


@torch.no_grad()
def deviation(graphs: PackedGraphs, options: argparse.Namespace, config: ModelConfig, fabric: Fabric) -> float:
    """Largest difference of the outputs on the device from those of the CPU in double precision, 8 graphs."""
    network = network_of(options, config)
    batch = inputs_of(options, graphs, np.arange(min(8, len(graphs))))
    with fabric.autocast():
        there = network.to(fabric.device)(batch.to(fabric.device)).double().cpu()
    return largest_difference(there, network.cpu().double()(batch.to(torch.device("cpu"))))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is reported."""
    config = replace(SIZES[options.size], elements="one-hot")
    if options.store:
        store = GraphStore.open(options.store)
        graphs, config = store.graphs, replace(config, neighbours=store.config.neighbours)
    else:
        graphs = random_graphs(max(2000, options.batch), config.neighbours)
    fabric = Fabric(accelerator=options.device, devices=1, precision=options.precision)
    difference = deviation(graphs, options, config, fabric)
    network = network_of(options, config).to(fabric.device)
    rows = np.arange(min(options.batch, len(graphs)))
    flop = step_flop(network, inputs_of(options, graphs, rows).to(fabric.device)) / int(graphs.node_ptr[len(rows)])
    rate = options.batch / timed_steps(network, graphs, options, fabric)
    peak = product_peak(fabric.device, torch.bfloat16 if options.precision == "bf16-mixed" else torch.float32)
    nodes = float(graphs.node_ptr[-1]) / len(graphs)
    return {
        **{name: getattr(options, name) for name in ("form", "size", "precision", "batch", "steps", "tf32")},
        "graphs": options.store.name if options.store else "random",
        "nodes_per_graph": nodes,
        "structures_per_s": rate,
        "gflop_per_node": flop / 1e9,
        "peak_tflop_per_s": peak / 1e12,
        "share_of_peak": flop * nodes * rate / peak,
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if fabric.device.type == "cuda" else None,
        "difference_from_float64": difference,
        "hours_of_published_training": PUBLISHED / rate / 3600,
        "threads": torch.get_num_threads(),
        **provenance(),
    }


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--form", choices=("ours", "yardstick"), default="ours")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--store", type=Path, help="packed graph store; random graphs otherwise")
    parser.add_argument("--batch", type=int, help="structures per step; by default 32, or 64 for the small size")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads of the CPU; all by default")
    parser.add_argument("--tf32", action="store_true", help="products of float32 matrices in TF32 where the GPU has it")
    parser.add_argument("--out", type=Path, help="also write the json there")
    options = parser.parse_args(given)
    options.batch = options.batch or BATCH[options.size]
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    result = measure(options)
    share, rate = result["share_of_peak"], result["structures_per_s"]
    print(f"{options.size}, {options.form}: {rate:.1f} structures/s, {share:.1%} of peak", file=sys.stderr)
    print(text := json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
