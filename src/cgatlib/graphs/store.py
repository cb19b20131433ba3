"""Graph stores: the graphs of a crystal table, built once, kept in a folder, opened without being loaded.

A store is a folder with one flat little-endian file per array of `PackedGraphs`, the identities and labels of the
crystals (``crystals.arrow``), the crystals that have no graph and why (``rejects.csv``) and ``store.json``. Reading
it needs numpy and pyarrow only, so that training does not depend on the machine that has pymatgen.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tqdm import tqdm

from cgatlib import CgatError
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.graphs.packing import DTYPES, WIDTHS, PackedGraphs
from cgatlib.graphs.writing import StoreWriter, packed_chunks

if TYPE_CHECKING:
    from cgatlib.crystals.file import CrystalFile
    from cgatlib.crystals.table import CrystalTable

_CRYSTALS = "crystals.arrow"
_READ = 4096  # texts that are read at a time


class Texts(Sequence[str]):
    """A column of texts that stays where it is, in a mapped file: a million of them as a list are 60 MB."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return Texts(self._column[index])
        return str(self._column[int(index)].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _READ):
            yield from self._column.slice(start, _READ).to_pylist()


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
    def ids(self) -> Sequence[str]:
        """Material ids, one per graph."""
        return Texts(self.crystals["material_id"])

    @property
    def formulas(self) -> Sequence[str]:
        """Reduced formulas, one per graph: the groups of a split."""
        return Texts(self.crystals["formula"])

    def label(self, name: str) -> NDArray[np.float64]:
        """Label values, (G,), NaN where the source has none; `CgatError` names the known labels otherwise."""
        known = [column for column in self.crystals.column_names if column not in ("material_id", "formula")]
        if name not in known:
            raise CgatError(f"{self.path} has no label {name!r}; known: {', '.join(known)}")
        column = pc.cast(self.crystals[name], pa.float64())
        return np.array(column.to_numpy(zero_copy_only=False))  # a copy: the mapped file cannot be written to

    @classmethod
    def open(cls, path: Path) -> "GraphStore":
        """Open a store written by `build_store` without loading its arrays; needs no pymatgen."""
        path = Path(path)
        try:
            meta = json.loads((path / "store.json").read_text())
        except FileNotFoundError as error:
            raise CgatError(f"{path} is not a graph store: it has no store.json") from error
        lost = [n for n in (*(f"{name}.bin" for name in DTYPES), _CRYSTALS) if not (path / n).exists()]
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
            crystals=pa.ipc.open_file(pa.memory_map(str(path / _CRYSTALS))).read_all(),
        )


def _fingerprint(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 of the store's arrays and crystals."""
    digest = hashlib.sha256()
    for name in (*(f"{array}.bin" for array in DTYPES), _CRYSTALS):
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def build_store(table: "CrystalTable | CrystalFile", out: Path, config: GraphConfig, workers: int = 1) -> GraphStore:
    """Build the graphs of every crystal of a table; shows progress on standard error.

    Crystals without a graph (an atom has too few neighbours) are listed with the reason in ``out/rejects.csv``.

    Args:
        table: the crystals; a `CrystalFile` is never read whole. out: folder to make; an existing store is replaced.
        config: how a crystal becomes a graph. workers: processes.

    Raises:
        CgatError: no crystal of the table has a graph.
    """
    out = Path(out)
    folder = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with StoreWriter(folder) as writer, tqdm(total=len(table), unit=" crystals", desc="graphs") as bar:
        for rows, packed in packed_chunks(table, config, workers):
            writer.append(rows, packed)
            bar.update(len(rows))
    if writer.lengths["node_ptr"] < 2:
        shutil.rmtree(folder)
        raise CgatError(f"no crystal has a graph: {writer.reason}")
    meta = {
        "config": asdict(config),
        "functional": table.functional,
        "table_fingerprint": table.fingerprint,
        "fingerprint": _fingerprint(folder),
        "lengths": writer.lengths,
    }
    (folder / "store.json").write_text(json.dumps(meta, indent=1))
    shutil.rmtree(out, ignore_errors=True)
    folder.rename(out)
    return GraphStore.open(out)


def store_path(cache: Path, table_fingerprint: str, config: GraphConfig) -> Path:
    """Where a cache keeps the graphs of a table under a configuration."""
    layout = [DTYPES, WIDTHS, _CRYSTALS]  # so that a cache of another layout is left alone
    digest = hashlib.sha256(json.dumps([layout, asdict(config)], sort_keys=True).encode()).hexdigest()[:8]
    return Path(cache) / f"{table_fingerprint}-{digest}"


def graph_store(table: "CrystalTable | CrystalFile", config: GraphConfig, cache: Path, workers: int = 1) -> GraphStore:
    """The graphs of a table from the folder `cache`, built there the first time."""
    path = store_path(cache, table.fingerprint, config)
    return GraphStore.open(path) if path.exists() else build_store(table, path, config, workers)
