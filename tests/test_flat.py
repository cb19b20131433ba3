"""One vector of parameters does what an optimiser on each of them does."""

import copy

import pytest
import torch
from torch import nn

from cgatlib.flat import FlatAdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def groups(of: nn.Module) -> list[dict]:
    first, *_, last = of.children()
    return [{"params": list(first.parameters()), "lr": 0.1}, {"params": list(last.parameters()), "lr": 0.02}]


def steps(of: nn.Module, optimizer: torch.optim.Optimizer, n: int, clip: float | None = None) -> None:
    for seed in range(n):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        of(x).square().sum().backward()
        if isinstance(optimizer, FlatAdamW):
            optimizer.take_gradients(clip)
        elif clip is not None:
            nn.utils.clip_grad_norm_(of.parameters(), clip)
        optimizer.step()


def equal(a: nn.Module, b: nn.Module) -> None:
    for ours, theirs in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_it_takes_the_steps_of_adamw(clip):
    flat, plain = network(), network()
    steps(flat, FlatAdamW(groups(flat), weight_decay=0.1), 5, clip)
    steps(plain, torch.optim.AdamW(groups(plain), weight_decay=0.1), 5, clip)
    equal(flat, plain)


def test_its_state_is_that_of_adamw_and_goes_both_ways():
    flat, plain = network(), network()
    ours, theirs = FlatAdamW(groups(flat)), torch.optim.AdamW(groups(plain))
    steps(flat, ours, 2)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    plain.load_state_dict(flat.state_dict())
    again = copy.deepcopy(plain)
    back = FlatAdamW(groups(again))
    back.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for optimizer, of in ((ours, flat), (theirs, plain), (back, again)):
        steps(of, optimizer, 3)
    equal(flat, plain)
    equal(flat, again)


def test_a_parameter_without_gradient_stays():
    flat = network()
    optimizer = FlatAdamW(groups(flat), weight_decay=0.0)
    before = flat[2].weight.clone()
    flat[0](torch.ones(1, 3)).sum().backward()
    optimizer.take_gradients(None)
    optimizer.step()
    assert torch.equal(flat[2].weight, before)


def test_released_parameters_no_longer_share_memory():
    flat = network()
    optimizer = FlatAdamW(groups(flat))
    assert flat[0].weight.untyped_storage().data_ptr() == flat[0].bias.untyped_storage().data_ptr()
    optimizer.release()
    assert len({parameter.untyped_storage().data_ptr() for parameter in flat.parameters()}) == 4
