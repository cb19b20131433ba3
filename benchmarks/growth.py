"""Time per crystal and memory from a thousand crystals to a million: `python -m benchmarks.growth`.

Building graphs of a table, random batches from the store, and training steps, each at each size in a process
of its own. What grows with the number of crystals would show as a rising line.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.bench import DEMO, HERE, say
from benchmarks.measuring import in_fresh_process
from cgatlib.crystals.table import CrystalTable, table_metadata
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.store import GraphStore, build_store
from cgatlib.inputs import GraphInputs, TargetStatistics
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import MODELS
from cgatlib.runs.provenance import provenance
from cgatlib.splits import SplitConfig, split
from cgatlib.training import TrainingConfig, fit

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CRYSTALS = "The crystals are those of the demo set, repeated with another scale and origin; labels are not recomputed."
BATCH = 128
LABEL = "e_form"


def write_crystals(path: Path, n: int, seed: int = 0) -> None:
    """A table of `n` crystals: the demo set in random order, over and over, each crystal scaled and shifted anew.

    The scale is within 3 % and the same along all axes, so that a copy costs what its original costs.
    """
    rng = np.random.default_rng(seed)
    demo = CrystalTable.read(DEMO / "pbe.parquet")
    metadata = table_metadata(demo.functional, demo.labels, CRYSTALS)
    schema = demo.content.schema.with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for start in range(0, n, len(demo)):
            order = rng.permutation(len(demo))[: n - start]
            file.write_table(_copies(demo.select(order), start, rng).cast(schema))


def _copies(originals: CrystalTable, start: int, rng: np.random.Generator) -> pa.Table:
    table = originals.content
    n_atoms = table["n_atoms"].to_numpy()
    scale = np.repeat(rng.uniform(0.97, 1.03, len(table)), 9)
    shift = np.repeat(rng.random((len(table), 3)), n_atoms, axis=0).ravel()
    lattice = scale * table["lattice"].combine_chunks().flatten().to_numpy()
    places = (table["frac_coords"].combine_chunks().flatten().to_numpy() + shift) % 1
    ends = np.concatenate(([0], np.cumsum(n_atoms)))
    columns = {
        "material_id": pa.array([f"{name}-{start + i}" for i, name in enumerate(originals.ids)]),
        "lattice": pa.ListArray.from_arrays(pa.array(9 * np.arange(len(table) + 1), pa.int32()), lattice),
        "frac_coords": pa.ListArray.from_arrays(pa.array(3 * ends, pa.int32()), places),
    }
    return pa.table({name: columns.get(name, table[name]) for name in table.column_names})


def _building(table: Path, store: Path) -> tuple[float, int]:
    crystals = CrystalTable.read(table)
    return _seconds(lambda: build_store(crystals, store, GRAPHS["tiny"])), len(crystals)


def _batches(table: Path, store: Path, batches: int = 1000) -> tuple[float, int]:
    graphs = GraphStore.open(store).graphs
    rng = np.random.default_rng(0)

    def draw() -> None:
        for _ in range(batches):
            graphs.batch(rng.integers(0, len(graphs), BATCH))

    return _seconds(draw), batches * BATCH


def _training(table: Path, store: Path, steps: int = 100) -> tuple[float, int]:
    opened = GraphStore.open(store)
    parts, labels = split(opened.formulas, SplitConfig()), torch.from_numpy(opened.label(LABEL))
    rows = {"train": parts.train, "validation": parts.validation[:BATCH]}
    train, validation = (GraphInputs(opened.graphs, part, labels[part]) for part in rows.values())
    config = TrainingConfig(steps=steps, batch_size=BATCH, evaluations=1)
    statistics = TargetStatistics.of(train.targets)
    torch.manual_seed(0)
    network = CGAT(MODELS["tiny"])
    checkpoint = table.with_name("checkpoint.pt")
    return _seconds(lambda: fit(network, train, validation, statistics, config, 0, checkpoint)), steps * BATCH


TASKS: dict[str, Callable[[Path, Path], tuple[float, int]]] = {
    "building graphs": _building,
    "random batches": _batches,
    "training steps": _training,
}
"""Processor seconds, and the number of crystals that they were spent on."""


def _seconds(action: Callable[[], object]) -> float:
    """Processor time of one call, which does not depend on what else the machine does."""
    start = time.process_time()
    action()
    return time.process_time() - start


def _memory() -> dict[str, int]:
    """Bytes of memory that this process takes: all that is resident, and what of it are no pages of files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: 1024 * int(fields[field].split()[0]) for name, field in (("resident", "VmRSS"), ("own", "RssAnon"))}


@contextmanager
def _peak_memory(every: float = 0.05) -> Iterator[dict[str, int]]:
    """The highest of each number of `_memory` within the block, looked at 20 times a second."""
    peak, done = _memory(), threading.Event()

    def look() -> None:
        while not done.wait(every):
            for name, value in _memory().items():
                peak[name] = max(peak[name], value)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _measure(task: str, table: Path, store: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    with _peak_memory() as peak:
        spent, crystals = TASKS[task](table, store)
    return {"task": task, "seconds_per_crystal": spent / crystals, **peak}


def measure(sizes: Sequence[int], folder: Path | None) -> list[dict[str, Any]]:
    """A row for every task at every size; tables and stores are made in `folder` and removed size by size."""
    rows = []
    for n in sizes:
        with TemporaryDirectory(dir=folder) as scratch:
            table, store = Path(scratch) / "table.parquet", Path(scratch) / "store"
            write_crystals(table, n)
            for task in TASKS:
                rows.append({"crystals": n, **in_fresh_process(_measure, task, table, store)})
                rows[-1]["disk"] = sum(file.stat().st_size for file in (table, *store.iterdir()))
                say(json.dumps(rows[-1]))
    return rows


def main(given: list[str] | None = None) -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="numbers of crystals")
    parser.add_argument("--folder", type=Path, help="for tables and stores; about a gigabyte for a million crystals")
    parser.add_argument("--out", type=Path, default=HERE / "growth.json")
    options = parser.parse_args(given)
    content = {"crystals": CRYSTALS, "batch": BATCH, "provenance": provenance()}
    rows = measure(options.sizes, options.folder)
    options.out.write_text(json.dumps({**content, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
