"""Graph stores: the graphs of a crystal table, built once, kept in a folder, opened without being loaded.

A store is a folder with one flat little-endian file per array of `PackedGraphs`, the identities and labels of the
crystals (``crystals.parquet``), the crystals that have no graph and why (``rejects.csv``) and ``store.json``. Reading
it needs numpy and pyarrow only, so that training does not depend on the machine that has pymatgen.
"""

import csv
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import DTYPES, WIDTHS, Cell, PackedGraphs, pack

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable

_CHUNK = 500  # crystals handed to a worker at a time


@dataclass(frozen=True)
class GraphStore:
    """Packed graphs of a crystal table in a folder: arrays, identities and labels, and how they were made."""

    path: Path
    graphs: PackedGraphs
    config: GraphConfig
    functional: str
    table_fingerprint: str
    fingerprint: str  # of the arrays and the labels
    crystals: pa.Table  # material_id, formula, label columns; one row per graph

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def ids(self) -> list[str]:
        """Material ids, one per graph."""
        return self.crystals["material_id"].to_pylist()

    @property
    def formulas(self) -> list[str]:
        """Reduced formulas, one per graph: the groups of a split."""
        return self.crystals["formula"].to_pylist()

    def label(self, name: str) -> NDArray[np.float64]:
        """Label values, (G,), NaN where the source has none; `CgatError` names the known labels otherwise."""
        known = [column for column in self.crystals.column_names if column not in ("material_id", "formula")]
        if name not in known:
            raise CgatError(f"{self.path} has no label {name!r}; known: {', '.join(known)}")
        return pc.cast(self.crystals[name], pa.float64()).to_numpy(zero_copy_only=False)

    @classmethod
    def open(cls, path: Path) -> "GraphStore":
        """Open a store written by `build_store` without loading its arrays; needs no pymatgen."""
        path = Path(path)
        try:
            meta = json.loads((path / "store.json").read_text())
        except FileNotFoundError as error:
            raise CgatError(f"{path} is not a graph store: it has no store.json") from error
        lost = [n for n in (*(f"{name}.bin" for name in DTYPES), "crystals.parquet") if not (path / n).exists()]
        if lost:
            raise CgatError(f"the graph store {path} is incomplete: {', '.join(lost)} missing")
        arrays = {}
        for name, length in meta["lengths"].items():
            size = (path / f"{name}.bin").stat().st_size
            shape = (length, *WIDTHS[name])
            expected = math.prod(shape) * np.dtype(DTYPES[name]).itemsize
            if size != expected:
                raise CgatError(f"{path / name}.bin has {size} bytes where {expected} were written: it is truncated")
            # The view as a plain array is mapped all the same, and faster to index.
            arrays[name] = np.asarray(np.memmap(path / f"{name}.bin", dtype=DTYPES[name], mode="r", shape=shape))
        return cls(
            path=path,
            graphs=PackedGraphs(**arrays),
            config=GraphConfig(**meta["config"]),
            functional=meta["functional"],
            table_fingerprint=meta["table_fingerprint"],
            fingerprint=meta["fingerprint"],
            crystals=pq.read_table(path / "crystals.parquet"),
        )


def _cells(table: pa.Table) -> list[Cell]:
    lattice = np.asarray(pc.list_flatten(table["lattice"])).reshape(-1, 3, 3)
    numbers = np.asarray(pc.list_flatten(table["numbers"]))
    frac_coords = np.asarray(pc.list_flatten(table["frac_coords"])).reshape(-1, 3)
    ends = np.cumsum(np.asarray(pc.list_value_length(table["numbers"])))
    bounds = zip(np.concatenate(([0], ends[:-1])), ends, strict=True)
    return [(lattice[i], numbers[a:b], frac_coords[a:b]) for i, (a, b) in enumerate(bounds)]


def _pack_rows(job: tuple[pa.Table, GraphConfig]) -> tuple[PackedGraphs, dict[int, str]]:
    return pack(_cells(job[0]), job[1])


def _packed_chunks(
    table: pa.Table, config: GraphConfig, workers: int
) -> Iterator[tuple[int, PackedGraphs, dict[int, str]]]:
    starts = range(0, len(table), _CHUNK)
    jobs = ((table.slice(start, _CHUNK).combine_chunks(), config) for start in starts)
    if workers == 1:
        yield from ((start, *_pack_rows(job)) for start, job in zip(starts, jobs, strict=True))
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from ((start, *result) for start, result in zip(starts, pool.map(_pack_rows, jobs), strict=True))


def _append(files: Mapping[str, BinaryIO], graphs: PackedGraphs, lengths: dict[str, int]) -> None:
    """Append one chunk's arrays; pointers continue from where the previous chunk ended."""
    for name in DTYPES:
        array = getattr(graphs, name)
        if name.endswith("_ptr"):
            written = lengths["nodes" if name == "node_ptr" else "edges"]
            array = array[1:] + written if lengths[name] else array
        files[name].write(np.ascontiguousarray(array).tobytes())
    for name in DTYPES:
        skip = name.endswith("_ptr") and lengths[name] > 0
        lengths[name] += len(getattr(graphs, name)) - skip


def _fingerprint(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 of the store's arrays and crystals."""
    digest = hashlib.sha256()
    for name in (*(f"{array}.bin" for array in DTYPES), "crystals.parquet"):
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def build_store(table: "CrystalTable", out: Path, config: GraphConfig, workers: int = 1) -> GraphStore:
    """Build the graphs of every crystal of a table; shows progress on standard error.

    Crystals without a graph (an atom has too few neighbours) are listed with the reason in ``out/rejects.csv``.

    Args:
        table: the crystals. out: folder to make; an existing store there is replaced.
        config: how a crystal becomes a graph. workers: processes.

    Raises:
        CgatError: no crystal of the table has a graph.
    """
    out = Path(out)
    folder = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lengths = dict.fromkeys(DTYPES, 0)
    rejected: dict[int, str] = {}
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in DTYPES}
        bar = stack.enter_context(tqdm(total=len(table), unit=" crystals", desc="graphs"))
        for start, graphs, reasons in _packed_chunks(table.table, config, workers):
            _append(files, graphs, lengths)
            rejected |= {start + i: reason for i, reason in reasons.items()}
            bar.update(len(graphs) + len(reasons))
    if lengths["node_ptr"] < 2:
        shutil.rmtree(folder)
        raise CgatError(f"no crystal has a graph: {next(iter(rejected.values()), 'the table is empty')}")
    _write_crystals(table, rejected, folder)
    meta = {
        "config": asdict(config),
        "functional": table.functional,
        "table_fingerprint": table.fingerprint,
        "fingerprint": _fingerprint(folder),
        "lengths": lengths,
    }
    (folder / "store.json").write_text(json.dumps(meta, indent=1))
    shutil.rmtree(out, ignore_errors=True)
    folder.rename(out)
    return GraphStore.open(out)


def _write_crystals(table: "CrystalTable", rejected: dict[int, str], folder: Path) -> None:
    kept = np.setdiff1d(np.arange(len(table)), np.fromiter(rejected, dtype=np.int64, count=len(rejected)))
    columns = ["material_id", "formula", *table.labels]
    pq.write_table(table.table.select(columns).take(kept), folder / "crystals.parquet", compression="zstd")
    with (folder / "rejects.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "reason"])
        for index, reason in rejected.items():
            rows.writerow([table.table["material_id"][index].as_py(), reason])


def store_path(cache: Path, table_fingerprint: str, config: GraphConfig) -> Path:
    """Where a cache keeps the graphs of a table under a configuration."""
    layout = [DTYPES, WIDTHS]  # so that a cache of another layout is left alone
    digest = hashlib.sha256(json.dumps([layout, asdict(config)], sort_keys=True).encode()).hexdigest()[:8]
    return Path(cache) / f"{table_fingerprint}-{digest}"


def graph_store(table: "CrystalTable", config: GraphConfig, cache: Path, workers: int = 1) -> GraphStore:
    """The graphs of a table from the folder `cache`, built there the first time."""
    path = store_path(cache, table.fingerprint, config)
    return GraphStore.open(path) if path.exists() else build_store(table, path, config, workers)
