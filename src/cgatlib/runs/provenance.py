"""Where a result comes from: the code's version, the libraries' versions and the machine.

Only the standard library is imported here, so that every module can record its provenance cheaply; torch is
asked for the device only when it is called for.
"""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cgatlib import __version__
from cgatlib.files import PACKAGE, source_digest

LIBRARIES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "torch",
    "torch_geometric",
    "lightning",
    "pymatgen",
    "matplotlib",
)
"""Packages whose version can change a number or a figure."""


def _git(*arguments: str) -> str | None:
    """Output of a git command run beside the sources; None when they are not in a git checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def code_version() -> dict[str, Any]:
    """Version of this package as far as it can be known.

    Returns:
        ``version`` (of the package), ``sources`` (`source_digest`), ``commit`` (short hash, None outside a
        git checkout) and ``dirty`` (tracked or new files differ from that commit; None outside a checkout).
    """
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


def _processor() -> str:
    """Model name of the processor: Linux hides it from `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """The machine without its name: system, processor, number of usable cores and compute device."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {"system": platform.system(), "processor": _processor(), "cores": cores, "device": device}


def provenance() -> dict[str, Any]:
    """Everything above in one dictionary that can be written as json.

    Returns:
        ``code`` (`code_version`), ``python``, ``libraries`` (`library_versions`), ``machine`` (`machine`).
    """
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "libraries": library_versions(),
        "machine": machine(),
    }
