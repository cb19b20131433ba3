"""Training steps: the released form against ours, without and with the quotient graph; time, arithmetic, memory."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
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
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import ModelConfig

RELEASED = "released form"
_TOLERANCE = 1e-12  # of outputs in double precision


_REFERENCE = GraphConfig(ties="reference", tolerance=1e-8)
FORMS = {
    RELEASED: replace(_REFERENCE, quotient=False),
    "ours": replace(_REFERENCE, quotient=False),
    "ours, quotient graph": _REFERENCE,
    "ours, whole shells (other graphs)": GraphConfig(),
}
"""Graphs of each; the first three are the same function of the same crystals, the last is the package's default."""


def packed(form: str, cells: Sequence[Cell], neighbours: int) -> PackedGraphs:
    """Graphs of the crystals in the kind that the form takes; all of them must have one."""
    graphs, rejected = pack(cells, replace(FORMS[form], neighbours=neighbours))
    if rejected:
        raise CgatError(f"crystal {min(rejected)} has no graph: {rejected[min(rejected)]}")
    return graphs


def inputs_of(form: str, graphs: PackedGraphs, rows: range) -> Any:
    """A batch in the form that the network takes."""
    if form == RELEASED:
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
        for form in list(FORMS)[:3]:
            inputs = inputs_of(form, packed(form, cells, config.neighbours), range(len(cells)))
            with torch.no_grad():
                outputs.append((reference if form == RELEASED else ours)(inputs))
    finally:
        torch.set_default_dtype(torch.float32)
    difference = max(largest_difference(output, outputs[0]) for output in outputs[1:])
    if not difference <= _TOLERANCE:
        raise CgatError(f"the forms differ by {difference:.1e} on the same crystals: their times cannot be compared")
    return difference


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
    networks = {form: reference if form == RELEASED else ours for form in FORMS}
    graphs = {form: packed(form, cells, config.neighbours) for form in FORMS}
    batches = [range(start, start + batch) for start in range(0, len(cells) - batch + 1, batch)]
    actions = {}
    for form in FORMS:
        inputs = [inputs_of(form, graphs[form], rows) for rows in batches]
        train_step(networks[form], inputs_of(form, graphs[form], range(4)))  # first calls are slower
        actions[form] = partial(_turn, networks[form], inputs)
    times = interleaved(actions, repeats)
    rows = []
    for form in FORMS:
        own, rate = graphs[form], batch / median(times[form])
        flop = _flop_per_atom(form, networks[form], own, batch)
        rows.append(
            {
                "form": form,
                "seconds": times[form],
                "structures_per_s": rate,
                "ratio": paired_ratio(times[RELEASED], times[form]),
                "edges_per_structure": len(own.rank) / len(own),
                "gflop_per_atom": flop / 1e9,
                "share_of_peak": flop * _atoms(own) / len(own) * rate / peak,
                "difference_float64": difference if form in list(FORMS)[1:3] else None,
            }
        )
    return rows


def _turn(network: nn.Module, inputs: Sequence[Any], repeat: int) -> None:
    train_step(network, inputs[repeat % len(inputs)])


def _atoms(graphs: PackedGraphs, n: int | None = None) -> int:
    """Of all crystals, or of the first n."""
    return int(graphs.multiplicity[: None if n is None else graphs.node_ptr[n]].sum(dtype=np.int64))


def _flop_per_atom(form: str, network: nn.Module, graphs: PackedGraphs, batch: int) -> float:
    """Of a step on the first batch; of the reference implementation, proportional to the atoms, on four crystals."""
    n = 4 if form == RELEASED else batch
    return step_flop(network, inputs_of(form, graphs, range(n))) / _atoms(graphs, n)


def measure_memory(config: ModelConfig, cells: Sequence[Cell]) -> list[dict[str, float]]:
    """One row per form: peak memory before and after a step with these crystals, each in a process of its own."""
    rows: list[dict[str, float]] = []
    for form in FORMS:
        graphs = packed(form, cells, config.neighbours)
        before, after = in_fresh_process(_memory_of_step, form, config, graphs, torch.get_num_threads())
        rows.append({"memory_mb": after / 1e6, "memory_before_step_mb": before / 1e6})
        rows[-1]["memory_ratio"] = rows[-1]["memory_mb"] / rows[0]["memory_mb"]
    return rows


def _memory_of_step(form: str, config: ModelConfig, graphs: PackedGraphs, threads: int) -> tuple[int, int]:
    """Peak resident memory, bytes, before and after one step."""
    torch.set_num_threads(threads)
    network = Reference(config) if form == RELEASED else CGAT(config)
    inputs = inputs_of(form, graphs, range(len(graphs)))
    before = peak_memory()
    train_step(network, inputs)
    return before, peak_memory()
