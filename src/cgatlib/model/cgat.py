"""The crystal graph attention network in the order of the paper, in plain operations.

Equation numbers are those of Hoffmann et al., Digital Discovery 2, 1368 (2023), section IV B; the network is that of
Schmidt et al., Sci. Adv. 7, eabi7948 (2021). Symbols: G graphs, N nodes, E edges, R distinct edge features, C atom
width, D edge width, h hidden width. `edge_fcnn` and `generated_network` are written here as what they mean; the network
calls the functions of the same names in `cgatlib.model.kernels`, which are faster and tested to be equal. Initial
weights are drawn as in the released code.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from cgatlib.graphs.neighbours import RESOLUTION
from cgatlib.model import kernels
from cgatlib.model.config import ModelConfig, element_vectors
from cgatlib.model.kernels import Rows

# FCNN: the networks with one hidden layer, of 1a, 1c, 2a, 2c, 2d, of the composition and of the pooling


def fcnn(x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> tuple[Tensor, ...]:
    """FCNN^n(x) for all heads n of one or more networks: a hidden layer with leaky ReLU, then a linear one.

    Args:
        x: (rows, width). w_in: (nets, heads, h, width). b_in: (nets, heads, 1, h). w_out: (nets, heads, h, out).
        b_out: (nets, heads, out).

    Returns:
        (rows, heads, out) of each net.
    """
    hidden = F.leaky_relu(F.linear(x, w_in.flatten(0, 2), b_in.flatten()))  # (rows, nets * heads * h)
    hidden = hidden.unflatten(1, w_out.shape[:3]).permute(1, 2, 0, 3)  # (nets, heads, rows, h)
    return (hidden @ w_out + b_out.unsqueeze(2)).transpose(1, 2).unbind()


def edge_fcnn(
    tables: Sequence[Tensor], rows: Rows, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
) -> tuple[Tensor, ...]:
    """FCNN^n(h_i || e_ij || h_j) for every edge: `fcnn` of a row of each table, side by side.

    Args:
        tables: (rows, width) each. rows: the row of every edge in each of them. Weights as in `fcnn`.

    Returns:
        (E, heads, out) of each net.
    """
    x = torch.cat([table[row] for table, row in zip(tables, rows.index, strict=True)], dim=1)  # h_i || e_ij || h_j
    return fcnn(x, w_in, b_in, w_out, b_out)


class MultiHeadFCNN(nn.Module):
    """The weights of `fcnn`."""

    def __init__(self, width: int, hidden: int, out: int, heads: int, nets: int = 1) -> None:
        super().__init__()
        self.w_in = _uniform(nets, heads, hidden, width, fan_in=width)
        self.b_in = _uniform(nets, heads, 1, hidden, fan_in=width)
        self.w_out = _uniform(nets, heads, hidden, out, fan_in=hidden)
        self.b_out = _uniform(nets, heads, out, fan_in=hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, heads, out) from (rows, width), for a single net."""
        return fcnn(x, self.w_in, self.b_in, self.w_out, self.b_out)[0]

    def on_edges(self, tables: Sequence[Tensor], rows: Rows) -> tuple[Tensor, ...]:
        """`edge_fcnn` with these weights."""
        return kernels.edge_fcnn(tables, rows, self.w_in, self.b_in, self.w_out, self.b_out)


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """PyTorch's default initialisation of linear layers, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in))


# Equations 1a to 1d: atoms


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
        return Rows((self.receiver, self.feature, self.sender), (self.n_nodes, self.n_features, self.n_nodes))

    @cached_property
    def sender_first(self) -> Rows:
        """Rows of (h_j || e_ij || h_i) for every edge."""
        return Rows((self.sender, self.feature, self.receiver), (self.n_nodes, self.n_features, self.n_nodes))


def softmax(s: Tensor, receiver: Tensor, n: int, weight: Tensor, epsilon: float = 1e-16) -> Tensor:
    """1b: a_ij = w_ij exp(s_ij) / sum_j w_ij exp(s_ij), summed over the edges that arrive at i.

    Args:
        s: (E, heads, C) scores, or (E, heads, 1) where one score holds for all channels.
        receiver: (E,) node i of each edge. n: number of receivers. weight: (E,) how many times each edge counts.
        epsilon: added to the sum, whose largest term is 1, as in the released code.

    Returns:
        The shape of s, in single precision at least: sums over edges do not survive half precision.
    """
    s = s.to(torch.promote_types(s.dtype, torch.float32))
    index = receiver.view(-1, 1, 1).expand_as(s)
    top = s.new_full((n, *s.shape[1:]), -torch.inf).scatter_reduce(0, index, s.detach(), "amax")  # so that exp is <= 1
    exp = weight.view(-1, 1, 1) * torch.exp(s - top.index_select(0, receiver))
    total = exp.new_full(top.shape, epsilon).index_add(0, receiver, exp)
    return exp / total.index_select(0, receiver)


def sum_over_edges(x: Tensor, receiver: Tensor, n: int) -> Tensor:
    """sum_j x_ij, (n, heads, C), from (E, heads, C); zeros for a receiver without edges."""
    return x.new_zeros(n, *x.shape[1:]).index_add(0, receiver, x)


class NodeUpdate(nn.Module):
    """Equations 1a to 1d: what is added to every h_i."""

    def __init__(self, config: ModelConfig, step: int) -> None:
        super().__init__()
        width = 2 * config.atom_width + config.edge_width
        self.fcnn = MultiHeadFCNN(width, config.hidden, config.atom_width, config.heads, nets=2)  # of 1a and of 1c
        self.hfcnn = Conditioned(config.atom_width, step, config.condition)

    def forward(self, h: Tensor, e: Tensor, edges: Edges, initial: Tensor, change: Tensor) -> Tensor:
        """h_(t+1) - h_t, (N, C), from h_t (N, C), e (R, D), h_0 and h_t - h_(t-1) (N, C)."""
        s, m = self.fcnn.on_edges((h, e, h), edges.receiver_first)  # 1a, 1c: (E, heads, C)
        a = softmax(s, edges.receiver, len(h), edges.count)  # 1b: (E, heads, C)
        am = sum_over_edges(a * m, edges.receiver, len(h))  # 1d: sum_j a_ij m_ij, (N, heads, C)
        return self.hfcnn(am.mean(1), initial, change)  # 1d: HFCNN of the mean over the heads, (N, C)


# HFCNN of equation 1d: a network whose weights another network generates


def generated_network(x: Tensor, z: Tensor, w: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Four linear layers, layer normalisation and tanh between them, with weights of its own for every row n.

    These are theta_n[o, i] = sum_k w[o, i, k] z_n[k] + v[o, i].

    Args:
        x: (N, C). z: (layers, N, C). w: (layers, C, C, C). v: (layers, C, C). b: (layers, N, C), the biases.

    Returns:
        (N, C).
    """
    for layer in range(len(w)):
        if layer:
            x = torch.tanh(F.layer_norm(x, x.shape[1:]))
        theta = torch.einsum("oik,nk->noi", w[layer], z[layer]) + v[layer]
        x = torch.einsum("noi,ni->no", theta, x) + b[layer]
    return x


class HFCNN(nn.Module):
    """HFCNN_theta: the weights of `generated_network`, which other networks generate for every row.

    Each of the four generated layers has its own generator: four times (linear, tanh), then linear to its weights and
    biases.
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
        """The network generated from each row of `condition` (N, width), applied to that of `x` (N, width)."""
        z = condition.expand(self.layers, *condition.shape)
        for weight, bias in zip(self.w_hidden, self.b_hidden, strict=True):
            z = torch.tanh(torch.baddbmm(bias, z, weight))  # (layer, N, width)
        b = torch.baddbmm(self.b_bias.unsqueeze(1), z, self.w_bias.mT)  # (layer, N, width)
        return kernels.generated_network(x, z, self.w_weight, self.b_weight, b)


class Conditioned(nn.Module):
    """HFCNN generated from what the released code or what the paper says."""

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


# Equations 2a to 2d: edges


class PlainEdgeUpdate(nn.Module):
    """e <- e + FCNN(e), all that the released code computes of equations 2a to 2d: one row per rank."""

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
        a = torch.softmax(s, dim=1)  # 2b: over the heads
        if isinstance(self.update, Conditioned):
            condition = initial[edges.rank]
            update = self.update((a * m).mean(1), condition, condition)
        else:
            update = self.update((a * m).flatten(1)).squeeze(1)  # 2d: FCNN of the heads side by side, (E, D)
        own = torch.arange(len(update), device=h.device)
        return e[edges.feature] + update, replace(edges, feature=own, n_features=len(own))


# The composition (ROOST), the pooling to a crystal, the prediction


class Composition(nn.Module):
    """ROOST: a vector of the composition from a graph of its elements (doi:10.1038/s41467-020-19964-7)."""

    hidden, epsilon = 256, 1e-13  # as in the released code

    def __init__(self, width: int, steps: int, n_features: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(n_features, width - 1)
        layers = range(steps)
        self.scores = nn.ModuleList(MultiHeadFCNN(2 * width, self.hidden, 1, 1) for _ in layers)
        self.messages = nn.ModuleList(MultiHeadFCNN(2 * width, self.hidden, width, 1) for _ in layers)
        self.pool = MultiHeadFCNN(width, self.hidden, 1, 1)
        self.powers = nn.Parameter(torch.randn(steps + 1))

    def forward(self, elements: Tensor, batch: Batch, n_graphs: int) -> Tensor:
        """(G, C) from the vectors of all elements (103, F)."""
        number, graph, fraction = _fractions(batch, n_graphs)
        fraction = fraction.to(elements.dtype).unsqueeze(1)
        x = torch.cat([self.embedding(elements).index_select(0, number - 1), fraction], dim=1)
        *weights, last = (fraction**self.powers).unbind(1)  # (M,) of each step and of the pooling
        receiver, sender = _pairs(graph, n_graphs)
        rows = Rows((receiver, sender), (len(x), len(x)))
        for score, message, weight in zip(self.scores, self.messages, weights, strict=True):
            (s,), (m,) = (cast(MultiHeadFCNN, fcnn).on_edges((x, x), rows) for fcnn in (score, message))
            a = softmax(s, receiver, len(x), weight.index_select(0, sender), self.epsilon)  # (pairs, 1, 1)
            x = x + sum_over_edges(a * m, receiver, len(x)).squeeze(1)
        a = softmax(self.pool(x), graph, n_graphs, last, self.epsilon)  # (M, 1, 1)
        return sum_over_edges(a * x.unsqueeze(1), graph, n_graphs).squeeze(1)


def _fractions(batch: Batch, n_graphs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Atomic number, graph and atomic fraction of every distinct element of every graph, (M,) each."""
    key, element = torch.unique(batch.batch * 128 + batch.numbers, return_inverse=True)
    atoms = torch.zeros_like(key).index_add_(0, element, batch.multiplicity)
    graph = key // 128
    total = torch.zeros(n_graphs, dtype=key.dtype, device=key.device).index_add_(0, graph, atoms)
    return key % 128, graph, atoms.float() / total[graph].float()  # single precision, as in the released code


def _pairs(graph: Tensor, n_graphs: int) -> Tensor:
    """All ordered pairs (receiver, sender) of different elements of one graph, (2, pairs); `graph` (M,) ascends."""
    size = torch.bincount(graph, minlength=n_graphs)
    start = size.cumsum(0) - size
    per_row = size[graph]
    receiver = torch.repeat_interleave(per_row)
    sender = torch.arange(len(receiver), device=graph.device) - (per_row.cumsum(0) - per_row)[receiver]
    sender = sender + start[graph[receiver]]
    return torch.stack([receiver, sender])[:, receiver != sender]


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
        s = self.score(torch.cat([h, composition.index_select(0, batch.batch)], dim=1))  # (N, heads, C)
        a = softmax(s, batch.batch, n_graphs, batch.multiplicity.to(h.dtype))
        pooled = sum_over_edges(a * self.message(h), batch.batch, n_graphs)  # (G, heads, C)
        return pooled.mean(1) if self.mean else pooled.flatten(1)


class OutputNetwork(nn.Module):
    """The residual network from the crystal embedding to (value, log standard deviation), "regression head".

    The `labels` that it is made for share all layers but the last.
    """

    def __init__(self, widths: tuple[int, ...], labels: int = 1) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.skips = nn.ModuleList(nn.Identity() if a == b else nn.Linear(a, b, bias=False) for a, b in pairs)
        self.scales = nn.Parameter(torch.zeros(len(pairs)))  # ReZero (arXiv:2003.04887): each block starts as its skip
        self.last = nn.Linear(widths[-1], 2 * labels)

    def forward(self, x: Tensor) -> Tensor:
        """(G, 2 labels) from (G, widths[0]), in single precision in any case: a value in half has three digits."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.scales.dtype)
            for linear, skip, scale in zip(self.linears, self.skips, self.scales, strict=True):
                x = scale * linear(x).relu_() + skip(x)
            return self.last(x)


class CGAT(nn.Module):
    """Crystal graph attention network: from a batch of graphs to `labels` pairs (value, log standard deviation)."""

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
        vectors = self.atom(self.elements).to(self.rank.dtype)  # (103, C)
        h = initial = change = vectors.index_select(0, batch.numbers - 1)
        sender, receiver = batch.edge_index
        e = ranks = self.edge_table()
        edges = Edges(sender, receiver, batch["count"].to(h.dtype), batch.rank, batch.rank, len(h), len(e))
        for step, node in enumerate(cast(Iterable[NodeUpdate], self.nodes)):
            update = node(h, e, edges, initial, change)
            if step < len(self.edges):
                e, edges = self.edges[step](h, e, edges, ranks)
            h, change = h + update, update
        return self.pooling(h, self.composition(self.elements, batch, n_graphs), batch, n_graphs)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2 labels): value and log standard deviation of each label, normalised by `TargetStatistics`."""
        return self.output(self.embed(batch))
