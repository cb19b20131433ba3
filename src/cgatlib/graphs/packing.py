"""Crystal graphs, packed end to end in arrays and cut into batches.

A graph's edges run from a sender j to a receiver i and carry the rank of the listed neighbour. Message passing gives
equal embeddings to atoms that colour refinement cannot tell apart (same element, same multiset of (rank, colour of the
sender) over incoming edges, repeated until nothing changes). One node per colour, with the number of atoms it stands
for, and one edge per distinct (sender colour, rank), with its multiplicity, are therefore the same function on fewer
nodes and edges: the *quotient graph*.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch_geometric.data import Batch, Data

from cgatlib import CgatError
from cgatlib.crystals.geometry import misfit
from cgatlib.graphs.neighbours import GraphConfig, IntArray, pairs_within, shell_lists

_DataBatch = type(Batch())


@dataclass(frozen=True)
class Ranges:
    """Where B graphs' nodes (or edges) lie in the store and in the batch."""

    length: IntArray  # (B,)
    ptr: IntArray  # (B + 1,) in the batch
    shift: IntArray  # (B,) what is added to a place in the batch to find the place in the store

    @classmethod
    def of(cls, ptr: IntArray, indices: IntArray) -> "Ranges":
        """Of the graphs `indices` (B,) in a store with the pointers `ptr` (G + 1,)."""
        length = ptr[indices + 1] - ptr[indices]
        own = np.zeros(len(indices) + 1, dtype=np.int64)
        np.cumsum(length, out=own[1:])
        return cls(length, own, ptr[indices] - own[:-1])

    @property
    def rows(self) -> IntArray:
        """(ptr[-1],) places in the store."""
        return np.repeat(self.shift, self.length) + np.arange(self.ptr[-1])


DTYPES: dict[str, str] = {"node_ptr": "<i8", "edge_ptr": "<i8", "nodes": "<i2", "edges": "<i2"}
WIDTHS = {"node_ptr": (), "edge_ptr": (), "nodes": (2,), "edges": (4,)}
"""Type and shape of an entry of every array of `PackedGraphs`."""


@dataclass(frozen=True)
class PackedGraphs:
    """G graphs with N nodes and E edges in all, as flat arrays (memory-mapped when they come from a store).

    What is known of a node or an edge lies side by side, so that a batch costs one gather of each. Batches are made on
    `device`, to which nodes and edges are copied once; the pointers stay on the host, which never waits for the device.
    """

    node_ptr: IntArray  # (G + 1,) int64: nodes of graph g are node_ptr[g]:node_ptr[g + 1]
    edge_ptr: IntArray  # (G + 1,) int64
    nodes: IntArray  # (N, 2) int16: numbers, multiplicity
    edges: IntArray  # (E, 4) int16: sender, receiver, rank, count
    device: str = "cpu"

    @classmethod
    def of(cls, node_ptr: IntArray, edge_ptr: IntArray, nodes: IntArray, edges: IntArray) -> "PackedGraphs":
        """From arrays of any integers; `CgatError` when a graph is too large for 16 bits."""
        for name, most in {"nodes": nodes.max(initial=0), "edges": edges.max(initial=0)}.items():
            if most > np.iinfo(np.int16).max:
                raise CgatError(f"a crystal is too large: its graph has a number {most} among the {name}")
        return cls(node_ptr.astype("<i8"), edge_ptr.astype("<i8"), nodes.astype("<i2"), edges.astype("<i2"))

    def __len__(self) -> int:
        return len(self.node_ptr) - 1

    numbers = property(lambda self: self.nodes[:, 0], doc="(N,) atomic number.")
    multiplicity = property(lambda self: self.nodes[:, 1], doc="(N,) atoms of the crystal that the node stands for.")
    sender = property(lambda self: self.edges[:, 0], doc="(E,) node within its graph.")
    receiver = property(lambda self: self.edges[:, 1], doc="(E,) node within its graph; ascending within a graph.")
    rank = property(lambda self: self.edges[:, 2], doc="(E,) shell 1 ... k, or continuous in steps of 1 / RESOLUTION.")
    count = property(lambda self: self.edges[:, 3], doc="(E,) edges that it stands for, each with its weight.")

    @cached_property
    def _records(self) -> tuple[Tensor, Tensor]:
        """Nodes and edges on the device."""
        return torch.from_numpy(self.nodes).to(self.device), torch.from_numpy(self.edges).to(self.device)

    def batch(self, indices: ArrayLike, target: Tensor | None = None) -> Batch:
        """The graphs `indices` (B,) as one PyG batch; `target` (B,) becomes ``y``."""
        indices = np.asarray(indices)
        node, edge = Ranges.of(self.node_ptr, indices), Ranges.of(self.edge_ptr, indices)
        host = (node.ptr, node.shift, node.length, edge.shift, edge.length)
        layout = sent(np.concatenate(host), torch.device(self.device))
        ptr, node_shift, n_nodes, edge_shift, n_edges = layout.split([len(part) for part in host])
        graph = torch.repeat_interleave(n_nodes, output_size=int(node.ptr[-1]))
        edge_graph = torch.repeat_interleave(n_edges, output_size=int(edge.ptr[-1]))
        nodes, edges = (
            _gathered(records, shift, of)
            for records, shift, of in zip(self._records, (node_shift, edge_shift), (graph, edge_graph), strict=True)
        )
        edges[:2] += ptr.index_select(0, edge_graph)
        columns = {"numbers": nodes[0], "multiplicity": nodes[1], "edge_index": edges[:2], "rank": edges[2]}
        columns |= {"count": edges[3], "batch": graph, "ptr": ptr}
        return _pyg_batch(columns if target is None else columns | {"y": target})

    def graph(self, index: int) -> Data:
        """One graph as PyG `Data`; `Batch.from_data_list` of these equals `batch`."""
        batch = self.batch([index])
        return Data(**{key: batch[key] for key in ("numbers", "multiplicity", "edge_index", "rank", "count")})


def _gathered(records: Tensor, shift: Tensor, graph: Tensor) -> Tensor:
    """Records (n, columns) int16 at graph-wise shifted places, (columns, rows) int64."""
    at = shift.index_select(0, graph) + torch.arange(len(graph), device=graph.device)
    return records.index_select(0, at).t().to(torch.int64, memory_format=torch.contiguous_format)


def sent(array: IntArray, device: torch.device) -> Tensor:
    """On the device; from pinned memory, so that the device need not have finished what it was told before."""
    there = torch.from_numpy(array)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)


def _pyg_batch(columns: dict[str, Tensor]) -> Batch:
    """What `Batch(**columns)` makes; that takes ten times as long, more than all the rest of a batch."""
    batch = type.__call__(_DataBatch)
    batch.stores[0]._mapping.update(columns)
    return batch


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 64-bit finaliser that spreads neighbouring integers (wrapping arithmetic)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _colours(
    crystal: IntArray, numbers: IntArray, sender: IntArray, rank: IntArray, weight: IntArray, ptr: IntArray
) -> IntArray:
    """Stable colour of every atom, (atoms,), as 64-bit hashes; edges are ordered by receiver, ptr (atoms + 1,)."""
    colour = _mix(numbers.astype(np.uint64) + (crystal.astype(np.uint64) << np.uint64(8)))
    label = _mix((rank.astype(np.uint64) << np.uint64(8)) + weight.astype(np.uint64))
    classes = 0
    while (found := len(np.unique(colour))) > classes:
        classes = found
        total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(_mix(label + colour[sender]), dtype=np.uint64)))
        colour = _mix(colour + np.uint64(0x9E3779B97F4A7C15) * (total[ptr[1:]] - total[ptr[:-1]]))
    return colour


def _quotient(
    crystal: IntArray, numbers: IntArray, receiver: IntArray, sender: IntArray, rank: IntArray, weight: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray, IntArray]:
    """One node per colour class, one edge per distinct (class, sender class, rank); edges come ordered by receiver.

    Returns:
        Representative atom and multiplicity of each node, then receiver, sender, rank, count of each edge.
    """
    ptr = np.searchsorted(receiver, np.arange(len(numbers) + 1))
    colour = _colours(crystal, numbers, sender, rank, weight, ptr)
    _, atom, node, multiplicity = np.unique(colour, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(atom)  # nodes in the order in which their class first appears
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    atom, multiplicity, node = atom[order], multiplicity[order], place[node]
    edges = Ranges.of(ptr, atom).rows
    ranks = rank.max() + 1
    key = (node[receiver[edges]] * len(atom) + node[sender[edges]]) * ranks + rank[edges]
    key, edge = np.unique(key, return_inverse=True)
    count = np.bincount(edge, weight[edges]).astype(np.int64)
    pair, rank = np.divmod(key, ranks)
    receiver, sender = np.divmod(pair, len(atom))
    return atom, multiplicity, receiver, sender, rank, count


Cell = tuple[NDArray, IntArray, NDArray]  # lattice (3, 3), numbers (n,), fractional coordinates (n, 3)
Lists = Callable[[IntArray, IntArray, NDArray, IntArray, GraphConfig], tuple[IntArray, IntArray, IntArray, IntArray]]


def pack(cells: Sequence[Cell], config: GraphConfig, lists: Lists = shell_lists) -> tuple[PackedGraphs, dict[int, str]]:
    """Graphs of crystals, and why some have none.

    Args:
        lists: another rule than those of `config` for the lists of neighbours, with the signature of `shell_lists`.

    Returns:
        The packed graphs of the crystals that have one, in order, and {index in `cells`: reason} for the others.
    """
    found = [misfit(*cell) or pairs_within(*cell, config) for cell in cells]
    rejected = {i: reason for i, reason in enumerate(found) if isinstance(reason, str)}
    pairs = [pairs for pairs in found if not isinstance(pairs, str)]
    if not pairs:
        start, nodes, edges = (np.zeros(shape, dtype=np.int64) for shape in (1, (0, 2), (0, 4)))
        return PackedGraphs.of(start, start, nodes, edges), rejected
    elements = [cell[1] for i, cell in enumerate(cells) if i not in rejected]
    n_atoms, numbers = np.array([len(z) for z in elements]), np.concatenate(elements).astype(np.int64)
    first = np.repeat(np.cumsum(n_atoms) - n_atoms, [len(distance) for _, _, distance in pairs])
    centre, neighbour, distance = (np.concatenate(column) for column in zip(*pairs, strict=True))
    listed = lists(first + centre, first + neighbour, distance, numbers, config)
    return pack_lists(n_atoms, numbers, *listed, config), rejected


def pack_lists(
    n_atoms: IntArray,
    numbers: IntArray,
    centre: IntArray,
    neighbour: IntArray,
    rank: IntArray,
    weight: IntArray,
    config: GraphConfig,
) -> PackedGraphs:
    """Graphs of crystals from their lists of neighbours, laid end to end as `shell_lists` gives them.

    Args:
        n_atoms: (G,) of each crystal. numbers: (atoms,) of all. centre, neighbour, rank, weight: (edges,).
    """
    crystal = np.repeat(np.arange(len(n_atoms)), n_atoms)
    receiver, sender = (neighbour, centre) if config.receiver == "neighbour" else (centre, neighbour)
    order = np.argsort(receiver, kind="stable")
    listed = [column[order] for column in (receiver, sender, rank, weight)]
    atom: IntArray = np.arange(len(numbers))
    multiplicity: IntArray = np.ones_like(atom)
    if config.quotient:
        atom, multiplicity, *listed = _quotient(crystal, numbers, *listed)
    receiver, sender, rank, count = listed
    node_ptr = np.searchsorted(crystal[atom], np.arange(len(n_atoms) + 1))
    edge_ptr = np.searchsorted(receiver, node_ptr)
    first = np.repeat(node_ptr[:-1], np.diff(edge_ptr))
    nodes = np.column_stack([numbers[atom], multiplicity])
    edges = np.column_stack([sender - first, receiver - first, rank, count])
    return PackedGraphs.of(node_ptr, edge_ptr, nodes, edges)
