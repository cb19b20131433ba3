"""The crystal graph attention network, top to bottom in the order of the paper.

Equation numbers are those of Hoffmann et al., Digital Discovery 2, 1368 (2023), section IV B; the network is that of
Schmidt et al., Sci. Adv. 7, eabi7948 (2021). Symbols: G graphs, N nodes, E edges, C atom width, D edge width.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from cgatlib import CgatError
from cgatlib.attention import attention_sum, bilinear, edge_fcnn
from cgatlib.elements import ElementVectors, element_vectors

EdgeUpdate = Literal["plain", "attention", "hypernetwork"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of the network; the defaults are the sizes printed in the paper.

    Args:
        atom_width: C. edge_width: D. heads: attention heads. steps: message-passing steps.
        neighbours: largest shell rank of the graphs.
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
    output_widths: tuple[int, ...] = (1024, 1024, 512, 512, 256, 256, 128)
    edge_update: EdgeUpdate = "plain"
    condition: Literal["damped", "difference"] = "damped"
    pooling: Literal["concatenate", "mean"] = "concatenate"
    roost_steps: int = 3
    elements: ElementVectors = "matscholar"

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_widths", tuple(self.output_widths))  # a list when read from json
        for name in ("atom_width", "edge_width", "heads", "steps", "neighbours", "roost_steps"):
            if getattr(self, name) < 1:
                raise CgatError(f"model: {name} must be at least 1, not {getattr(self, name)}")
        choices = {
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


MODELS = {
    "paper": ModelConfig(edge_update="attention", condition="difference"),
    "released": ModelConfig(edge_width=128, heads=5),
    "small": ModelConfig(32, 32, 2, 2, neighbours=12),
    "tiny": ModelConfig(16, 16, 2, 2, neighbours=12, output_widths=(64, 64, 32)),
}
"""Model configurations by name; `cgatlib.neighbours.GRAPHS` has the graph configuration that goes with each."""


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """PyTorch's default initialisation of linear layers, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in))


class MultiHeadFCNN(nn.Module):
    """FCNN^n for all heads n at once: a hidden layer with leaky ReLU per head, (rows, width) -> (heads, rows, out)."""

    def __init__(self, width: int, hidden: int, out: int, heads: int) -> None:
        super().__init__()
        self.heads, self.hidden = heads, hidden
        self.w_in = _uniform(heads * hidden, width, fan_in=width)
        self.b_in = _uniform(heads * hidden, fan_in=width)
        self.w_out = _uniform(heads, hidden, out, fan_in=hidden)
        self.b_out = _uniform(heads, out, fan_in=hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(heads, rows, out) from (rows, width)."""
        hidden = F.leaky_relu(F.linear(x, self.w_in, self.b_in)).view(-1, self.heads, self.hidden)
        return torch.baddbmm(self.b_out.unsqueeze(1), hidden.transpose(0, 1), self.w_out)

    def on_edges(self, first: Tensor, e: Tensor, second: Tensor, rows: Tensor) -> Tensor:
        """FCNN^n(h_first || e || h_second) of every edge, (heads, E, out).

        The first layer is linear in the concatenation, so it acts on each node and each distinct edge feature once
        and an edge only adds three rows.

        Args:
            first, second: (N, C) the same node embeddings, or two versions. e: (R, D) distinct edge features.
            rows: (E, 3) first node, edge feature + N, second node + N + R of every edge.
        """
        w_first, w_e, w_second = self.w_in.split([first.shape[1], e.shape[1], second.shape[1]], dim=1)
        parts = torch.cat([F.linear(first, w_first), F.linear(e, w_e, self.b_in), F.linear(second, w_second)])
        return edge_fcnn(parts, rows, self.w_out, self.b_out)


class HFCNN(nn.Module):
    """HFCNN_theta: a network of four layers whose weights another network generates for every row.

    Generated layers 1 to 3 are followed by a layer normalisation and tanh. Each generated layer has its own generator:
    four times (linear, tanh), then linear to the weights and biases.
    """

    layers = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        gain = math.sqrt(2 / width)  # Kaiming normal
        self.w_hidden = nn.Parameter(torch.randn(4, self.layers, width, width) * gain)  # (depth, layer, in, out)
        self.b_hidden = _uniform(4, self.layers, 1, width, fan_in=width)
        self.w_weight = nn.Parameter(0.1 * gain * torch.randn(self.layers, width, width, width))  # (layer, o, i, k)
        self.b_weight = _uniform(self.layers, width, width, fan_in=width)
        self.w_bias = nn.Parameter(0.1 * gain * torch.randn(self.layers, width, width))
        self.b_bias = _uniform(self.layers, width, fan_in=width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The generated network applied to `x` (rows, width), generated from `condition` (rows, width)."""
        z = condition.expand(self.layers, *condition.shape)
        for weight, bias in zip(self.w_hidden, self.b_hidden, strict=True):
            z = torch.tanh(torch.baddbmm(bias, z, weight))  # (layer, rows, width)
        for layer in range(self.layers):
            theta = F.linear(z[layer], self.w_bias[layer], self.b_bias[layer])
            x = bilinear(x, z[layer], self.w_weight[layer]) + F.linear(x, self.b_weight[layer]) + theta
            if layer < self.layers - 1:
                x = torch.tanh(F.layer_norm(x, x.shape[-1:]))
        return x


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
        return self.network(aggregate, torch.lerp(aggregate, initial, self.damping))


@dataclass(frozen=True)
class Edges:
    """The edges of a batch, ordered by receiver within each graph."""

    sender: Tensor  # (E,) node j
    receiver: Tensor  # (E,) node i
    count: Tensor  # (E,) how many edges of the crystal it stands for
    feature: Tensor  # (E,) row of the matrix of distinct edge features

    def rows(self, first: Tensor, second: Tensor, n: int, n_features: int) -> Tensor:
        """(E, 3) rows of node parts, feature parts and node parts again when these are stacked."""
        return torch.stack([first, self.feature + n, second + (n + n_features)], dim=1)


class NodeUpdate(nn.Module):
    """Equations 1a to 1d."""

    def __init__(self, config: ModelConfig, step: int) -> None:
        super().__init__()
        self.heads = config.heads
        # The networks of 1a and 1c have equal shapes and inputs: half of the heads are scores, half are messages.
        width = 2 * config.atom_width + config.edge_width
        self.fcnn = MultiHeadFCNN(width, config.hidden, config.atom_width, 2 * config.heads)
        self.hfcnn = Conditioned(config.atom_width, step, config.condition)

    def forward(self, h: Tensor, e: Tensor, edges: Edges, initial: Tensor, change: Tensor) -> Tensor:
        """h_(t+1) - h_t, (N, C), from h_t (N, C), e (R, D), h_0 and h_t - h_(t-1) (N, C)."""
        rows = edges.rows(edges.receiver, edges.sender, len(h), len(e))
        s, m = self.fcnn.on_edges(h, e, h, rows).split(self.heads)  # 1a, 1c: (heads, E, C)
        aggregate = attention_sum(s, m, edges.count, edges.receiver, len(h)).mean(0)  # 1b, sums of 1d: (N, C)
        return self.hfcnn(aggregate, initial, change)


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
        self.heads = config.heads
        width = 2 * config.atom_width + config.edge_width
        self.fcnn = MultiHeadFCNN(width, config.hidden, config.edge_width, 2 * config.heads)
        self.update: nn.Module
        if config.edge_update == "hypernetwork":
            self.update = Conditioned(config.edge_width, step, config.condition)
        else:
            self.update = MultiHeadFCNN(config.heads * config.edge_width, config.hidden, config.edge_width, 1)

    def forward(self, h: Tensor, e: Tensor, edges: Edges, initial: Tensor) -> tuple[Tensor, Edges]:
        """New edge features (E, D) and the edges that refer to them; `initial` (E, D) is e_0."""
        rows = edges.rows(edges.sender, edges.receiver, len(h), len(e))
        s, m = self.fcnn.on_edges(h, e, h, rows).split(self.heads)  # 2a, 2c: (heads, E, D)
        am = torch.softmax(s, dim=0) * m  # 2b: normalised over the heads
        if isinstance(self.update, Conditioned):
            update = self.update(am.mean(0), initial, initial)
        else:
            update = self.update(am.transpose(0, 1).flatten(1))[0]  # 2d: the heads side by side
        own = torch.arange(len(edges.feature), device=h.device)
        return e[edges.feature] + update, replace(edges, feature=own)


class Composition(nn.Module):
    """ROOST: a vector of the composition from a graph of its elements (doi:10.1038/s41467-020-19964-7)."""

    hidden = 256

    def __init__(self, config: ModelConfig, n_features: int) -> None:
        super().__init__()
        width = config.atom_width
        self.embedding = nn.Linear(n_features, width - 1)
        layers = range(config.roost_steps)
        self.scores = nn.ModuleList(MultiHeadFCNN(2 * width, self.hidden, 1, 1) for _ in layers)
        self.messages = nn.ModuleList(MultiHeadFCNN(2 * width, self.hidden, width, 1) for _ in layers)
        self.pool = MultiHeadFCNN(width, self.hidden, 1, 1)
        self.powers = nn.Parameter(torch.randn(config.roost_steps + 1))

    def forward(self, elements: Tensor, batch: Batch, n_graphs: int) -> Tensor:
        """(G, C) from the vectors of all elements (103, F)."""
        number, graph, fraction = _fractions(batch, n_graphs)
        x = torch.cat([self.embedding(elements[number - 1]), fraction.to(elements.dtype).unsqueeze(1)], dim=1)
        weight = x[:, -1]
        receiver, sender = _pairs(graph, n_graphs)
        for score, message, power in zip(self.scores, self.messages, self.powers, strict=False):
            pair = torch.cat([x[receiver], x[sender]], dim=1)
            x = x + _weighted(score(pair), message(pair), weight[sender] ** power, receiver, len(x))
        return _weighted(self.pool(x), x.unsqueeze(0), weight ** self.powers[-1], graph, n_graphs)


def _weighted(s: Tensor, m: Tensor, weight: Tensor, receiver: Tensor, n: int) -> Tensor:
    return attention_sum(s.expand_as(m), m, weight, receiver, n, epsilon=1e-13)[0]


def _fractions(batch: Batch, n_graphs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Atomic number, graph and atomic fraction of every distinct element of every graph, (M,) each."""
    key, element = torch.unique(batch.batch * 128 + batch.numbers, return_inverse=True)
    atoms = torch.zeros_like(key).index_add_(0, element, batch.multiplicity)
    graph = key // 128
    total = torch.zeros(n_graphs, dtype=key.dtype, device=key.device).index_add_(0, graph, atoms)
    return key % 128, graph, atoms.float() / total[graph].float()  # single precision, as in the released code


def _pairs(graph: Tensor, n_graphs: int) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different elements of one graph; `graph` (M,) is ascending."""
    size = torch.bincount(graph, minlength=n_graphs)
    start = size.cumsum(0) - size
    per_row = size[graph]
    receiver = torch.repeat_interleave(per_row)
    sender = torch.arange(len(receiver), device=graph.device) - (per_row.cumsum(0) - per_row)[receiver]
    sender = sender + start[graph[receiver]]
    different = receiver != sender
    return receiver[different], sender[different]


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
        s = self.score(torch.cat([h, composition[batch.batch]], dim=1))
        pooled = attention_sum(s, self.message(h), batch.multiplicity.to(h.dtype), batch.batch, n_graphs)
        return pooled.mean(0) if self.mean else pooled.transpose(0, 1).flatten(1)


class OutputNetwork(nn.Module):
    """The residual network from the crystal embedding to (value, log standard deviation), "regression head"."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.skips = nn.ModuleList(nn.Identity() if a == b else nn.Linear(a, b, bias=False) for a, b in pairs)
        self.scales = nn.Parameter(torch.zeros(len(pairs)))  # ReZero (arXiv:2003.04887): each block starts as its skip
        self.last = nn.Linear(widths[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """(G, 2) from (G, widths[0])."""
        for linear, skip, scale in zip(self.linears, self.skips, self.scales, strict=True):
            x = scale * torch.relu(linear(x)) + skip(x)
        return self.last(x)


class CGAT(nn.Module):
    """Crystal graph attention network: a batch of graphs to normalised (value, log standard deviation)."""

    elements: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        vectors = element_vectors(config.elements).to(torch.get_default_dtype())  # (103, F)
        self.register_buffer("elements", vectors, persistent=False)
        self.atom = nn.Linear(vectors.shape[1], config.atom_width, bias=False)
        self.rank = nn.Parameter(torch.randn(config.neighbours + 1, config.edge_width))  # e_0 by shell rank
        self.nodes = nn.ModuleList(NodeUpdate(config, step) for step in range(config.steps))
        self.edges = nn.ModuleList(  # the edge features after the last step would not be used
            PlainEdgeUpdate(config) if config.edge_update == "plain" else AttentionEdgeUpdate(config, step)
            for step in range(config.steps - 1)
        )
        self.composition = Composition(config, vectors.shape[1])
        self.pooling = Pooling(config)
        self.output = OutputNetwork((config.embedding_width, *config.output_widths))

    def embed(self, batch: Batch) -> Tensor:
        """Crystal embedding (G, embedding_width): everything but the output network."""
        n_graphs = len(batch.ptr) - 1
        h = initial = change = self.atom(self.elements)[batch.numbers - 1]
        sender, receiver = batch.edge_index
        edges = Edges(sender, receiver, batch["count"].to(h.dtype), batch.rank)
        e: Tensor = self.rank
        for step, node in enumerate(self.nodes):
            update = node(h, e, edges, initial, change)
            if step < len(self.edges):
                e, edges = self.edges[step](h, e, edges, self.rank[batch.rank])
            h, change = h + update, update
        return self.pooling(h, self.composition(self.elements, batch, n_graphs), batch, n_graphs)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2): value and log standard deviation, in units of the target's standard deviation."""
        return self.output(self.embed(batch))
