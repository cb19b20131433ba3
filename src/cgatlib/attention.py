"""The three sums that dominate the cost of the network, each with a backward pass written out.

Written by hand because automatic differentiation would keep every edge's hidden layer (hundreds of megabytes at the
paper's sizes); here the backward pass recomputes what is cheap and keeps what is small.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

_SLOPE = 0.01  # of the leaky ReLU, as in the released code


def segment_sum(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum of the rows of `values` (..., E, C) that share an `index` (E,), as (..., n, C)."""
    return values.new_zeros(*values.shape[:-2], n, values.shape[-1]).index_add_(-2, index, values)


class _AttentionSum(Function):
    """sum_j w_j exp(s_j) m_j / sum_j w_j exp(s_j) over the edges j of each receiver."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, m: Tensor, weight: Tensor, receiver: Tensor, n: int, epsilon: float) -> Tensor:
        index = receiver.view(-1, 1).expand(s.shape[-2:]).expand_as(s)
        top = s.new_full((*s.shape[:-2], n, s.shape[-1]), -torch.inf).scatter_reduce_(-2, index, s, "amax")
        a = torch.exp(s - top.index_select(-2, receiver)).mul_(weight.unsqueeze(-1))
        total = segment_sum(a, receiver, n).add_(epsilon)
        a = a / total.index_select(-2, receiver)
        out = segment_sum(a * m, receiver, n)
        ctx.save_for_backward(a, m, weight, receiver, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, m, weight, receiver, out = ctx.saved_tensors
        gradient = grads[0].index_select(-2, receiver)
        to_m = a * gradient
        to_s = to_m * (m - out.index_select(-2, receiver))
        to_weight = None
        if ctx.needs_input_grad[2]:
            to_weight = (to_s.sum(-1) / weight).sum_to_size(weight.shape)
        return to_s, to_m, to_weight, None, None, None


def attention_sum(s: Tensor, m: Tensor, weight: Tensor, receiver: Tensor, n: int, epsilon: float = 1e-16) -> Tensor:
    """Attention-weighted sum of messages, equation 1b and the sums of 1d.

    Args:
        s: (heads, E, C) scores. m: (heads, E, C) messages.
        weight: (E,) how many times each edge counts. receiver: (E,) node that the edge arrives at.
        n: number of receivers N; one without edges gets zeros.
        epsilon: added to the normalising sum, as the released code does.

    Returns:
        (heads, N, C).
    """
    return _AttentionSum.apply(s, m, weight, receiver, n, epsilon)


class _EdgeFCNN(Function):
    @staticmethod
    def forward(ctx: Any, parts: Tensor, rows: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
        ctx.save_for_backward(parts, rows, w_out)
        hidden = F.leaky_relu_(_gather_sum(parts, rows), _SLOPE)  # (E, heads * h)
        heads, h, _ = w_out.shape
        return torch.baddbmm(b_out.unsqueeze(1), hidden.view(-1, heads, h).transpose(0, 1), w_out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts, rows, w_out = ctx.saved_tensors
        gradient = grads[0]  # (heads, E, C)
        heads, h, _ = w_out.shape
        hidden = _gather_sum(parts, rows)  # recomputed: cheaper than keeping it
        slope = torch.where(hidden > 0, 1.0, _SLOPE).to(hidden.dtype)
        hidden = (hidden * slope).view(-1, heads, h).transpose(0, 1)
        to_w = hidden.transpose(1, 2) @ gradient
        to_hidden = (gradient @ w_out.transpose(1, 2)).transpose(0, 1).reshape(-1, heads * h) * slope
        to_parts = torch.zeros_like(parts)
        for column in range(rows.shape[1]):
            to_parts.index_add_(0, rows[:, column], to_hidden)
        return to_parts, None, to_w, gradient.sum(1)


def _gather_sum(parts: Tensor, rows: Tensor) -> Tensor:
    """(E, width): for each edge the sum of the rows of `parts` (P, width) that `rows` (E, 3) names."""
    return F.embedding_bag(rows, parts, mode="sum")


def edge_fcnn(parts: Tensor, rows: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """One-hidden-layer network on every edge for all heads, with its first layer already applied to the ends.

    Args:
        parts: (P, heads * h) first-layer outputs of receivers, senders and edge features, stacked.
        rows: (E, 3) the rows of `parts` whose sum is an edge's hidden layer before its leaky ReLU.
        w_out: (heads, h, C). b_out: (heads, C).

    Returns:
        (heads, E, C).
    """
    return _EdgeFCNN.apply(parts, rows, w_out, b_out)


class _Bilinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, z, weight)
        return _outer(x, z) @ weight.flatten(1).t()

    @staticmethod
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
    """W(z) x with W(z)[o, i] = sum_k weight[o, i, k] z[k], without forming W for every node.

    Args:
        x: (N, in). z: (N, condition). weight: (out, in, condition).

    Returns:
        (N, out).
    """
    return _Bilinear.apply(x, z, weight)
