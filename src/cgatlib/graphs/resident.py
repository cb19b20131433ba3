"""A graph store in the memory of a device, where its batches are made: only the rows to take cross the bus."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch_geometric.data import Batch

from cgatlib.graphs.neighbours import IntArray
from cgatlib.graphs.packing import PackedGraphs, Ranges, named, pyg_batch


def _columns(records: Tensor, shift: Tensor, graph: Tensor) -> Tensor:
    """Records (n, columns) int16 at graph-wise shifted places, (columns, rows) int64."""
    at = shift.index_select(0, graph) + torch.arange(len(graph), device=records.device)
    found = records.index_select(0, at)
    return torch.empty(found.shape[::-1], dtype=torch.int64, device=records.device).copy_(found.t())


def sent(array: IntArray, device: torch.device) -> Tensor:
    """On the device; from pinned memory, so that the device need not have finished what it was told before."""
    there = torch.from_numpy(array)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)


@dataclass(frozen=True)
class ResidentGraphs:
    """`PackedGraphs` with nodes and edges as tensors of a device; the pointers stay on the host.

    The host knows every size beforehand, so that making a batch never waits for the device.
    """

    node_ptr: IntArray  # (G + 1,) int64
    edge_ptr: IntArray  # (G + 1,) int64
    nodes: Tensor  # (N, 2) int16
    edges: Tensor  # (E, 4) int16

    @classmethod
    def of(cls, graphs: PackedGraphs, device: torch.device | str) -> "ResidentGraphs":
        """Copy `graphs` to a device: 4 bytes for each node, 8 for each edge."""
        nodes, edges = (torch.from_numpy(np.array(part)).to(device) for part in (graphs.nodes, graphs.edges))
        return cls(np.array(graphs.node_ptr), np.array(graphs.edge_ptr), nodes, edges)

    def __len__(self) -> int:
        return len(self.node_ptr) - 1

    def batch(self, indices: ArrayLike, target: Tensor | None = None) -> Batch:
        """The graphs `indices` (B,) as one PyG batch on the device, equal to `PackedGraphs.batch`."""
        indices = np.asarray(indices)
        node, edge = Ranges.of(self.node_ptr, indices), Ranges.of(self.edge_ptr, indices)
        host = (node.ptr, node.shift, node.length, edge.shift, edge.length)
        layout = sent(np.concatenate(host), self.nodes.device)
        ptr, node_shift, n_nodes, edge_shift, n_edges = layout.split([len(part) for part in host])
        graph = torch.repeat_interleave(n_nodes, output_size=int(node.ptr[-1]))
        edge_graph = torch.repeat_interleave(n_edges, output_size=int(edge.ptr[-1]))
        edges = _columns(self.edges, edge_shift, edge_graph)
        edges[:2] += ptr.index_select(0, edge_graph)
        return pyg_batch(named(_columns(self.nodes, node_shift, graph), edges, graph, ptr), target)
