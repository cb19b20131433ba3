"""Measure everything and store the tables: `python -m benchmarks`.

Every ratio comes from one run in which the forms take turns on the same crystals. What is timed is first checked to be
equal in double precision.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import BATCH, SIZES, product_peak
from benchmarks.pipeline import measure_batches, measure_construction, measure_head
from benchmarks.report import render
from benchmarks.steps import measure_memory, measure_steps
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import Cell, pack
from cgatlib.runs.provenance import provenance

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "data" / "demo"
REPEATS = {"paper": 3, "released": 5, "small": 15}
SEED = 0  # of the choice of crystals


def crystals(table: CrystalTable, n: int, seed: int = SEED) -> CrystalTable:
    """A random choice of n crystals that have a graph with 24 neighbours within 18 Å."""
    order = np.random.default_rng(seed).permutation(len(table))[: n + n // 4 + 8]
    chosen = table.select(order)
    _, rejected = pack(cells_of(chosen), GraphConfig())
    return table.select(np.delete(order, list(rejected))[:n])


def cells_of(table: CrystalTable) -> list[Cell]:
    """Lattice, atomic numbers and fractional coordinates of every crystal."""
    return [(c.lattice, c.numbers, c.frac_coords) for c in table]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def measure_sizes(options: argparse.Namespace, table: CrystalTable, peak: float) -> list[dict[str, Any]]:
    """Rows of every network on one table."""
    found = []
    for name in options.sizes:
        config, batch = SIZES[name], 8 if options.quick else BATCH[name]
        repeats = options.repeats or (1 if options.quick else REPEATS[name])
        say(f"{name} network: {repeats} repeats of a step with {batch} crystals")
        cells = cells_of(crystals(table, batch * repeats))
        rows = measure_steps(config, cells, batch, repeats, peak)
        rows = [row | memory for row, memory in zip(rows, measure_memory(config, cells[:batch]), strict=True)]
        widths = f"C{config.atom_width} D{config.edge_width} H{config.heads} L{config.steps} k{config.neighbours}"
        head = measure_head(config, cells[:batch], rows, repeats)
        found.append({"name": name, "widths": widths, "batch": batch, "rows": rows, "head": head})
    return found


def measure_table(options: argparse.Namespace, name: str, path: Path, peak: float) -> dict[str, Any]:
    """Everything that is measured on one table."""
    table = CrystalTable.read(path, "PBE")
    say(f"{name}: {len(table)} crystals")
    steps = measure_sizes(options, table, peak)
    few, many = (5, 200) if options.quick else (40, 2000)
    repeats = options.repeats or (1 if options.quick else 5)
    say("graph construction")
    construction = measure_construction(cells_of(crystals(table, few)), repeats)
    say("batches")
    return {
        "name": name,
        "crystals": len(table),
        "atoms_per_crystal": float(np.mean(table.table["n_atoms"].to_numpy())),
        "fingerprint": table.fingerprint,
        "steps": steps,
        "constructed": few,
        "construction": construction,
        "batches": measure_batches(crystals(table, many), 3 * repeats),  # each takes a few milliseconds
    }


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="folder with a pbe.parquet to measure besides the demo set")
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), help="networks; all by default")
    parser.add_argument("--repeats", type=int, help="of every measurement; more for what is short by default")
    parser.add_argument("--quick", action="store_true", help="a trial with the small network and few crystals")
    parser.add_argument("--out", type=Path, help="folder of results.json and results.md; a trial is not kept without")
    options = parser.parse_args(given)
    options.out = options.out or (None if options.quick else HERE)
    options.sizes = options.sizes or (["small"] if options.quick else list(SIZES))
    return options


def main(given: list[str] | None = None) -> None:
    """Measure, print and store."""
    options = arguments(given)
    tables = {"Demo set": DEMO / "pbe.parquet"}
    if options.data:
        tables["Real data, PBE"] = options.data / "pbe.parquet"
    peak = product_peak()
    results: dict[str, Any] = {
        "provenance": provenance(),
        "threads": torch.get_num_threads(),
        "peak_gflop_per_s": peak / 1e9,
        "quick": options.quick,
        "data": [],
    }
    for name, path in tables.items():
        results["data"].append(measure_table(options, name, path, peak))
        if options.out:  # what is measured is kept when the next table fails
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            (options.out / "results.md").write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    main()
