"""Training steps: the released form against ours, without and with the quotient graph; time, arithmetic, memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.measuring import (
    in_fresh_process,
    interleaved,
    largest_difference,
    paired_ratio,
    peak_memory,
    step_flop,
    train_step,
)
from benchmarks.reference import Reference
from benchmarks.reference_graphs import ReleasedBatch, unpacked_graph
from benchmarks.reference_weights import same_networks
from cgatlib import CgatError
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, PackedGraphs, pack
from cgatlib.model.cgat import CGAT, ModelConfig

RELEASED = "released form"
_TOLERANCE = 1e-12  # of outputs in double precision


@dataclass(frozen=True)
class Form:
    """A network on a kind of graph."""

    name: str
    ties: str
    tolerance: float
    quotient: bool

    def graphs(self, neighbours: int) -> GraphConfig:
        """How its graphs are made."""
        return GraphConfig(neighbours, ties=self.ties, tolerance=self.tolerance, quotient=self.quotient)


FORMS = (
    Form(RELEASED, "reference", 1e-8, False),
    Form("ours", "reference", 1e-8, False),
    Form("ours, quotient graph", "reference", 1e-8, True),
    Form("ours, whole shells (other graphs)", "whole_shells", 1e-3, True),
)
"""The first three are the same function of the same crystals; the last is the default of the package."""


def packed(form: Form, cells: Sequence[Cell], neighbours: int) -> PackedGraphs:
    """Graphs of the crystals in the kind that the form takes; all of them must have one."""
    graphs, rejected = pack(cells, form.graphs(neighbours))
    if rejected:
        raise CgatError(f"crystal {min(rejected)} has no graph: {rejected[min(rejected)]}")
    return graphs


def inputs_of(form: Form, graphs: PackedGraphs, rows: range) -> Any:
    """A batch in the form that the network takes."""
    if form.name == RELEASED:
        return ReleasedBatch.of([unpacked_graph(graphs, row) for row in rows])
    return graphs.batch(np.array(rows))


def check_equal(config: ModelConfig, cells: Sequence[Cell]) -> float:
    """Largest difference of outputs in double precision between the first three forms.

    Raises:
        CgatError: it is larger than 1e-12.
    """
    outputs = []
    torch.set_default_dtype(torch.float64)
    try:
        reference, ours = same_networks(config)
        for form in FORMS[:3]:
            inputs = inputs_of(form, packed(form, cells, config.neighbours), range(len(cells)))
            with torch.no_grad():
                outputs.append((reference if form.name == RELEASED else ours)(inputs))
    finally:
        torch.set_default_dtype(torch.float32)
    difference = max(largest_difference(output, outputs[0]) for output in outputs[1:])
    if not difference <= _TOLERANCE:
        raise CgatError(f"the forms differ by {difference:.1e} on the same crystals: their times cannot be compared")
    return difference


def _memory_of_step(form: Form, config: ModelConfig, graphs: PackedGraphs, threads: int) -> tuple[int, int]:
    """Peak resident memory, bytes, before and after one step; to be run in a fresh process."""
    torch.set_num_threads(threads)
    network = Reference(config) if form.name == RELEASED else CGAT(config)
    inputs = inputs_of(form, graphs, range(len(graphs)))
    before = peak_memory()
    train_step(network, inputs)
    return before, peak_memory()


def measure_steps(
    config: ModelConfig, cells: Sequence[Cell], batch: int, repeats: int, peak: float
) -> list[dict[str, Any]]:
    """One row per form: rates, ratios, arithmetic, memory.

    Args:
        cells: crystals; the repeats go through them batch by batch. batch: crystals per step.
        peak: FLOP/s of matrix products on this machine.
    """
    difference = check_equal(config, cells[:4])
    reference, ours = same_networks(config)
    networks = {form.name: reference if form.name == RELEASED else ours for form in FORMS}
    graphs = {form.name: packed(form, cells, config.neighbours) for form in FORMS}
    batches = [range(start, start + batch) for start in range(0, len(cells) - batch + 1, batch)]
    actions = {}
    for form in FORMS:
        network, own = networks[form.name], graphs[form.name]
        train_step(network, inputs_of(form, own, range(4)))  # first calls are slower
        actions[form.name] = _step_action(network, [inputs_of(form, own, rows) for rows in batches])
    times = interleaved(actions, repeats)
    rows = []
    for form in FORMS:
        own, rate = graphs[form.name], batch / median(times[form.name])
        flop = _flop_per_structure(form, networks[form.name], own, batch)
        rows.append(
            {
                "form": form.name,
                "seconds": times[form.name],
                "structures_per_s": rate,
                "ratio": paired_ratio(times[RELEASED], times[form.name]),
                "edges_per_structure": len(own.rank) / len(own),
                "gflop_per_atom": flop * len(own) / _atoms(own) / 1e9,
                "share_of_peak": flop * rate / peak,
                "difference_float64": difference if form in FORMS[1:3] else None,
            }
        )
    del reference, ours, network  # room for the processes whose memory is measured
    networks.clear()
    actions.clear()
    for form, row in zip(FORMS, rows, strict=True):
        own = packed(form, cells[:batch], config.neighbours)
        before, after = in_fresh_process(_memory_of_step, form, config, own, torch.get_num_threads())
        row |= {"memory_mb": after / 1e6, "memory_before_step_mb": before / 1e6}
        row["memory_ratio"] = after / 1e6 / rows[0]["memory_mb"]
    return rows


def _step_action(network: nn.Module, inputs: list[Any]) -> Any:
    return lambda repeat: train_step(network, inputs[repeat % len(inputs)])


def _atoms(graphs: PackedGraphs) -> int:
    return int(graphs.multiplicity.sum(dtype=np.int64))


def _flop_per_structure(form: Form, network: nn.Module, graphs: PackedGraphs, batch: int) -> float:
    """Of one step on the first batch, scaled to all graphs by their atoms.

    The arithmetic of the reference implementation is proportional to the number of atoms, so four crystals suffice.
    """
    n = 4 if form.name == RELEASED else batch
    flop = step_flop(network, inputs_of(form, graphs, range(n)))
    atoms = int(graphs.multiplicity[: graphs.node_ptr[n]].sum(dtype=np.int64))
    return flop * _atoms(graphs) / atoms / len(graphs)
