"""Where a result comes from: the code's version, the libraries' versions and the machine.

Only the standard library is imported at the top, so that every module can record its provenance cheaply.
"""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cgatlib import __version__
from cgatlib.files import PACKAGE, source_digest

LIBRARIES = ("numpy", "scipy", "pandas", "pyarrow", "torch", "torch_geometric", "lightning", "pymatgen", "matplotlib")
"""Packages whose version can change a number or a figure."""


def _git(*arguments: str) -> str | None:
    """Output of a git command run beside the sources; None when they are not in a git checkout."""
    command = ["git", "-C", str(PACKAGE), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def code_version() -> dict[str, Any]:
    """``version`` of this package, its ``sources`` (`source_digest`), ``commit`` (short hash) and ``dirty`` (files
    differ from that commit); the last two are None outside a git checkout."""
    tracked = _git("ls-files", "--error-unmatch", __file__)  # an installed copy may lie inside some other checkout
    commit = _git("rev-parse", "--short=12", "HEAD") if tracked else None
    status = _git("status", "--porcelain", ":/") if commit else None
    dirty = None if status is None else bool(status)
    return {"version": __version__, "sources": source_digest(), "commit": commit, "dirty": dirty}


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Versions of the installed packages among `names`, those that are absent left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine without its name: system, processor, number of usable cores and compute device."""
    import torch

    described = Path("/proc/cpuinfo")  # Linux hides the processor's name from `platform`
    lines = described.read_text().splitlines() if described.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {"system": platform.system(), "processor": processor, "cores": cores, "device": device}


def provenance() -> dict[str, Any]:
    """All of the above, as json can have it."""
    python = platform.python_version()
    return {"code": code_version(), "python": python, "libraries": library_versions(), "machine": machine()}
