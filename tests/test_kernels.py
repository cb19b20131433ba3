"""The fast forms of the network's sums against the equations as written, and against numerical gradients; float64."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from cgatlib.graphs.packing import pack
from cgatlib.model import cgat, kernels
from cgatlib.model.cgat import CGAT, softmax, sum_over_edges
from cgatlib.model.config import ModelConfig
from cgatlib.model.kernels import Rows

pytestmark = pytest.mark.usefixtures("float64")

NODES, EDGES, HEADS, WIDTH = 5, 9, 2, 3
RECEIVER = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3])  # 2 and 4 receive nothing


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def positive(*shape: int) -> torch.Tensor:
    return (0.5 + torch.rand(shape, dtype=torch.float64)).requires_grad_()


def edge_arguments() -> tuple:
    """Three tables, of which the last rows belong to no edge and one row is taken three times by the first edge."""
    nets, heads, hidden, sizes, widths = 2, 5, 4, (4, 5, 4), (3, 2, 3)
    tables = [random(*shape) for shape in zip(sizes, widths, strict=True)]
    rows = Rows([torch.randint(0, size - 1, (EDGES,)) for size in sizes], sizes)
    weights = random(nets, heads, hidden, sum(widths)), random(nets, heads, 1, hidden)
    return tables, rows, *weights, random(nets, heads, hidden, WIDTH), random(nets, heads, WIDTH)


def messages() -> tuple:
    return random(EDGES, HEADS, WIDTH), random(EDGES, HEADS, WIDTH), positive(EDGES)


CASES = {
    "edge_fcnn": edge_arguments,
    "generated_network": lambda: (
        random(6, 4),
        random(3, 6, 4),
        random(3, 4, 4, 4),
        random(3, 4, 4),
        random(3, 6, 4),
    ),
}


def attention_sum(s, m, weight, receiver, n, epsilon=1e-16) -> torch.Tensor:
    return sum_over_edges(softmax(s, receiver, n, weight, epsilon) * m, receiver, n)


def value_and_gradients(function, arguments) -> list[torch.Tensor]:
    flat = [x for a in arguments for x in (a if isinstance(a, list) else [a])]
    leaves = [x for x in flat if isinstance(x, torch.Tensor) and x.requires_grad]
    out = function(*arguments)
    out = torch.stack(out) if isinstance(out, tuple) else out
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), leaves)]


@pytest.mark.parametrize("name", CASES)
def test_each_kernel_equals_its_equation(name):
    arguments = CASES[name]()
    fast, plain = (value_and_gradients(getattr(module, name), arguments) for module in (kernels, cgat))
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_each_kernels_gradient_is_the_numerical_one(name):
    if name == "edge_fcnn":
        tables, rows, *weights = edge_arguments()
        assert gradcheck(lambda *tensors: kernels.edge_fcnn(tensors[4:], rows, *tensors[:4]), (*weights, *tables))
    else:
        assert gradcheck(kernels.generated_network, CASES[name]())


@pytest.mark.parametrize("at_once", [1, 3, 10])
def test_it_does_not_matter_how_many_heads_share_the_cache(at_once, monkeypatch):
    arguments = edge_arguments()
    expected = value_and_gradients(kernels.edge_fcnn, arguments)
    monkeypatch.setattr(kernels, "_CACHE", at_once * EDGES * 4)
    for a, b in zip(value_and_gradients(kernels.edge_fcnn, arguments), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("edge_update", "condition"), [("plain", "damped"), ("attention", "difference")])
def test_the_network_is_its_equations(edge_update, condition, table, tiny_graph, monkeypatch):
    config = ModelConfig(8, 6, 2, 3, 4, "whole", (16, 8), edge_update=edge_update, condition=condition, roost_steps=2)
    network = CGAT(config)
    torch.nn.init.constant_(network.output.scales, 0.5)
    crystals = [table.crystal(i) for i in range(9)]
    batch = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], tiny_graph)[0].batch(np.arange(9))

    def gradients() -> list[torch.Tensor]:
        value = network(batch)
        return [value.detach(), *torch.autograd.grad(value.square().sum(), list(network.parameters()))]

    fast = gradients()
    for name in CASES:
        monkeypatch.setattr(kernels, name, getattr(cgat, name))
    for a, b in zip(fast, gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("channels", [1, WIDTH])  # one score for all channels, as the composition has it
@pytest.mark.parametrize("epsilon", [1e-16, 0.3])
def test_messages_are_weighted_by_a_softmax_of_their_scores(channels, epsilon):
    """Receiver by receiver, in any order of the edges."""
    s, m, weight = messages()
    s, order = s[..., :channels].detach().requires_grad_(), torch.randperm(EDGES)
    out = attention_sum(s[order], m[order], weight[order], RECEIVER[order], NODES, epsilon)
    for node in range(NODES):
        mine = node == RECEIVER
        top = s[mine].amax(0) if mine.any() else 0.0
        exp = weight[mine].view(-1, 1, 1) * torch.exp(s[mine] - top)
        torch.testing.assert_close(out[node], (exp * m[mine]).sum(0) / (exp.sum(0) + epsilon), rtol=1e-13, atol=1e-15)
    if epsilon < 1e-3:
        assert gradcheck(attention_sum, (s, m, weight, RECEIVER, NODES, epsilon))


def test_receivers_without_edges_get_zeros():
    out = attention_sum(*messages(), RECEIVER, NODES)
    assert (out[[2, 4]] == 0).all()
    assert (out[[0, 1, 3]] != 0).all()
    empty = random(0, HEADS, WIDTH)
    out = attention_sum(empty, empty, torch.zeros(0), torch.zeros(0, dtype=torch.long), NODES)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(NODES, HEADS, WIDTH))


def test_an_edge_that_counts_twice_equals_two_edges():
    s, m, _ = messages()
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
    used = torch.randint(0, parts - 1, (edges,))
    x = random(edges, WIDTH).detach()
    expected = torch.zeros(parts, WIDTH).index_add_(0, used, x)
    torch.testing.assert_close(Rows([used], [parts], in_pieces).back(x), expected)


def test_a_kernel_has_the_signature_of_its_equation():
    for name in CASES:
        assert getattr(cgat, name).__annotations__ == getattr(kernels, name).__annotations__
