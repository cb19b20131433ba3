"""Writing a graph store piece by piece: what is held at a time does not grow with the number of crystals."""

import csv
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import DTYPES, Cell, PackedGraphs, pack
from cgatlib.processes import Processes

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable

Packed = tuple[PackedGraphs, dict[int, str]]  # graphs, {row: why it has none}

_CHUNK = 500  # crystals handed to a worker at a time; for fewer no second process is started
_ROWS = 1 << 16  # crystals whose identities and labels are written at a time
_GEOMETRY = ["lattice", "numbers", "frac_coords"]


def _cells(table: pa.Table) -> list[Cell]:
    lattice = np.asarray(pc.list_flatten(table["lattice"])).reshape(-1, 3, 3)
    numbers = np.asarray(pc.list_flatten(table["numbers"]))
    frac_coords = np.asarray(pc.list_flatten(table["frac_coords"])).reshape(-1, 3)
    ends = np.cumsum(np.asarray(pc.list_value_length(table["numbers"])))
    bounds = zip(np.concatenate(([0], ends[:-1])), ends, strict=True)
    return [(lattice[i], numbers[a:b], frac_coords[a:b]) for i, (a, b) in enumerate(bounds)]


def _pack_rows(rows: pa.Table, config: GraphConfig) -> Packed:
    return pack(_cells(rows), config)


def packed_chunks(table: "CrystalTable", config: GraphConfig, workers: int) -> Iterator[tuple[pa.Table, Packed]]:
    """Rows of a table with their graphs, in order; no more of them are held than keep the workers busy."""
    chunks = table.chunks(_CHUNK)
    workers = min(workers, math.ceil(len(table) / _CHUNK))
    if workers < 2:
        yield from ((rows, _pack_rows(rows, config)) for rows in chunks)
        return
    waiting: deque[tuple[pa.Table, Future[Packed]]] = deque()
    with Processes(workers) as pool:
        for rows in chunks:
            geometry = rows.select(_GEOMETRY).combine_chunks()  # a slice would be sent with all that it is a slice of
            waiting.append((rows, pool.submit(_pack_rows, geometry, config)))
            if len(waiting) > 2 * workers:
                rows, packed = waiting.popleft()
                yield rows, packed.result()
        for rows, packed in waiting:
            yield rows, packed.result()


class StoreWriter:
    """The files of a store that is being written: arrays, identities and labels, rejects."""

    def __init__(self, folder: Path) -> None:
        self.lengths = dict.fromkeys(DTYPES, 0)
        self.reason = "the table is empty"  # for which the last of the crystals without a graph has none
        self._path = folder / "crystals.arrow"
        self._pending: list[pa.Table] = []  # fewer than _ROWS crystals
        self._crystals: pa.RecordBatchFileWriter | None = None
        self._files = ExitStack()
        self._arrays = {name: self._files.enter_context((folder / f"{name}.bin").open("wb")) for name in DTYPES}
        self._rejects = csv.writer(self._files.enter_context((folder / "rejects.csv").open("w", newline="")))
        self._rejects.writerow(["material_id", "reason"])

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._files:
            if error is None and self._pending:
                self._write_crystals()

    def append(self, rows: pa.Table, packed: Packed) -> None:
        """Append a chunk; pointers continue from where the previous chunk ended."""
        graphs, rejected = packed
        for name, file in self._arrays.items():
            array = getattr(graphs, name)
            if name.endswith("_ptr") and self.lengths[name]:
                array = array[1:] + self.lengths[name.replace("_ptr", "s")]
            file.write(np.ascontiguousarray(array).tobytes())
        for name in ("node_ptr", "edge_ptr"):
            self.lengths[name] += len(graphs) + (self.lengths[name] == 0)
        self.lengths["nodes"] += len(graphs.nodes)
        self.lengths["edges"] += len(graphs.edges)
        for row, reason in rejected.items():
            self._rejects.writerow([rows["material_id"][row].as_py(), reason])
            self.reason = reason
        kept = np.setdiff1d(np.arange(len(rows)), np.fromiter(rejected, dtype=np.int64, count=len(rejected)))
        labels = [name for name in rows.column_names if name not in (*_GEOMETRY, "n_atoms")]
        self._pending.append(rows.select(labels).take(kept))
        if sum(map(len, self._pending)) >= _ROWS:
            self._write_crystals(_ROWS)

    def _write_crystals(self, n: int | None = None) -> None:
        """Write the first `n` pending crystals (all by default) as one batch, whatever chunks they came in."""
        pending = pa.concat_tables(self._pending)
        if self._crystals is None:
            self._crystals = self._files.enter_context(pa.ipc.new_file(str(self._path), pending.schema))
        self._crystals.write_table(pending.slice(0, n).combine_chunks())
        self._pending = [] if n is None else [pending.slice(n).combine_chunks()]
