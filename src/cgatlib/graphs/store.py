"""Graph stores: the graphs of a crystal table, built once, kept in a folder, opened without being loaded.

A store is a folder with one flat little-endian file per array of `PackedGraphs`, the identities and labels of the
crystals (``crystals.arrow``), the crystals that have no graph and why (``rejects.csv``) and ``store.json``. Reading
it needs numpy and pyarrow only, so that training does not depend on the machine that has pymatgen.
"""

import csv
import hashlib
import json
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tqdm import tqdm

from cgatlib import CgatError
from cgatlib.crystals.table import space_groups_in
from cgatlib.files import code_digest, holds_only, made_once
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import DTYPES, WIDTHS, PackedGraphs, pack
from cgatlib.processes import Processes
from cgatlib.values import from_plain

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable

_CRYSTALS = "crystals.arrow"
_FILES = (*(f"{array}.bin" for array in DTYPES), _CRYSTALS)
_GRAPH_CODE = ("crystals.geometry", "graphs.neighbours", "graphs.packing", "graphs.store")
_AGAIN = "remove it to build it again"
_CHUNK = 500  # crystals handed to a worker at a time; for fewer no second process is started
_GEOMETRY = ["lattice", "numbers", "frac_coords"]

Packed = tuple[PackedGraphs, dict[int, str]]  # graphs, {row: why it has none}


@dataclass(frozen=True)
class GraphStore:
    """Packed graphs of a crystal table in a folder: arrays, identities and labels, and how they were made."""

    path: Path
    graphs: PackedGraphs
    config: GraphConfig
    functional: str
    table_fingerprint: str
    fingerprint: str  # of the arrays and the labels
    crystals: pa.Table  # material_id, formula, label columns, space groups if known; one row per graph

    def __len__(self) -> int:
        return len(self.graphs)

    @cached_property
    def ids(self) -> list[str]:
        """Material ids, one per graph."""
        return self.crystals["material_id"].to_pylist()

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formulas, one per graph: the groups of a split."""
        return self.crystals["formula"].to_pylist()

    @property
    def space_groups(self) -> list[int]:
        """Numbers of the space groups, one per graph; `CgatError` where the table did not have them."""
        return space_groups_in(self.crystals, f"the table of {self.path}")

    def label(self, name: str) -> NDArray[np.float64]:
        """Label values, (G,), NaN where the source has none; `CgatError` names the known labels otherwise."""
        known = [column.name for column in self.crystals.schema if column.type == pa.float64()]
        if name not in known:
            raise CgatError(f"{self.path} has no label {name!r}; known: {', '.join(known)}")
        column = pc.cast(self.crystals[name], pa.float64())
        return np.array(column.to_numpy(zero_copy_only=False))  # a copy: the mapped file cannot be written to

    @classmethod
    def open(cls, path: Path) -> "GraphStore":
        """Open a store written by `build_store` without loading its arrays; needs no pymatgen.

        Files whose size and time are those of when they were written are taken as they are; of others (copied, or
        changed) the fingerprint is computed once in a process.

        Raises:
            CgatError: there is no store of this version, or a file is missing, truncated or changed.
        """
        path = Path(path)
        meta = _read_meta(path)
        if lost := [name for name in _FILES if not (path / name).is_file()]:
            raise CgatError(f"the graph store {path} is incomplete: {', '.join(lost)} missing; {_AGAIN}")
        arrays: dict[str, Any] = {}
        for name, length in meta.lengths.items():
            size = (path / f"{name}.bin").stat().st_size
            shape = (length, *WIDTHS[name])
            expected = math.prod(shape) * np.dtype(DTYPES[name]).itemsize
            if size != expected:
                raise CgatError(f"{path / name}.bin has {size} bytes where {expected} were written; {_AGAIN}")
            # Private pages: PyTorch warns of arrays that cannot be written to. A plain array is faster to index.
            arrays[name] = np.asarray(np.memmap(path / f"{name}.bin", dtype=DTYPES[name], mode="c", shape=shape))
        stamps = _stamps(path)
        if stamps != meta.stamps and _fingerprint(path, tuple(stamps.items())) != meta.fingerprint:
            raise CgatError(f"the graph store {path} is damaged: its files are not those that were written; {_AGAIN}")
        crystals = pa.ipc.open_file(pa.memory_map(str(path / _CRYSTALS))).read_all()
        what = meta.config, meta.functional, meta.table_fingerprint, meta.fingerprint
        return cls(path, PackedGraphs(**arrays), *what, crystals)


@dataclass(frozen=True)
class _Meta:
    """What ``store.json`` says."""

    config: GraphConfig
    functional: str
    table_fingerprint: str
    fingerprint: str
    code: str  # that built the graphs
    lengths: dict[str, int]  # of the arrays
    stamps: dict[str, tuple[int, int]]  # size and time of every file, as `_stamps` gives them


def _read_meta(path: Path) -> _Meta:
    try:
        meta = from_plain(_Meta, json.loads((path / "store.json").read_text()), "store.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CgatError(f"{path} is not a graph store: it has no store.json") from error
    except (OSError, ValueError, RecursionError) as error:  # not json, or of another version
        raise CgatError(f"the graph store {path} cannot be read: {error}; {_AGAIN}") from error
    if meta.lengths.keys() != DTYPES.keys():
        raise CgatError(f"the graph store {path} has other arrays than {', '.join(DTYPES)}; {_AGAIN}")
    return meta


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of the last change, ns, of each file."""
    found = ((name, (folder / name).stat()) for name in _FILES)
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found}


@cache
def _fingerprint(folder: Path, stamps: tuple[tuple[str, tuple[int, int]], ...]) -> str:
    """First 16 hex digits of the SHA-256 of the store's arrays and crystals; again when `stamps` are others."""
    digest = hashlib.sha256()
    for name, _ in stamps:
        with (folder / name).open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:16]


def _pack_rows(rows: pa.Table, config: GraphConfig) -> Packed:
    lattice = np.asarray(pc.list_flatten(rows["lattice"])).reshape(-1, 3, 3)
    numbers = np.asarray(pc.list_flatten(rows["numbers"]))
    frac_coords = np.asarray(pc.list_flatten(rows["frac_coords"])).reshape(-1, 3)
    ends = np.cumsum(np.asarray(pc.list_value_length(rows["numbers"])))
    bounds = zip(np.concatenate(([0], ends[:-1])), ends, strict=True)
    return pack([(lattice[i], numbers[a:b], frac_coords[a:b]) for i, (a, b) in enumerate(bounds)], config)


def packed_chunks(table: "CrystalTable", config: GraphConfig, workers: int) -> Iterator[tuple[pa.Table, Packed]]:
    """Rows of a table with their graphs, in order; no more of them are held than keep the workers busy."""
    content = table.content
    chunks = (content.slice(start, _CHUNK) for start in range(0, len(content), _CHUNK))
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


@cache
def graph_code() -> str:
    """Fingerprint of the modules that make graphs: those made by other code are made again."""
    return code_digest(*_GRAPH_CODE)


def build_store(
    table: "CrystalTable", out: Path, config: GraphConfig, workers: int = 1, silent: bool = False
) -> GraphStore:
    """Build the graphs of every crystal of a table; shows progress on standard error unless it is to be silent.

    Crystals without a graph (an atom has too few neighbours) are listed with the reason in ``out/rejects.csv``.

    Args:
        out: folder to make; a store of the same table, configuration and code is kept, another store is replaced.
        config: how a crystal becomes a graph. workers: processes.

    Raises:
        CgatError: no crystal of the table has a graph, or `out` is something else than a store or cannot be written.
    """

    def current(path: Path) -> bool:
        try:
            GraphStore.open(path)
        except CgatError:
            return False
        meta = _read_meta(path)
        return (meta.table_fingerprint, meta.config, meta.code) == (table.fingerprint, config, graph_code())

    def ours(path: Path) -> bool:  # whole or not
        return holds_only(path, "store.json", optional=(*_FILES, "rejects.csv"))

    made_once(out, "a graph store", current, lambda part: _write(part, table, config, workers, silent), ours)
    return GraphStore.open(out)


def _write(folder: Path, table: "CrystalTable", config: GraphConfig, workers: int, silent: bool) -> None:
    """Chunk by chunk, so that what is held at a time does not grow with the number of crystals."""
    folder.mkdir()
    lengths, reason, crystals = dict.fromkeys(DTYPES, 0), "the table is empty", None
    with ExitStack() as files:
        arrays = {name: files.enter_context((folder / f"{name}.bin").open("wb")) for name in DTYPES}
        rejects = csv.writer(files.enter_context((folder / "rejects.csv").open("w", newline="")))
        rejects.writerow(["material_id", "reason"])
        bar = files.enter_context(tqdm(total=len(table), unit=" crystals", desc="graphs", disable=silent))
        for rows, (graphs, rejected) in packed_chunks(table, config, workers):
            for name, file in arrays.items():  # pointers come before what they point to
                array = getattr(graphs, name)
                if name.endswith("_ptr") and lengths[name]:
                    array = array[1:] + lengths[name.replace("_ptr", "s")]
                lengths[name] += len(array)
                file.write(np.ascontiguousarray(array).tobytes())
            for row, reason in rejected.items():
                rejects.writerow([rows["material_id"][row].as_py(), reason])
            kept = rows.drop_columns([*_GEOMETRY, "n_atoms"]).take(np.delete(np.arange(len(rows)), list(rejected)))
            crystals = crystals or files.enter_context(pa.ipc.new_file(str(folder / _CRYSTALS), kept.schema))
            crystals.write_table(kept.combine_chunks())
            bar.update(len(rows))
    if lengths["node_ptr"] < 2:
        raise CgatError(f"no crystal has a graph: {reason}")
    stamps = _stamps(folder)
    fingerprint = _fingerprint(folder, tuple(stamps.items()))
    meta = _Meta(config, table.functional, table.fingerprint, fingerprint, graph_code(), lengths, stamps)
    (folder / "store.json").write_text(json.dumps(asdict(meta), indent=1))


def store_path(root: Path, table_fingerprint: str, config: GraphConfig) -> Path:
    """Where a cache keeps the graphs of a table under a configuration, as the present code builds them."""
    if not table_fingerprint.isalnum():
        raise CgatError(f"{table_fingerprint!r} is no fingerprint of a table")
    layout = [DTYPES, WIDTHS, _CRYSTALS, graph_code()]
    digest = hashlib.sha256(json.dumps([layout, asdict(config)], sort_keys=True).encode()).hexdigest()[:8]
    return Path(root) / f"{table_fingerprint}-{digest}"
