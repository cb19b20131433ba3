"""Building blocks of the network: multi-head, hyper-, composition and output networks.

Symbols: G graphs, N nodes, E edges, C atom width. Initialisations are those of the released code.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from cgatlib.model.attention import Rows, attention_sum, edge_fcnn, generated_network

_BLOCK = 8  # rows of one kind side by side


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """PyTorch's default initialisation of linear layers, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in))


class MultiHeadFCNN(nn.Module):
    """FCNN^n for all heads n: one hidden layer with leaky ReLU per head; `nets` such networks side by side."""

    def __init__(self, width: int, hidden: int, out: int, heads: int, nets: int = 1) -> None:
        super().__init__()
        self.w_in = _uniform(nets, heads, hidden, width, fan_in=width)
        self.b_in = _uniform(nets, heads, 1, hidden, fan_in=width)
        self.w_out = _uniform(nets, heads, hidden, out, fan_in=hidden)
        self.b_out = _uniform(nets, heads, out, fan_in=hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, heads, out) from (rows, width), for a single net."""
        hidden = F.leaky_relu_(F.linear(x, self.w_in.flatten(0, 2), self.b_in.flatten()))
        hidden = hidden.unflatten(1, self.w_out.shape[1:3]).transpose(0, 1)  # (heads, rows, hidden)
        return torch.baddbmm(self.b_out.squeeze(0).unsqueeze(1), hidden, self.w_out.squeeze(0)).transpose(0, 1)

    def on_edges(self, tables: Sequence[Tensor], rows: Rows) -> tuple[Tensor, ...]:
        """FCNN^n(a || b || ...) of every edge, (E, heads, out) of each net, for a row of each of the `tables`.

        Args:
            tables: (rows, width) each. rows: the row of every edge in each of the tables, which lie one below another.
        """
        return edge_fcnn(tables, self.w_in, self.b_in, self.w_out, self.b_out, rows)


class Blocks(NamedTuple):
    """Rows of several kinds sorted into blocks of one kind each, which zeros fill up."""

    place: Tensor  # (N,) of every row among those of the blocks
    kind: Tensor  # (blocks,)

    @classmethod
    def of(cls, kind: Tensor, n_kinds: int) -> "Blocks":
        """From the kind of every row, (N,)."""
        count = torch.bincount(kind, minlength=n_kinds)
        blocks = (count + _BLOCK - 1) // _BLOCK
        start = (blocks.cumsum(0) - blocks) * _BLOCK - (count.cumsum(0) - count)  # of a kind: in blocks - in order
        order = torch.sort(kind, stable=True)
        place = torch.arange(len(kind), device=kind.device) + start.index_select(0, order.values)
        return cls(torch.empty_like(place).index_copy_(0, order.indices, place), torch.repeat_interleave(blocks))

    def filled(self, x: Tensor) -> Tensor:
        """(blocks, rows of a block, C) from (N, C)."""
        room = x.new_zeros(len(self.kind) * _BLOCK, x.shape[1])
        return room.index_copy(0, self.place, x).unflatten(0, (-1, _BLOCK))


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

    def forward(self, x: Tensor, condition: Tensor, blocks: Blocks | None = None) -> Tensor:
        """The generated network applied to `x` (N, width).

        Args:
            x: (N, width). condition: (N, width) that the network of each row is generated from; with `blocks`
                (kinds, width), that of each kind.
            blocks: rows of one kind share a network.
        """
        z = condition.expand(self.layers, *condition.shape)
        for weight, bias in zip(self.w_hidden, self.b_hidden, strict=True):
            z = torch.baddbmm(bias, z, weight).tanh_()  # (layer, rows, width)
        theta = torch.baddbmm(self.b_bias.unsqueeze(1), z, self.w_bias.mT)  # (layer, rows, width)
        if blocks is None:
            return generated_network(x, z, self.w_weight, self.b_weight, theta)
        w = torch.baddbmm(self.b_weight.flatten(1).unsqueeze(1), z, self.w_weight.flatten(1, 2).mT)
        each = torch.arange(self.layers, device=x.device).unsqueeze(1) * len(condition) + blocks.kind
        shape = *each.shape, *self.b_weight.shape[1:]
        matrix = w.flatten(0, 1).index_select(0, each.flatten()).view(shape).mT.unbind()  # (block, in, out) of a layer
        bias = theta.flatten(0, 1).index_select(0, each.flatten()).view(*each.shape, 1, -1).unbind()
        y = torch.baddbmm(bias[0], blocks.filled(x), matrix[0])  # (block, row, out)
        for b, m in zip(bias[1:], matrix[1:], strict=True):
            y = torch.baddbmm(b, F.layer_norm(y, y.shape[2:]).tanh_(), m)
        return y.flatten(0, 1).index_select(0, blocks.place)


class Composition(nn.Module):
    """ROOST: a vector of the composition from a graph of its elements (doi:10.1038/s41467-020-19964-7)."""

    hidden = 256

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
        rows = Rows.of(torch.stack([receiver, sender + len(x)], dim=1), 2 * len(x))
        for score, message, weight in zip(self.scores, self.messages, weights, strict=True):
            (s,), (m,) = (cast(MultiHeadFCNN, fcnn).on_edges((x, x), rows) for fcnn in (score, message))
            x = x + _weighted(s, m, weight.index_select(0, sender), receiver, len(x))
        return _weighted(self.pool(x), x.unsqueeze(1), last, graph, n_graphs)


def _weighted(s: Tensor, m: Tensor, weight: Tensor, receiver: Tensor, n: int) -> Tensor:
    return attention_sum(s, m, weight, receiver, n, epsilon=1e-13).squeeze(1)


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
