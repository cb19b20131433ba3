"""The crystal graph attention network, top to bottom in the order of the paper.

Equation numbers are those of Hoffmann et al., Digital Discovery 2, 1368 (2023), section IV B; the network is that of
Schmidt et al., Sci. Adv. 7, eabi7948 (2021). Symbols: G graphs, N nodes, E edges, C atom width, D edge width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from cgatlib import CgatError
from cgatlib.graphs.neighbours import RESOLUTION
from cgatlib.model.attention import Rows, attention_sum
from cgatlib.model.elements import ElementVectors, element_vectors
from cgatlib.model.layers import HFCNN, Blocks, Composition, MultiHeadFCNN, OutputNetwork

EdgeUpdate = Literal["plain", "attention", "hypernetwork"]
_LARGEST = {
    "atom_width": 10_000,
    "edge_width": 10_000,
    "heads": 100,
    "steps": 100,
    "neighbours": 255,
    "roost_steps": 100,
}
"""Limits against a file from elsewhere that asks for more than any machine has."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of the network; the defaults are the sizes printed in the paper.

    Args:
        atom_width: C. edge_width: D. heads: attention heads. steps: message-passing steps.
        neighbours: largest rank of the graphs.
        ranks: ``"whole"``, a row of the edge table for each shell; ``"continuous"``, for graphs of that kind (see
            `GraphConfig.ties`): between two rows an edge's feature is their linear interpolation.
        output_widths: hidden widths of the residual output network.
        edge_update: ``"plain"``, e + FCNN(e), which is what the released code computes; ``"attention"``, equations 2a
            to 2d as printed; ``"hypernetwork"``, the released code's other branch, a generated network on the mean
            of the heads.
        condition: what the hypernetwork sees: ``"damped"``, d h_0 + (1 - d) aggregate with a learnt d (released), or
            ``"difference"``, h_t - h_(t-1) (printed). At the first step both see h_0.
        pooling: ``"concatenate"`` the heads of the crystal embedding or take their ``"mean"``.
        roost_steps: message-passing steps of the composition branch.
        elements: which vectors describe the elements.
    """

    atom_width: int = 128
    edge_width: int = 512
    heads: int = 6
    steps: int = 5
    neighbours: int = 24
    ranks: Literal["whole", "continuous"] = "whole"
    output_widths: tuple[int, ...] = (1024, 1024, 512, 512, 256, 256, 128)
    edge_update: EdgeUpdate = "plain"
    condition: Literal["damped", "difference"] = "damped"
    pooling: Literal["concatenate", "mean"] = "concatenate"
    roost_steps: int = 3
    elements: ElementVectors = "matscholar"

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"ranks": "whole"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_widths", tuple(self.output_widths))  # a list when read from json
        for name, most in _LARGEST.items():
            if getattr(self, name) < 1:
                raise CgatError(f"model: {name} must be at least 1, not {getattr(self, name)}")
            if getattr(self, name) > most:
                raise CgatError(f"model: {name} must be at most {most}, not {getattr(self, name)}")
        if len(self.output_widths) > 100 or not all(1 <= width <= 10_000 for width in self.output_widths):
            raise CgatError("model: output_widths are at most 100 numbers from 1 to 10000")
        choices = {
            "ranks": ("whole", "continuous"),
            "edge_update": ("plain", "attention", "hypernetwork"),
            "condition": ("damped", "difference"),
            "pooling": ("concatenate", "mean"),
            "elements": ("matscholar", "one-hot"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise CgatError(f"model: unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")
        if self.edge_update == "hypernetwork" and self.condition == "difference":
            raise CgatError("model: edge_update 'hypernetwork' exists only with condition 'damped'")

    @property
    def hidden(self) -> int:
        """Hidden width of the message-passing FCNNs."""
        return int((2 * self.atom_width + self.edge_width) / 1.5)

    @property
    def embedding_width(self) -> int:
        """Width of the crystal embedding that enters the output network."""
        return self.atom_width * (self.heads if self.pooling == "concatenate" else 1)


_TINY = ModelConfig(16, 16, 2, 2, neighbours=12, output_widths=(64, 64, 32), roost_steps=1)
MODELS = {
    "paper": ModelConfig(edge_update="attention", condition="difference"),
    "released": ModelConfig(edge_width=128, heads=5),
    "small": ModelConfig(32, 32, 2, 2, neighbours=12, ranks="continuous"),
    "tiny": replace(_TINY, ranks="continuous"),
    "tiny-shells": _TINY,
}
"""Model configurations by name; `cgatlib.graphs.neighbours.GRAPHS` has the graph configuration that goes with each."""


class Conditioned(nn.Module):
    """HFCNN with the conditioning of the released code or of the paper."""

    def __init__(self, width: int, step: int, condition: str) -> None:
        super().__init__()
        self.network = HFCNN(width)
        self.difference = condition == "difference"
        self.damping = nn.Parameter(torch.rand(1)) if step > 0 and not self.difference else None

    def forward(self, aggregate: Tensor, initial: Tensor, change: Tensor) -> Tensor:
        """Apply to `aggregate`; `initial` is h_0, `change` h_t - h_(t-1) (h_0 at the first step); all (rows, width)."""
        if self.difference:
            return self.network(aggregate, change)
        if self.damping is None:
            return self.network(aggregate, initial)
        self.damping.data.clamp_(0, 1)  # as the released code: the parameter itself stays within its bounds
        return self.network(aggregate, self.damping * initial + (1 - self.damping) * aggregate)


@dataclass(frozen=True)
class Edges:
    """The edges of a batch, ordered by receiver."""

    sender: Tensor  # (E,) node j
    receiver: Tensor  # (E,) node i
    count: Tensor  # (E,) how many edges of the crystal it stands for, or their weight (only ratios matter)
    rank: Tensor  # (E,) rank of the listed neighbour, a row of e_0
    feature: Tensor  # (E,) row of the matrix of distinct edge features
    n_nodes: int
    n_features: int

    @cached_property
    def receiver_first(self) -> Rows:
        """Rows of (h_i || e_ij || h_j) for every edge."""
        return self._rows(self.receiver, self.sender)

    @cached_property
    def sender_first(self) -> Rows:
        """Rows of (h_j || e_ij || h_i) for every edge."""
        return self._rows(self.sender, self.receiver)

    def between_elements(self, element: Tensor, n_elements: int) -> tuple["Edges", Tensor]:
        """The distinct edges when each end is known by its `element` (N,) alone, and which of them each edge is, (E,).

        There are a third fewer of them in a batch of 64 crystals.
        """
        pair = element.index_select(0, self.receiver) * n_elements + element.index_select(0, self.sender)
        key, which = torch.unique(pair * self.n_features + self.feature, return_inverse=True)
        pair, feature = key // self.n_features, key % self.n_features
        alike = replace(
            self, sender=pair % n_elements, receiver=pair // n_elements, feature=feature, n_nodes=n_elements
        )
        return alike, which

    def _rows(self, first: Tensor, second: Tensor) -> Rows:
        n, r = self.n_nodes, self.n_features
        return Rows.of(torch.stack([first, self.feature + n, second + n + r], dim=1), 2 * n + r)


class NodeUpdate(nn.Module):
    """Equations 1a to 1d."""

    def __init__(self, config: ModelConfig, step: int) -> None:
        super().__init__()
        width = 2 * config.atom_width + config.edge_width
        self.fcnn = MultiHeadFCNN(width, config.hidden, config.atom_width, config.heads, nets=2)  # of 1a and of 1c
        self.hfcnn = Conditioned(config.atom_width, step, config.condition)

    def forward(self, h: Tensor, e: Tensor, edges: Edges, initial: Tensor, change: Tensor) -> Tensor:
        """h_(t+1) - h_t, (N, C), from h_t (N, C), e (R, D), h_0 and h_t - h_(t-1) (N, C)."""
        s, m = self.fcnn.on_edges((h, e, h), edges.receiver_first)  # 1a, 1c: (E, heads, C)
        aggregate = attention_sum(s, m, edges.count, edges.receiver, len(h)).mean(1)  # 1b, sums of 1d: (N, C)
        return self.hfcnn(aggregate, initial, change)

    def first(self, vectors: Tensor, element: Tensor, e: Tensor, edges: Edges) -> Tensor:
        """The same at the first step, where h_t and the condition are those of a node's element.

        So what edges or nodes have in common is computed once.

        Args:
            vectors: h_0 of each element in the batch, (U, C). element: (N,) row of each node. e, edges: as above.
        """
        alike, which = edges.between_elements(element, len(vectors))
        s, m = self.fcnn.on_edges((vectors, e, vectors), alike.receiver_first)  # (distinct edges, heads, C)
        s, m = s.index_select(0, which), m.index_select(0, which)
        aggregate = attention_sum(s, m, edges.count, edges.receiver, len(element)).mean(1)
        return self.hfcnn.network(aggregate, vectors, Blocks.of(element, len(vectors)))


class PlainEdgeUpdate(nn.Module):
    """e <- e + FCNN(e), what remains of equations 2a to 2d in the released code: one row per shell rank."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.edge_width
        self.fcnn = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))

    def forward(self, h: Tensor, e: Tensor, edges: Edges, initial: Tensor) -> tuple[Tensor, Edges]:
        """New edge features (R, D) and the edges that refer to them."""
        return e + self.fcnn(e), edges


class AttentionEdgeUpdate(nn.Module):
    """Equations 2a to 2d; from the first update on, every edge has a feature of its own."""

    def __init__(self, config: ModelConfig, step: int) -> None:
        super().__init__()
        width = 2 * config.atom_width + config.edge_width
        self.fcnn = MultiHeadFCNN(width, config.hidden, config.edge_width, config.heads, nets=2)  # of 2a and of 2c
        self.update: nn.Module
        if config.edge_update == "hypernetwork":
            self.update = Conditioned(config.edge_width, step, config.condition)
        else:
            self.update = MultiHeadFCNN(config.heads * config.edge_width, config.hidden, config.edge_width, 1)

    def forward(self, h: Tensor, e: Tensor, edges: Edges, initial: Tensor) -> tuple[Tensor, Edges]:
        """New edge features (E, D) and the edges that refer to them; `initial` (R, D) is e_0 by rank."""
        s, m = self.fcnn.on_edges((h, e, h), edges.sender_first)  # 2a, 2c: (E, heads, D)
        am = torch.softmax(s, dim=1) * m  # 2b: normalised over the heads
        if isinstance(self.update, Conditioned):
            condition = initial[edges.rank]
            update = self.update(am.mean(1), condition, condition)
        else:
            update = self.update(am.flatten(1)).squeeze(1)  # 2d: the heads side by side
        own = torch.arange(len(update), device=h.device)
        return e[edges.feature] + update, replace(edges, feature=own, n_features=len(own))


class Pooling(nn.Module):
    """Attention over the atoms of a crystal, scored next to the vector of its composition."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.atom_width
        self.score = MultiHeadFCNN(2 * width, width, width, config.heads)
        self.message = MultiHeadFCNN(width, width, width, config.heads)
        self.mean = config.pooling == "mean"

    def forward(self, h: Tensor, composition: Tensor, batch: Batch, n_graphs: int) -> Tensor:
        """(G, heads * C), or (G, C) for the mean of the heads."""
        s = self.score(torch.cat([h, composition.index_select(0, batch.batch)], dim=1))
        pooled = attention_sum(s, self.message(h), batch.multiplicity.to(h.dtype), batch.batch, n_graphs)
        return pooled.mean(1) if self.mean else pooled.flatten(1)


class CGAT(nn.Module):
    """Crystal graph attention network: from a batch of graphs to normalised (value, log standard deviation).

    It has a pair of these for each of its `labels`.
    """

    elements: Tensor

    def __init__(self, config: ModelConfig, labels: int = 1) -> None:
        super().__init__()
        self.config = config
        vectors = element_vectors(config.elements).to(torch.get_default_dtype())  # (103, F)
        self.register_buffer("elements", vectors, persistent=False)
        self.atom = nn.Linear(vectors.shape[1], config.atom_width, bias=False)
        self.rank = nn.Parameter(torch.randn(config.neighbours + 1, config.edge_width))  # e_0 of whole ranks
        self.nodes = nn.ModuleList(NodeUpdate(config, step) for step in range(config.steps))
        self.edges = nn.ModuleList(  # the edge features after the last step would not be used
            PlainEdgeUpdate(config) if config.edge_update == "plain" else AttentionEdgeUpdate(config, step)
            for step in range(config.steps - 1)
        )
        self.composition = Composition(config.atom_width, config.roost_steps, vectors.shape[1])
        self.pooling = Pooling(config)
        self.output = OutputNetwork((config.embedding_width, *config.output_widths), labels)

    def edge_table(self) -> Tensor:
        """e_0 of every rank, (R, D): one row for each shell, or `RESOLUTION` rows from one whole rank to the next."""
        if self.config.ranks == "whole":
            return self.rank
        rows = self.config.neighbours * RESOLUTION + 1
        table = self.rank.t().unsqueeze(0)  # (1, D, k + 1)
        return F.interpolate(table, rows, mode="linear", align_corners=True).squeeze(0).t()

    def embed(self, batch: Batch) -> Tensor:
        """Crystal embedding (G, embedding_width): everything but the output network."""
        n_graphs = len(batch.ptr) - 1
        number, element = torch.unique(batch.numbers, return_inverse=True)
        vectors = self.atom(self.elements.index_select(0, number - 1)).to(self.rank.dtype)
        h = initial = change = vectors.index_select(0, element)
        sender, receiver = batch.edge_index
        e = ranks = self.edge_table()
        edges = Edges(sender, receiver, batch["count"].to(h.dtype), batch.rank, batch.rank, len(h), len(e))
        for step, node in enumerate(cast(Iterable[NodeUpdate], self.nodes)):
            update = node(h, e, edges, initial, change) if step else node.first(vectors, element, e, edges)
            if step < len(self.edges):
                e, edges = self.edges[step](h, e, edges, ranks)
            h, change = h + update, update
        return self.pooling(h, self.composition(self.elements, batch, n_graphs), batch, n_graphs)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2 labels): of each label value and log standard deviation, in units of the label's standard deviation."""
        return self.output(self.embed(batch))
