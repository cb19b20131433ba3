"""The three hand-differentiated sums against plain formulas and numerical gradients, in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from cgatlib.model import kernels
from cgatlib.model.kernels import Rows, attention_sum, edge_fcnn, generated_network

pytestmark = pytest.mark.usefixtures("float64")

HEADS, EDGES, WIDTH, NODES = 2, 9, 3, 5
RECEIVER = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3])  # 2 and 4 receive nothing


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape).requires_grad_()


def positive(*shape: int) -> torch.Tensor:
    return (torch.rand(shape) + 0.5).requires_grad_()


def plain_attention(s, m, weight, receiver, n, epsilon=1e-16):
    """The same sum over the receivers one by one, with autograd's own gradient."""
    rows = []
    for i in range(n):
        mine = receiver == i
        top = s[mine].amax(0).detach() if mine.any() else 0.0
        a = weight[mine].view(-1, 1, 1) * torch.exp(s[mine] - top)
        rows.append((a * m[mine]).sum(0) / (a.sum(0) + epsilon))
    return torch.stack(rows)


def plain_edge_fcnn(tables, w_in, b_in, w_out, b_out, rows):
    first = w_in.flatten(0, 2).split([table.shape[1] for table in tables], dim=1)
    parts = [table @ weight.T for table, weight in zip(tables, first, strict=True)]
    used = torch.cat([parts[0] + b_in.flatten(), *parts[1:]])[rows.parts.view(len(rows.first), -1)]
    hidden = torch.nn.functional.leaky_relu(used.sum(1)).unflatten(1, w_out.shape[:3])  # (E, nets, heads, h)
    return torch.einsum("enhg,nhgc->nehc", hidden, w_out) + b_out.unsqueeze(1)


def compare(ours, theirs, *arguments):
    """Values and all gradients of two functions of the same tensors."""
    leaves = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    results = []
    for function in (ours, theirs):
        out = function(*arguments)
        direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        results.append([out.detach(), *torch.autograd.grad((out * direction).sum(), leaves)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("epsilon", [1e-16, 0.3])
def test_attention_sum_equals_the_plain_formula(epsilon):
    arguments = (random(EDGES, HEADS, WIDTH), random(EDGES, HEADS, WIDTH), positive(EDGES))
    compare(attention_sum, plain_attention, *arguments, RECEIVER, NODES, epsilon)


def test_attention_sum_does_not_need_ordered_receivers():
    arguments = (random(EDGES, HEADS, WIDTH), random(EDGES, HEADS, WIDTH), positive(EDGES))
    compare(attention_sum, plain_attention, *arguments, RECEIVER[torch.randperm(EDGES)], NODES)


def test_attention_sum_gradients():
    arguments = (random(EDGES, HEADS, WIDTH), random(EDGES, HEADS, WIDTH), positive(EDGES))
    assert gradcheck(attention_sum, (*arguments, RECEIVER, NODES))


def test_one_score_for_all_channels():
    """As the composition branch has it."""
    s, m, weight = random(EDGES, HEADS, 1), random(EDGES, HEADS, WIDTH), positive(EDGES)
    compare(attention_sum, plain_attention, s, m, weight, RECEIVER, NODES, 1e-13)
    assert gradcheck(attention_sum, (s, m, weight, RECEIVER, NODES, 1e-13))


def test_receivers_without_edges_get_zeros():
    out = attention_sum(random(EDGES, HEADS, WIDTH), random(EDGES, HEADS, WIDTH), positive(EDGES), RECEIVER, NODES)
    assert (out[[2, 4]] == 0).all()
    assert (out[[0, 1, 3]] != 0).all()


def test_no_edges_at_all_give_zeros():
    empty = torch.zeros(0, HEADS, WIDTH, requires_grad=True)
    out = attention_sum(empty, empty, torch.zeros(0), torch.zeros(0, dtype=torch.long), NODES)
    out.sum().backward()
    assert out.shape == (NODES, HEADS, WIDTH)
    assert (out == 0).all()


def test_weights_of_one_receiver_add_up_to_one():
    ones = torch.ones(EDGES, HEADS, WIDTH)
    out = attention_sum(random(EDGES, HEADS, WIDTH), ones, positive(EDGES), RECEIVER, NODES)
    torch.testing.assert_close(out[[0, 1, 3]], torch.ones(3, HEADS, WIDTH))


def test_an_edge_that_counts_twice_equals_two_edges():
    s, m = random(EDGES, HEADS, WIDTH), random(EDGES, HEADS, WIDTH)
    count = torch.tensor([1.0, 3, 1, 2, 1, 1, 1, 4, 1])
    repeat = torch.repeat_interleave(torch.arange(EDGES), count.long())
    once = attention_sum(s, m, count, RECEIVER, NODES)
    often = attention_sum(s[repeat], m[repeat], torch.ones(len(repeat)), RECEIVER[repeat], NODES)
    torch.testing.assert_close(once, often, rtol=1e-13, atol=1e-14)


def test_large_scores_do_not_overflow():
    s = torch.tensor([1000.0, 999.0, -1000.0]).view(3, 1, 1).requires_grad_()
    m = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    out = attention_sum(s, m, torch.ones(3), torch.zeros(3, dtype=torch.long), 1)
    out.sum().backward()
    share = 1 / (1 + torch.tensor(1.0).exp())
    torch.testing.assert_close(out.squeeze(), 1 + share)
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize(("edges", "parts"), [(0, 3), (1, 4), (500, 3), (64, 40), (1000, 5)])
def test_sums_over_the_edges_of_a_part_however_many(edges, parts, in_pieces):
    """A part without edges, one of more edges than are added up at a time, and one that ends with a piece."""
    used = torch.randint(0, parts - 1, (edges, 3))
    x = random(edges, WIDTH).detach()
    expected = torch.zeros(parts, WIDTH).index_add_(0, used.flatten(), x.repeat_interleave(3, 0))
    torch.testing.assert_close(Rows.of(used, parts, in_pieces).back(x), expected)


@pytest.mark.parametrize("at_once", [1, 3, 5, 10])
def test_edge_fcnn_equals_the_plain_formula_and_its_gradient(at_once, monkeypatch):
    """However many heads share the cache."""
    nets, heads, hidden, sizes, widths = 2, 5, 4, (4, 5, 2), (3, 2, 3)
    monkeypatch.setattr(kernels, "_CACHE", at_once * EDGES * hidden)
    w_in, b_in = random(nets, heads, hidden, sum(widths)), random(nets, heads, 1, hidden)
    tables = [random(*shape) for shape in zip(sizes, widths, strict=True)]
    arguments = w_in, b_in, random(nets, heads, hidden, WIDTH), random(nets, heads, WIDTH), *tables
    used = torch.randint(0, sum(sizes) - 2, (EDGES, 3))  # the last parts belong to no edge
    used[0] = 5  # one part three times
    rows = Rows.of(used, sum(sizes))
    compare(
        lambda *tensors: torch.stack(edge_fcnn(tensors[4:], *tensors[:4], rows)),
        lambda *tensors: plain_edge_fcnn(tensors[4:], *tensors[:4], rows),
        *arguments,
    )
    assert gradcheck(lambda *tensors: edge_fcnn(tensors[4:], *tensors[:4], rows), arguments)


def plain_generated(x, z, w, v, b):
    for layer in range(len(w)):
        if layer:
            x = torch.tanh(torch.nn.functional.layer_norm(x, x.shape[-1:]))
        x = torch.einsum("oik,ni,nk->no", w[layer], x, z[layer]) + x @ v[layer].T + b[layer]
    return x


def test_generated_network_equals_the_plain_formula_and_its_gradient():
    layers, rows, width = 3, 6, 4
    v, b = random(layers, width, width), random(layers, rows, width)
    arguments = random(rows, width), random(layers, rows, width), random(layers, width, width, width), v, b
    compare(generated_network, plain_generated, *arguments)
    assert gradcheck(generated_network, arguments)
