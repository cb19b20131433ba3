"""The file of results: what is known is not computed again, and nothing in it is a label, an id or a formula."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import kernel
from benchmarks.peers.tasks import Task

Results = dict[str, list[dict[str, Any]]]
_CHUNK = 256  # crystals, embedded and kept together


def read(path: Path) -> Results:
    """``results`` and ``unavailable``; empty where there is no file yet."""
    return json.loads(path.read_text()) if path.is_file() else {"results": [], "unavailable": []}


def add(path: Path, kind: str, entry: dict[str, Any], same: Sequence[str]) -> None:
    """Put an entry into the file; it replaces the one that agrees with it in the fields `same`."""
    content = read(path)
    others = [old for old in content[kind] if any(old[name] != entry[name] for name in same)]
    content[kind] = sorted([*others, entry], key=lambda one: [str(one[name]) for name in same])
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


KEY = ("method", "target", "split")


@dataclass
class Clock:
    """Seconds of a piece of work: of one core, and on the wall, which on a busy machine is more."""

    core: float = 0.0
    wall: float = 0.0

    def run(self, action: Callable[[], Any]) -> Any:
        """The value of `action`, whose seconds are added."""
        core, wall = sum(os.times()[:4]), time.perf_counter()  # with processes that it starts and ends
        value = action()
        self.core += sum(os.times()[:4]) - core
        self.wall += time.perf_counter() - wall
        return value


def run(method: str, target: str, folder: Path, out: Path, splits: int) -> None:
    """Fit and test a method on the first splits of a target, those apart that are in the file.

    Args:
        method: name of a module beside this one. folder: of tasks.
    """
    task, peer = Task.read(folder, target), import_module(f"benchmarks.peers.{method}")
    now = {"method": method, "target": target, "fingerprint": task.about["fingerprint"]}
    done = [old["split"] for old in read(out)["results"] if now.items() <= old.items()]
    missing = [split for split in task.splits[:splits] if split not in done]
    if not missing:
        return
    embedding, embedded = _embedded(peer, task, folder / f"{target}-{method}") if hasattr(peer, "embed") else (None, {})
    for split in missing:
        parts, fitted = task.parts(split), Clock()
        found = fitted.run(lambda parts=parts: getattr(peer, "fit", kernel.fit)(embedding, task, parts))
        entry = {
            **now,
            "split": split,
            "mae": float(np.abs(found.predictions - task.labels[parts["test"]]).mean()),
            "unit": task.about["unit"],
            **{f"n_{part}": len(rows) for part, rows in parts.items()},
            **embedded,
            "fitting": vars(fitted),
            "choices": dict(found.choices),
            "versions": {name: version(name) for name in peer.PACKAGES},
            "machine": machine(),
        }
        add(out, "results", entry, KEY)
        print(f"{method}, {target}, split {split}: {entry['mae']:.4f} {entry['unit']}", flush=True)


def _embedded(peer: Any, task: Task, kept: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The embedding of every crystal, (n, d), chunk by chunk as far as it is not kept, and what it took."""
    kept.mkdir(exist_ok=True)
    arrays, seconds = [], Clock()
    size = getattr(peer, "CHUNK", _CHUNK)
    for start in range(0, len(task.structures), size):
        path = kept / f"{start}.npz"
        if not path.is_file():
            clock = Clock()
            rows = task.structures[start : start + size]
            values = clock.run(lambda rows=rows: peer.embed(rows))
            with path.with_suffix(".part").open("wb") as file:
                np.savez(file, values=values, seconds=[clock.core, clock.wall])
            path.with_suffix(".part").replace(path)
        with np.load(path) as chunk:
            arrays.append(chunk["values"])
            seconds.core, seconds.wall = seconds.core + chunk["seconds"][0], seconds.wall + chunk["seconds"][1]
    embedding = np.vstack(arrays)
    refused = int(np.isnan(embedding).all(axis=1).sum())
    return embedding, {"embedding": {**vars(seconds), "crystals": len(embedding), "refused": refused}}


def machine() -> dict[str, Any]:
    """Processor and Python, without the machine's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": models[0] if models else platform.machine(), "threads": 1, "python": platform.python_version()}
