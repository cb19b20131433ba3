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
        nets, heads, _, width = w_out.shape
        out = parts.new_empty(nets, len(rows.parts), heads, width)
        for net in range(nets):
            for head in range(heads):
                hidden = _hidden(parts[net, head], rows)
                torch.addmm(b_out[net, head], hidden, w_out[net, head], out=out[net, :, head])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts, w_out = ctx.saved_tensors
        gradient, rows = grads[0], ctx.rows
        to_parts, to_w = torch.empty_like(parts), torch.empty_like(w_out)
        for net in range(w_out.shape[0]):
            for head in range(w_out.shape[1]):
                hidden = _hidden(parts[net, head], rows)
                from_above = gradient[net, :, head]
                torch.mm(hidden.t(), from_above, out=to_w[net, head])
                to_hidden = from_above @ w_out[net, head].t()
                to_hidden = torch.ops.aten.leaky_relu_backward(to_hidden, hidden, _SLOPE, True)
                to_parts[net, head] = F.embedding_bag(rows.edges, to_hidden, rows.start, mode="sum")
        return to_parts, to_w, gradient.sum(1), None


def _hidden(parts: Tensor, rows: Rows) -> Tensor:
    """Hidden layer (E, h) of one head from its parts (P, h)."""
    return F.leaky_relu_(F.embedding_bag(rows.parts, parts, mode="sum"), _SLOPE)


def edge_fcnn(parts: Tensor, w_out: Tensor, b_out: Tensor, rows: Rows) -> Tensor:
    """One-hidden-layer networks on every edge, all heads, with the first layer already applied to the edge's parts.

    Args:
        parts: (nets, heads, P, h) first-layer outputs of receivers, edge features and senders, stacked.
        w_out: (nets, heads, h, C). b_out: (nets, heads, C). rows: which parts an edge adds up.

    Returns:
        (nets, E, heads, C).
    """
    return _EdgeFCNN.apply(parts, w_out.to(parts.dtype), b_out.to(parts.dtype), rows)


class _Bilinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, z, weight)
        return _outer(x, z) @ weight.flatten(1).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, z, weight = ctx.saved_tensors
        gradient = grads[0]
        to_pair = (gradient @ weight.flatten(1)).view(-1, x.shape[1], z.shape[1])  # (N, in, condition)
        to_x = torch.bmm(to_pair, z.unsqueeze(2)).squeeze(2)
        to_z = torch.bmm(x.unsqueeze(1), to_pair).squeeze(1)
        return to_x, to_z, (gradient.t() @ _outer(x, z)).view_as(weight)


def _outer(x: Tensor, z: Tensor) -> Tensor:
    return (x.unsqueeze(2) * z.unsqueeze(1)).flatten(1)


def bilinear(x: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """W(z) x with W(z)[o, i] = sum_k weight[o, i, k] z[k], without keeping W for every node.

    Args:
        x: (N, in). z: (N, condition). weight: (out, in, condition).

    Returns:
        (N, out).
    """
    return _Bilinear.apply(x.to(z.dtype), z, weight.to(z.dtype))
