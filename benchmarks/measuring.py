"""Clocks and counters: seconds, arithmetic, the machine's peak, memory of a fresh process."""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cgatlib.model.config import ModelConfig

SIZES = {
    "paper": ModelConfig(),
    "released": ModelConfig(edge_width=128, heads=5),
    "small": ModelConfig(32, 32, 2, 2, neighbours=12),
}
"""Networks that are timed, all of the released form."""
BATCH = {"paper": 32, "released": 32, "small": 64}
"""Crystals per step."""


def train_step(network: nn.Module, inputs: Any) -> None:
    """Forward, a loss that reaches the value of every crystal, backward."""
    network.zero_grad(set_to_none=True)
    network(inputs)[:, 0].abs().mean().backward()


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(actions: Mapping[str, Callable[[int], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every action in every repeat, (name, repeats); within a repeat the actions take turns.

    Each action is given the number of the repeat, so that all of them can work on the same data.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats):
        for name, action in actions.items():
            times[name].append(seconds(lambda action=action, repeat=repeat: action(repeat)))
    return times


def paired_ratio(slow: list[float], fast: list[float]) -> float:
    """Median over the repeats of how many times longer `slow` took."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def _grouped_backward(grad: Any, x: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    """FLOP of a 1x1 convolution's backward; PyTorch's own formula does not divide by the number of groups."""
    mask = args[7]  # (bias, stride, padding, dilation, transposed, output padding, groups, mask)
    return 2 * grad[0] * prod(grad[2:]) * prod(weight) * (bool(mask[0]) + bool(mask[1]))


def step_flop(network: nn.Module, inputs: Any) -> int:
    """Floating-point operations of the matrix products of one training step, recomputation included."""
    mapping = {torch.ops.aten.convolution_backward: _grouped_backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        train_step(network, inputs)
    return counter.get_total_flops()


def product_peak(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, repeats: int = 5) -> float:
    """FLOP/s of the fastest of some large matrix products, with the present number of threads."""
    device = torch.device(device)
    n, inner = (2048, 1) if device.type == "cpu" else (8192, 10)
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    out = a @ b

    def products() -> None:
        for _ in range(inner):
            torch.mm(a, b, out=out)
        synchronise(device)

    products()
    return 2 * n**3 * inner / min(seconds(products) for _ in range(repeats))


def synchronise(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory() -> int:
    """Largest resident memory of this process so far, bytes; what `getrusage` says starts at the size of the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of ``function(*arguments)`` in a new interpreter."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference of two tensors."""
    return float((a - b).abs().max())
