"""The fast forms of two functions of `cgatlib.model.cgat`, of the same names: equal in value and in gradient.

Their backward passes are written by hand, because automatic differentiation would keep every edge's hidden layer
(hundreds of megabytes at the paper's sizes). Here the backward pass recomputes what is cheap, some heads at a time so
that their hidden layers stay in the processor's cache, and keeps only what is small.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SLOPE = 0.01  # of the leaky ReLU, as in the released code
_LAYER_NORM = 1e-5  # added to the variance, PyTorch's default
_PIECE = 64  # edges that are added up one after the other
_CACHE = 2**19  # numbers of hidden layers worked on at a time: 2 MB in single precision


@dataclass(frozen=True)
class Rows:
    """Which row of each of K tables an edge takes; the P rows of all of them, one table below another, are the parts.

    Args:
        index: (E,) of each table. sizes: rows of each table.
        in_pieces: add up the edges of a part in two stages, since a shell rank is a part of thousands of edges, which a
            GPU would add up one after the other; by default on a GPU.
    """

    index: Sequence[Tensor]
    sizes: Sequence[int]
    in_pieces: bool | None = None

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor]:
        """Parts of each edge, edge by edge, (K E,), and where those of each edge begin, (E,)."""
        below = itertools.accumulate(self.sizes[:-1], initial=0)
        parts = torch.stack([row + start for row, start in zip(self.index, below, strict=True)], dim=1)
        return parts.flatten(), torch.arange(0, parts.numel(), parts.shape[1], device=parts.device)

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor]:
        """Edges of each part, part by part, (K E,), and where those of each part begin, (P,)."""
        order = torch.sort(self._parts[0], stable=True)
        start = torch.searchsorted(order.values, torch.arange(sum(self.sizes), device=order.values.device))
        return order.indices // len(self.index), start

    @cached_property
    def _pieces(self) -> tuple[Tensor, Tensor]:
        """Where no more than _PIECE edges of one part begin; those of each part."""
        edges, start = self._edges
        begin = torch.cat([start, torch.arange(0, len(edges), _PIECE, device=start.device)]).sort().values
        return begin, torch.searchsorted(begin, start)

    def sums(self, x: Tensor) -> Tensor:
        """Sums of the parts of every edge, (E, h), from x (P, h)."""
        return _bags(x, *self._parts)

    def back(self, x: Tensor) -> Tensor:
        """Sums over the edges of every part, (P, h), from x (E, h)."""
        edges, start = self._edges
        if not (x.device.type != "cpu" if self.in_pieces is None else self.in_pieces):
            return _bags(x, edges, start)
        begin, of_part = self._pieces
        return _bags(_bags(x, edges, begin), torch.arange(len(begin), device=x.device), of_part)


def _bags(x: Tensor, rows: Tensor, start: Tensor) -> Tensor:
    """Sums of the `rows` of x from each `start` to the next; as `F.embedding_bag`, whose checks cost as much again."""
    return torch.embedding_bag(x, rows, start)[0]


class _EdgeFCNN(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Rows, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor, *tables: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.rows = rows
        nets, heads, hidden, width = w_out.shape
        parts = w_in.new_empty(sum(map(len, tables)), nets * heads * hidden)
        for part, table, w in _by_table(parts, tables, w_in):
            torch.mm(table, w.t(), out=part)
        parts[: len(tables[0])] += b_in.flatten()
        parts = parts.unflatten(1, (-1, hidden))
        ctx.save_for_backward(parts, w_in, w_out, *tables)
        outs = tuple(parts.new_empty(len(rows.index[0]), heads, width) for _ in range(nets))
        weights, biases, out = w_out.flatten(0, 1).unbind(), b_out.flatten(0, 1).unbind(), _by_head(outs)
        for some in _in_turn(parts, rows):
            each = _hidden(parts[:, some], rows).unbind(1)
            for x, w, b, y in zip(each, weights[some], biases[some], out[some], strict=True):
                torch.addmm(b, x, w, out=y)
        return outs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts, w_in, w_out, *tables = ctx.saved_tensors
        to_some, to_w = [], torch.empty_like(w_out)
        weights, to_weights, gradients = w_out.mT.flatten(0, 1).unbind(), to_w.flatten(0, 1).unbind(), _by_head(grads)
        for some in _in_turn(parts, ctx.rows):
            hidden = _hidden(parts[:, some], ctx.rows)
            to_hidden = torch.empty_like(hidden)
            each = zip(hidden.unbind(1), to_hidden.unbind(1), gradients[some], strict=True)
            for (x, to_x, gradient), w, to_weight in zip(each, weights[some], to_weights[some], strict=True):
                torch.mm(x.t(), gradient, out=to_weight)
                torch.mm(gradient, w, out=to_x)
            torch.ops.aten.leaky_relu_backward(to_hidden, hidden, _SLOPE, True, grad_input=to_hidden)
            to_some.append(ctx.rows.back(to_hidden.flatten(1)))
            del hidden, to_hidden, each, x, to_x  # the next ones take their memory, which is still in the cache
        to_parts = to_some[0] if len(to_some) == 1 else torch.cat(to_some, dim=1)
        to_w_in, to_tables = torch.empty_like(w_in), []
        for (part, table, w), (_, _, to_weight) in zip(
            _by_table(to_parts, tables, w_in), _by_table(to_parts, tables, to_w_in), strict=True
        ):
            torch.mm(part.t(), table, out=to_weight)
            to_tables.append(part @ w)
        to_b_in = to_parts[: len(tables[0])].sum(0).view(*w_in.shape[:2], 1, -1)
        return None, to_w_in, to_b_in, to_w, torch.stack([gradient.sum(0) for gradient in grads]), *to_tables


def _by_table(parts: Tensor, tables: Sequence[Tensor], w_in: Tensor) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    """The parts (rows, nets * heads * h) that come from each table, the table, and the weights that act on it."""
    weights = w_in.flatten(0, 2).split([table.shape[1] for table in tables], dim=1)
    return zip(parts.split([len(table) for table in tables]), tables, weights, strict=True)


def _by_head(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """(E, C) of every head of every net, from (E, heads, C) of every net."""
    return [head for tensor in tensors for head in tensor.unbind(1)]


def _in_turn(parts: Tensor, rows: Rows) -> list[slice]:
    """Heads (of all nets) whose hidden layers fit together into the processor's cache, or one head at a time."""
    _, heads, hidden = parts.shape
    size = max(1, _CACHE // max(1, hidden * len(rows.index[0])))
    return [slice(first, first + size) for first in range(0, heads, size)]


def _hidden(parts: Tensor, rows: Rows) -> Tensor:
    """Hidden layer (E, heads, h) of some heads from its parts (P, heads, h)."""
    return F.leaky_relu_(rows.sums(parts.flatten(1)), _SLOPE).unflatten(1, parts.shape[1:])


def edge_fcnn(
    tables: Sequence[Tensor], rows: Rows, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor
) -> tuple[Tensor, ...]:
    """FCNN^n of every edge; its first layer, being linear, acts once on each row of a table, and an edge adds up."""
    device, dtype = w_in.device.type, tables[0].dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:  # as autocast itself
        dtype = torch.get_autocast_dtype(device)
    weights = (tensor.to(dtype) for tensor in (w_in, b_in, w_out, b_out, *tables))
    return _EdgeFCNN.apply(rows, *weights)


class _Generated(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, w: Tensor, v: Tensor, b: Tensor) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        inputs, norms, pairs = [x], [], _room(x, z)
        for layer in range(len(w) - 1):
            y = _layer(x, z[layer], w[layer], v[layer], b[layer], pairs).to(exact)
            norm, *statistics = torch.native_layer_norm(y, y.shape[-1:], None, None, _LAYER_NORM)
            x = norm.tanh_().to(z.dtype)
            inputs.append(x)
            norms += [y, *statistics]
        ctx.save_for_backward(z, w, v, *inputs, *norms)
        return _layer(x, z[-1], w[-1], v[-1], b[-1], pairs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        z, w, v, *saved = ctx.saved_tensors
        inputs, norms = saved[: len(w)], saved[len(w) :]
        gradient, to_z, to_w, to_v, to_b = grads[0], *map(torch.empty_like, (z, w, v, z))
        pairs = _room(inputs[0], z)
        for layer in reversed(range(len(w))):
            if layer < len(w) - 1:
                y, *statistics = norms[3 * layer : 3 * layer + 3]
                gradient = torch.ops.aten.tanh_backward(gradient.to(y.dtype), inputs[layer + 1].to(y.dtype))
                gradient, *_ = torch.ops.aten.native_layer_norm_backward(
                    gradient, y, y.shape[-1:], *statistics, None, None, [True, False, False]
                )
                gradient = gradient.to(z.dtype)
            x, condition = inputs[layer], z[layer]
            torch.mm(gradient.t(), _outer(x, condition, pairs), out=to_w[layer].flatten(1))
            torch.mm(gradient.t(), x, out=to_v[layer])
            to_b[layer] = gradient
            torch.mm(gradient, w[layer].flatten(1), out=pairs.flatten(1))  # now the gradient of the products
            torch.bmm(x.unsqueeze(1), pairs, out=to_z[layer].unsqueeze(1))
            gradient = torch.bmm(condition.unsqueeze(1), pairs.mT).squeeze(1).add_(gradient @ v[layer])
        return gradient, to_z, to_w, to_v, to_b


def _layer(x: Tensor, z: Tensor, w: Tensor, v: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
    """W(z) x + V x + b without keeping W(z) for every row."""
    return torch.addmm(torch.addmm(b, x, v.t()), _outer(x, z, pairs), w.flatten(1).t())


def _room(x: Tensor, z: Tensor) -> Tensor:
    """Memory (N, in, condition) that all layers use in turn: taking new memory costs more than the products."""
    return x.new_empty(*x.shape, z.shape[2])


def _outer(x: Tensor, z: Tensor, pairs: Tensor) -> Tensor:
    """All products of an entry of x and one of z, (N, in * condition), written into `pairs`."""
    return torch.mul(x.unsqueeze(2), z.unsqueeze(1), out=pairs).flatten(1)


def generated_network(x: Tensor, z: Tensor, w: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Layers with weights of its own for every row, contracted with the row instead of being written out."""
    return _Generated.apply(x.to(z.dtype), z, w.to(z.dtype), v.to(z.dtype), b.to(z.dtype))
