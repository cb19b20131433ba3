"""Where training runs: devices and their processes, and what is kept on a device."""

import ctypes
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment

from cgatlib import CgatError
from cgatlib.graphs.packing import PackedGraphs
from cgatlib.graphs.resident import ResidentGraphs
from cgatlib.processes import end_with

T = TypeVar("T")
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # names of the settings in glibc's malloc.h


def fabric_of(accelerator: str, devices: int, precision: str) -> Fabric:
    """Devices of this machine, one process each.

    Args:
        accelerator: ``cpu``, ``cuda`` or ``mps``; on ``cpu`` the devices are processes.
        devices: how many. precision: ``32-true`` or ``bf16-mixed``, as Lightning Fabric names them.

    Raises:
        CgatError: this machine does not have them.
    """
    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",  # a library call cannot start the program again
            precision=precision,  # type: ignore[arg-type]
            plugins=[LightningEnvironment()],  # inside a queueing system too the processes are started here
        )
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CgatError(f"cannot train on {devices} device(s) of type {accelerator!r}: {reason}") from error


def in_every_process(fabric: Fabric, function: Callable[[Fabric], T]) -> T:
    """Call ``function(fabric)`` in every process of `fabric`; with one device in this one.

    Args:
        function: with several devices it is sent to new processes by pickling. It raises a `CgatError` in all of them
            or in none.

    Returns:
        What it returned in the first process: no tensors, as the process is gone.

    Raises:
        CgatError: the one that the function raised.
    """
    before = os.environ.get("MASTER_PORT")
    try:
        outcome = fabric.launch(partial(_caught, function, os.getpid()))
    finally:
        if before is None:
            os.environ.pop("MASTER_PORT", None)  # the next launch looks for a free port of its own
    if isinstance(outcome, CgatError):
        raise outcome
    return outcome


def _caught(function: Callable[[Fabric], T], parent: int, fabric: Fabric) -> T | CgatError:
    """The result or the refusal, so that the refusal too arrives in the parent process as it was raised."""
    if os.getpid() != parent:
        end_with(parent)
    try:
        return function(fabric)
    except CgatError as error:
        return error


def kept_on(device: torch.device, graphs: PackedGraphs) -> PackedGraphs | ResidentGraphs:
    """The graphs in the memory of a GPU if they take no more than half of what is free there.

    Otherwise as they are: batches are made on the host and sent, each when its turn comes.
    """
    if device.type != "cuda":
        return graphs
    free, _ = torch.cuda.mem_get_info(device)
    return ResidentGraphs.of(graphs, device) if 2 * (graphs.nodes.nbytes + graphs.edges.nbytes) <= free else graphs


def keep_freed_memory() -> None:
    """Let this process take again what it has freed, as every training step does with megabytes at a time.

    glibc gives such memory back to the system, which fills it with zeros when it is asked for again: a fifth of the
    time of a step of a small network. Other systems' libraries keep more by themselves; nothing is done there.
    """
    if os.name != "posix":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, 2**25)  # bytes; the largest that every version takes
        library.mallopt(_TRIM_THRESHOLD, 2**29)
