"""Graphs: neighbour shells, packed arrays and their quotient, stores on disk."""

from cgatlib.graphs.neighbours import GRAPHS, GraphConfig
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.graphs.store import GraphStore, build_store, graph_store

__all__ = ["GRAPHS", "GraphConfig", "GraphStore", "PackedGraphs", "build_store", "graph_store", "pack"]
