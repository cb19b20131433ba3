"""What surrounds the training step: graph construction, batches, and training of the output network alone."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch

from benchmarks.measuring import interleaved, paired_ratio, train_step
from benchmarks.reference_graphs import neighbour_lists
from benchmarks.reference_weights import same_networks
from benchmarks.steps import RELEASED, inputs_of, packed
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GraphConfig, pairs_within, shell_lists
from cgatlib.graphs.packing import Cell, pack
from cgatlib.graphs.store import build_store
from cgatlib.model.config import ModelConfig

CHUNK = 500
"""Crystals that are packed at a time, as in the building of a store."""

BUILDERS = {
    "ours, reference order": GraphConfig(ties="reference", tolerance=1e-8, quotient=False),
    "ours, reference ranks": GraphConfig(ties="deterministic", tolerance=1e-8, quotient=False),
    "ours, reference ranks, quotient graph": GraphConfig(ties="deterministic", tolerance=1e-8),
    "ours, whole shells (other graphs)": GraphConfig(),
}
"""Reference order: the same neighbours in the same order. Reference ranks: the same ranks, ties cut in our order."""


def measure_construction(cells: Sequence[Cell], repeats: int) -> list[dict[str, Any]]:
    """Crystals per second on one core, from lattice and coordinates to graphs; 24 neighbours."""
    many = [cells[i % len(cells)] for i in range(max(CHUNK, len(cells)))]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    actions = {RELEASED: lambda repeat: [neighbour_lists(cell, 24) for cell in cells]}
    actions |= {name: lambda repeat, config=config: pack(many, config) for name, config in BUILDERS.items()}
    times = interleaved(actions, repeats)
    torch.set_num_threads(threads)
    atoms = sum(len(cell[1]) for cell in cells) / len(cells)
    per_crystal = {name: [t / len(cells if name == RELEASED else many) for t in times[name]] for name in actions}
    agreement = _agreement(cells)
    return [
        {
            "form": name,
            "structures_per_s": 1 / median(seconds),
            "atoms_per_s": atoms / median(seconds),
            "ratio": paired_ratio(per_crystal[RELEASED], seconds),
            "equal": agreement.get(name),
        }
        for name, seconds in per_crystal.items()
    ]


def _agreement(cells: Sequence[Cell]) -> dict[str, str]:
    """On how many crystals ours equals the reference implementation: lists and ranks in its order, ranks otherwise."""
    lists = [neighbour_lists(cell, 24) for cell in cells]
    agreement = {}
    for name, config in BUILDERS.items():
        if config.ties == "whole_shells":
            continue
        compared = slice(0 if config.ties == "reference" else 2, 3)
        equal = 0
        for cell, theirs in zip(cells, lists, strict=True):
            ours = shell_lists(*pairs_within(*cell, config), cell[1], config)
            equal += all(np.array_equal(a, b) for a, b in zip(ours[compared], theirs[compared], strict=True))
        agreement[name] = f"{equal} of {len(cells)}"
    return agreement


def measure_batches(table: CrystalTable, repeats: int, sizes: Sequence[int] = (32, 128, 512)) -> list[dict[str, Any]]:
    """Graphs per second from a packed store on disk, against PyG's collation of graphs held in memory."""
    rows = []
    with TemporaryDirectory() as folder:
        graphs = build_store(table, Path(folder) / "store", GraphConfig()).graphs
        data = [graphs.graph(i) for i in range(len(graphs))]
        for graph in data:
            graph.num_nodes = len(graph.numbers)  # else PyG guesses it, warns, and is slower
        for size in sizes:
            draws = np.random.default_rng(size).integers(0, len(graphs), (10, size))
            actions = {  # no batch is kept
                "PyG's Batch.from_data_list": lambda repeat, draws=draws: [
                    Batch.from_data_list([data[i] for i in draw]).num_graphs for draw in draws
                ],
                "packed store": lambda repeat, draws=draws: [graphs.batch(draw).num_graphs for draw in draws],
            }
            interleaved(actions, 1)  # first calls are slower
            times = interleaved(actions, repeats)
            first = next(iter(times.values()))
            for name, seconds in times.items():
                rate, ratio = draws.size / median(seconds), paired_ratio(first, seconds)
                rows.append({"form": name, "batch": size, "graphs_per_s": rate, "ratio": ratio})
    return rows


def measure_head(
    config: ModelConfig, cells: Sequence[Cell], full: Sequence[dict[str, Any]], repeats: int, batch: int = 512
) -> dict[str, Any]:
    """Steps of the output network alone on cached embeddings, next to the full steps already measured.

    Args:
        cells: crystals to embed. full: rows of `measure_steps`. batch: embeddings per step, the paper's batch.
    """
    form, (_, network) = "ours, quotient graph", same_networks(config)
    with torch.no_grad():
        embeddings = network.embed(inputs_of(form, packed(form, cells, config.neighbours), range(len(cells))))
    inputs = embeddings[torch.arange(batch) % len(embeddings)].clone()
    train_step(network.output, inputs)
    times = interleaved({"head": lambda repeat: train_step(network.output, inputs)}, max(repeats, 5))["head"]
    rate = batch / median(times)
    return {
        "form": "output network alone on cached embeddings",
        "batch": batch,
        "structures_per_s": rate,
        "ratio_to": {row["form"]: rate / row["structures_per_s"] for row in full},
    }
