"""The three sums that dominate the cost of the network, each with a backward pass written out.

Written by hand because automatic differentiation would keep every edge's hidden layer (hundreds of megabytes at the
paper's sizes). Here the backward pass recomputes what is cheap, one head at a time so that a head's hidden layer stays
in the processor's cache, and keeps only what is small.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SLOPE = 0.01  # of the leaky ReLU, as in the released code
_CACHE = 2**19  # numbers of hidden layers worked on at a time: 2 MB in single precision


class _AttentionSum(Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, m: Tensor, weight: Tensor, receiver: Tensor, n: int, epsilon: float) -> Tensor:
        shape = (n, *s.shape[1:])
        index = receiver.view(-1, 1, 1).expand_as(s)
        top = s.new_full(shape, -torch.inf).scatter_reduce_(0, index, s, "amax")
        a = torch.exp(s - top.index_select(0, receiver)).mul_(weight.view(-1, 1, 1))
        total = s.new_full(shape, epsilon).index_add_(0, receiver, a)
        out = s.new_zeros(shape).index_add_(0, receiver, a * m).div_(total)
        ctx.save_for_backward(a, m, weight, receiver, total, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, m, weight, receiver, total, out = ctx.saved_tensors
        to_m = (grads[0] / total).index_select(0, receiver).mul_(a)
        to_s = (m - out.index_select(0, receiver)).mul_(to_m)
        to_weight = to_s.sum((1, 2)) / weight if ctx.needs_input_grad[2] else None
        return to_s, to_m, to_weight, None, None, None


def attention_sum(s: Tensor, m: Tensor, weight: Tensor, receiver: Tensor, n: int, epsilon: float = 1e-16) -> Tensor:
    """Attention-weighted sum of messages, equation 1b and the sum over j of 1d.

    sum_j w_j exp(s_j) m_j / (sum_j w_j exp(s_j) + epsilon) over the edges j of each receiver.

    Args:
        s: (E, heads, C) scores. m: (E, heads, C) messages.
        weight: (E,) how many times each edge counts. receiver: (E,) node that the edge arrives at.
        n: number of receivers N; one without edges gets zeros.
        epsilon: next to the largest term of the sum, which is 1, as in the released code.

    Returns:
        (N, heads, C).
    """
    exact = torch.promote_types(s.dtype, torch.float32)  # sums over edges do not survive half precision
    return _AttentionSum.apply(s.contiguous().to(exact), m.to(exact), weight, receiver, n, epsilon)


class Rows(NamedTuple):
    """For every edge, three rows of a matrix of P parts; and the same read backwards."""

    parts: Tensor  # (E, 3) rows whose sum is the edge's hidden layer
    edges: Tensor  # (3 E,) edges in the order of the parts they use
    start: Tensor  # (P,) where the edges of each part begin

    @classmethod
    def of(cls, parts: Tensor, n_parts: int) -> "Rows":
        """From the rows of each edge, (E, 3)."""
        order = torch.sort(parts.flatten(), stable=True)
        start = torch.searchsorted(order.values, torch.arange(n_parts, device=parts.device))
        return cls(parts, order.indices // 3, start)


class _EdgeFCNN(Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, w_out: Tensor, b_out: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        ctx.save_for_backward(parts, w_out)
        out = parts.new_empty(len(rows.parts), len(w_out), w_out.shape[2])
        for some in _in_turn(w_out, rows):
            hidden = _hidden(parts[:, some], rows).transpose(0, 1)
            torch.baddbmm(b_out[some].unsqueeze(1), hidden, w_out[some], out=out[:, some].transpose(0, 1))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts, w_out = ctx.saved_tensors
        gradient, rows = grads[0], ctx.rows
        to_parts, to_w = torch.empty_like(parts), torch.empty_like(w_out)
        for some in _in_turn(w_out, rows):
            hidden, from_above = _hidden(parts[:, some], rows), gradient[:, some].transpose(0, 1)
            torch.bmm(hidden.permute(1, 2, 0), from_above, out=to_w[some])
            to_hidden = torch.empty_like(hidden)
            torch.bmm(from_above, w_out[some].mT, out=to_hidden.transpose(0, 1))
            torch.ops.aten.leaky_relu_backward(to_hidden, hidden, _SLOPE, True, grad_input=to_hidden)
            to_some = F.embedding_bag(rows.edges, to_hidden.flatten(1), rows.start, mode="sum")
            to_parts[:, some] = to_some.view_as(parts[:, some])
        return to_parts, to_w, gradient.sum(0), None


def _in_turn(w_out: Tensor, rows: Rows) -> list[slice]:
    """Heads whose hidden layers fit together into the processor's cache, or one at a time."""
    heads, hidden, _ = w_out.shape
    size = max(1, _CACHE // max(1, hidden * len(rows.parts)))
    return [slice(first, first + size) for first in range(0, heads, size)]


def _hidden(parts: Tensor, rows: Rows) -> Tensor:
    """Hidden layer (E, heads, h) of some heads from its parts (P, heads, h)."""
    hidden = F.embedding_bag(rows.parts, parts.flatten(1), mode="sum")
    return F.leaky_relu_(hidden, _SLOPE).view(-1, *parts.shape[1:])


def edge_fcnn(parts: Tensor, w_out: Tensor, b_out: Tensor, rows: Rows) -> Tensor:
    """One-hidden-layer networks on every edge, all heads, with the first layer already applied to the edge's parts.

    Args:
        parts: (P, heads, h) first-layer outputs of receivers, edge features and senders, stacked.
        w_out: (heads, h, C). b_out: (heads, C). rows: which parts an edge adds up.

    Returns:
        (E, heads, C).
    """
    return _EdgeFCNN.apply(parts, w_out.to(parts.dtype), b_out.to(parts.dtype), rows)


class _Bilinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, weight: Tensor, start: Tensor) -> Tensor:
        ctx.save_for_backward(x, z, weight)
        return torch.addmm(start, _outer(x, z), weight.flatten(1).t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, z, weight = ctx.saved_tensors
        gradient = grads[0]
        to_pair = (gradient @ weight.flatten(1)).view(-1, x.shape[1], z.shape[1])  # (N, in, condition)
        to_x = torch.bmm(to_pair, z.unsqueeze(2)).squeeze(2)
        to_z = torch.bmm(x.unsqueeze(1), to_pair).squeeze(1)
        return to_x, to_z, (gradient.t() @ _outer(x, z)).view_as(weight), gradient


def _outer(x: Tensor, z: Tensor) -> Tensor:
    return (x.unsqueeze(2) * z.unsqueeze(1)).flatten(1)


def bilinear(x: Tensor, z: Tensor, weight: Tensor, start: Tensor) -> Tensor:
    """start + W(z) x with W(z)[o, i] = sum_k weight[o, i, k] z[k], without keeping W for every node.

    Args:
        x: (N, in). z: (N, condition). weight: (out, in, condition). start: (N, out).

    Returns:
        (N, out).
    """
    return _Bilinear.apply(x.to(z.dtype), z, weight.to(z.dtype), start.to(z.dtype))
