"""Graphs of the released form: neighbour search site by site, every edge listed, batches collated one by one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cgatlib import CgatError
from cgatlib.graphs.packing import Cell, PackedGraphs

_SHELL = 1e-8  # Å
_FACE = 1e-6  # an atom at most this fraction of a cell below a face lies on it


@dataclass(frozen=True)
class ReleasedGraph:
    """One crystal with n atoms and k listed neighbours of each."""

    numbers: Tensor  # (n,) atomic numbers
    centre: Tensor  # (n k,) ascending
    neighbour: Tensor  # (n k,) listed neighbour; it is the one that receives
    rank: Tensor  # (n k,) shell of the neighbour as seen from the centre, from 1


def neighbour_lists(cell: Cell, k: int, radius: float = 18.0) -> tuple[list[int], list[int], list[int]]:
    """Centre, listed neighbour and shell rank of the k nearest neighbours of every site, site by site.

    The released code takes the first k by distance, so that rounding orders a shell; here a shell is ordered as
    `cgatlib.graphs.neighbours.GraphConfig` states for ``ties="reference"``.
    """
    from pymatgen.core import Lattice, Structure

    lattice, numbers, frac_coords = cell
    structure = Structure(Lattice(lattice), [int(z) for z in numbers], frac_coords)
    cells = [[math.floor(x + _FACE) for x in site.frac_coords] for site in structure]
    listed: list[tuple[int, int, int]] = []
    for site, around in enumerate(structure.get_all_neighbors(radius)):
        if len(around) < k:
            raise CgatError(f"site {site} has {len(around)} neighbours within {radius:g} Å, fewer than {k}")
        rank, first, found = 0, -math.inf, []
        for neighbour in sorted(around, key=lambda one: one.nn_distance):
            if neighbour.nn_distance > first + _SHELL:
                if len(found) >= k:
                    break
                rank, first = rank + 1, neighbour.nn_distance
            there = zip(neighbour.image, cells[neighbour.index], cells[site], strict=True)
            translation = [round(image) + to - start for image, to, start in there]
            found.append((rank, translation, neighbour.index))
        listed += [(site, index, rank) for rank, _, index in sorted(found)[:k]]
    centres, neighbours, ranks = map(list, zip(*listed, strict=True))
    return centres, neighbours, ranks


def released_graph(cell: Cell, k: int) -> ReleasedGraph:
    """The graph of a crystal from its own search of neighbours."""
    columns = [list(map(int, cell[1])), *neighbour_lists(cell, k)]
    return ReleasedGraph(*(torch.tensor(column) for column in columns))


def unpacked_graph(graphs: PackedGraphs, index: int) -> ReleasedGraph:
    """A stored graph, built with the reference rule and without the quotient, as the released code would list it.

    Raises:
        CgatError: the graph stands for more edges than it has.
    """
    graph = graphs.graph(index)
    if int(graph["count"].max()) > 1 or int(graph.multiplicity.max()) > 1:
        raise CgatError(f"graph {index} is a quotient graph: the released form needs every edge")
    sender, receiver = graph.edge_index
    order = torch.argsort(sender * 256 + graph.rank, stable=True)
    return ReleasedGraph(graph.numbers, sender[order], receiver[order], graph.rank[order])


@dataclass  # not frozen: Lightning Fabric refuses frozen ones as arguments of a network in mixed precision
class ReleasedBatch:
    """Graphs laid end to end, and the elements of each as a graph of its own."""

    numbers: Tensor  # (N,)
    centre: Tensor  # (E,)
    neighbour: Tensor  # (E,)
    rank: Tensor  # (E,)
    graph: Tensor  # (N,) graph of each atom
    n_graphs: int
    element: Tensor  # (M,) atomic number of every distinct element of every graph, in order of appearance
    fraction: Tensor  # (M,) its share of the atoms, single precision
    element_graph: Tensor  # (M,)
    pairs: Tensor  # (2, P) all ordered pairs of different elements of a graph: the one that receives, the other

    def to(self, device: torch.device) -> "ReleasedBatch":
        """The batch on a device."""
        return ReleasedBatch(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()})

    @classmethod
    def of(cls, graphs: Sequence[ReleasedGraph]) -> "ReleasedBatch":
        """Collate graphs one after the other."""
        edges, elements, pairs = [], [], []
        atoms = 0
        for index, graph in enumerate(graphs):
            edges.append(torch.stack([graph.centre + atoms, graph.neighbour + atoms, graph.rank]))
            atoms += len(graph.numbers)
            first = len(elements)
            counts: dict[int, int] = {}
            for number in graph.numbers.tolist():
                counts[number] = counts.get(number, 0) + 1
            elements += [(z, count, len(graph.numbers), index) for z, count in counts.items()]
            own = range(first, len(elements))
            pairs += [(i, j) for i in own for j in own if i != j]
        centre, neighbour, rank = torch.cat(edges, dim=1)
        element, count, total, element_graph = torch.tensor(elements).T
        sizes = torch.tensor([len(graph.numbers) for graph in graphs])
        return cls(
            numbers=torch.cat([graph.numbers for graph in graphs]),
            centre=centre,
            neighbour=neighbour,
            rank=rank,
            graph=torch.repeat_interleave(sizes),
            n_graphs=len(graphs),
            element=element,
            fraction=count.float() / total.float(),
            element_graph=element_graph,
            pairs=torch.tensor(pairs, dtype=torch.long).view(-1, 2).T,
        )
