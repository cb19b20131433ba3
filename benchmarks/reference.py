"""The released form of the network, written plainly: what speed and memory are measured against.

It computes what the released code (github.com/hyllios/CGAT) computes and in the way it does: both ends of an edge and
its feature are concatenated, the result is replicated for every head and enters grouped 1x1 convolutions; attention
over edges is computed and not used; a network generates the weights of another for every atom; every edge carries its
own copy of the feature. It shares no layer with `cgatlib`; its graphs are those of `reference_graphs`. Layers have the
names of the released code where Python does not make that awkward.

Symbols: G graphs, N atoms, E edges, C atom width, D edge width.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.utils import scatter, softmax

from benchmarks.reference_graphs import ReleasedBatch
from cgatlib import CgatError
from cgatlib.model.config import ModelConfig, element_vectors


class HeadNetworks(nn.Module):
    """One network with one hidden layer per head, as grouped 1x1 convolutions on the replicated input."""

    def __init__(self, width: int, hidden: int, out: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fc_in = nn.Conv1d(heads * width, heads * hidden, 1, groups=heads)
        self.fc_out = nn.Conv1d(heads * hidden, heads * out, 1, groups=heads)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, heads, out) from (rows, width)."""
        replicated = x.repeat(1, self.heads).unsqueeze(2)
        out = self.fc_out(F.leaky_relu(self.fc_in(replicated), 0.01))
        return out.view(len(x), self.heads, -1)


class GeneratedNetwork(nn.Module):
    """Four layers whose weights are generated, and held in memory, for every atom."""

    layers = 4

    def __init__(self, width: int, damped: bool) -> None:
        super().__init__()
        self.width = width
        self.generators = nn.ModuleList()
        for _ in range(self.layers):
            hidden = [layer for _ in range(4) for layer in (nn.Linear(width, width), nn.Tanh())]
            self.generators.append(nn.Sequential(*hidden, nn.Linear(width, width * width + width)))
        self.damping = nn.Parameter(torch.rand(1)) if damped else None

    def forward(self, aggregate: Tensor, initial: Tensor) -> Tensor:
        """(N, C) from the aggregate and h_0, both (N, C)."""
        condition = initial
        if self.damping is not None:
            self.damping.data.clamp_(0, 1)
            condition = self.damping * initial + (1 - self.damping) * aggregate
        x, width = aggregate, self.width
        for layer, generator in enumerate(self.generators):
            weight, bias = generator(condition).split([width * width, width], dim=1)
            x = torch.bmm(weight.view(-1, width, width), x.unsqueeze(2)).squeeze(2) + bias
            if layer < self.layers - 1:
                x = torch.tanh(F.layer_norm(x, (width,)))
        return x


class NodeLayer(nn.Module):
    """The update of the atoms: attention over the edges that arrive."""

    def __init__(self, config: ModelConfig, step: int) -> None:
        super().__init__()
        width = 2 * config.atom_width + config.edge_width
        self.MH_A = HeadNetworks(width, config.hidden, config.atom_width, config.heads)
        self.MH_M = HeadNetworks(width, config.hidden, config.atom_width, config.heads)
        self.Pooling_NN = GeneratedNetwork(config.atom_width, damped=step > 0)

    def forward(self, x: Tensor, e: Tensor, batch: ReleasedBatch, initial: Tensor) -> Tensor:
        """Change of x (N, C) from x and e (E, D)."""
        edge = torch.cat([x[batch.neighbour], e, x[batch.centre]], dim=1)
        weight = softmax(self.MH_A(edge), batch.neighbour, num_nodes=len(x))
        aggregate = scatter(weight * self.MH_M(edge), batch.neighbour, dim=0, dim_size=len(x), reduce="sum")
        return self.Pooling_NN(aggregate.mean(1), initial)


class EdgeLayer(nn.Module):
    """The update of the edge features: attention over the heads is computed, a plain network is what acts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = 2 * config.atom_width + config.edge_width
        self.MH_A = HeadNetworks(width, config.hidden, config.edge_width, config.heads)
        self.MH_M = HeadNetworks(width, config.hidden, config.edge_width, config.heads)
        self.Pooling_NN = _two_layers(config.edge_width, config.edge_width, config.edge_width)

    def forward(self, x: Tensor, e: Tensor, batch: ReleasedBatch) -> Tensor:
        """Change of e (E, D) from x (N, C) and e."""
        edge = torch.cat([x[batch.centre], e, x[batch.neighbour]], dim=1)
        score = torch.exp(self.MH_A(edge))
        _unused = (score / score.sum(1, keepdim=True) * self.MH_M(edge)).mean(1)
        return self.Pooling_NN(e)


def _gated_sum(gate: Tensor, message: Tensor, weight: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum of messages (rows, C) per index, with shares weight * exp(gate)."""
    top = scatter(gate, index, dim=0, dim_size=n, reduce="max")
    share = weight.unsqueeze(1) * torch.exp(gate - top[index])
    share = share / (scatter(share, index, dim=0, dim_size=n, reduce="sum")[index] + 1e-13)
    return scatter(share * message, index, dim=0, dim_size=n, reduce="sum")


def _two_layers(width: int, hidden: int, out: int) -> nn.Sequential:
    fcs = nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(0.01))
    return nn.Sequential(OrderedDict(fcs=fcs, fc_out=nn.Linear(hidden, out)))


class CompositionNetwork(nn.Module):
    """ROOST on the distinct elements of every crystal."""

    def __init__(self, n_features: int, width: int, steps: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(n_features, width - 1)
        self.gates = nn.ModuleList(_two_layers(2 * width, 256, 1) for _ in range(steps))
        self.messages = nn.ModuleList(_two_layers(2 * width, 256, width) for _ in range(steps))
        self.pool = _two_layers(width, 256, 1)
        self.powers = nn.Parameter(torch.randn(steps + 1))

    def forward(self, elements: Tensor, batch: ReleasedBatch) -> Tensor:
        """(G, C) from the vectors of all elements."""
        weight = batch.fraction.to(elements.dtype)
        x = torch.cat([self.embedding(elements[batch.element - 1]), weight.unsqueeze(1)], dim=1)
        own, other = batch.pairs
        for gate, message, power in zip(self.gates, self.messages, self.powers[:-1], strict=True):
            pair = torch.cat([x[own], x[other]], dim=1)
            x = x + _gated_sum(gate(pair), message(pair), weight[other] ** power, own, len(x))
        return _gated_sum(self.pool(x), x, weight ** self.powers[-1], batch.element_graph, batch.n_graphs)


class ResidualOutput(nn.Module):
    """Residual blocks with a learnt scale each, then (value, log standard deviation)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.res_fcs = nn.ModuleList(nn.Identity() if a == b else nn.Linear(a, b, bias=False) for a, b in pairs)
        self.rezeros = nn.Parameter(torch.zeros(len(pairs)))
        self.fc_out = nn.Linear(widths[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """(G, 2)."""
        for scale, linear, skip in zip(self.rezeros, self.fcs, self.res_fcs, strict=True):
            x = scale * F.relu(linear(x)) + skip(x)
        return self.fc_out(x)


class Reference(nn.Module):
    """The released network: a batch of graphs to normalised (value, log standard deviation).

    Raises:
        CgatError: the configuration is not one of the released form.
    """

    elements: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if (config.edge_update, config.condition, config.pooling) != ("plain", "damped", "concatenate"):
            raise CgatError(
                "the reference implementation has the released form: edge_update plain, condition damped, heads "
                "concatenated"
            )
        width, heads = config.atom_width, config.heads
        vectors = element_vectors(config.elements).to(torch.get_default_dtype())
        self.register_buffer("elements", vectors, persistent=False)
        self.embedding = nn.Linear(vectors.shape[1], width, bias=False)
        self.nbr_embedding = nn.Embedding(config.neighbours + 1, config.edge_width)
        layers = [{"Node": NodeLayer(config, step), "Edge": EdgeLayer(config)} for step in range(config.steps)]
        self.graphs = nn.ModuleList(nn.ModuleDict(layer) for layer in layers)
        self.roost = CompositionNetwork(vectors.shape[1], width, config.roost_steps)
        ends = {"MH_A": HeadNetworks(2 * width, width, width, heads), "MH_M": HeadNetworks(width, width, width, heads)}
        self.cry_pool = nn.ModuleDict(ends)
        self.output_nn = ResidualOutput((heads * width, *config.output_widths))

    def embed(self, batch: ReleasedBatch) -> Tensor:
        """Crystal embedding (G, heads * C)."""
        x = initial = self.embedding(self.elements[batch.numbers - 1])
        e = self.nbr_embedding(batch.rank)
        for layer in self.graphs:
            change, edge_change = layer["Node"](x, e, batch, initial), layer["Edge"](x, e, batch)
            x, e = x + change, e + edge_change
        composition = self.roost(self.elements, batch)
        score = self.cry_pool["MH_A"](torch.cat([x, composition[batch.graph]], dim=1))
        message = softmax(score, batch.graph, num_nodes=batch.n_graphs) * self.cry_pool["MH_M"](x)
        return scatter(message, batch.graph, dim=0, dim_size=batch.n_graphs, reduce="sum").flatten(1)

    def forward(self, batch: ReleasedBatch) -> Tensor:
        """(G, 2)."""
        return self.output_nn(self.embed(batch))
