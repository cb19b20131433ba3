"""Fit and test a peer: what is stored is not computed again, and nothing stored is a label, an id or a formula."""

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import kernel
from benchmarks.peers.tasks import Method, Task

_SEEDS = 3  # on a single split; on several, one each


def run(method: str, target: str, folder: Path, out: Path) -> None:
    """Fit and test a method on every split and seed of a target that its file of results lacks.

    Args:
        method: name of a module beside this one. folder: of tasks. out: of results.
    """
    task, peer = Task.read(folder, target), import_module(f"benchmarks.peers.{method}")
    path = out / target / f"{method}.json"
    record, fits = _about(method, peer.METHOD, task), []
    if path.is_file() and (kept := json.loads(path.read_text()))["fingerprint"] == record["fingerprint"]:
        fits = kept["fits"]
    done = {(fit["split"], fit["seed"]) for fit in fits}
    seeds = range(_SEEDS if peer.METHOD.seeded and len(task.splits) == 1 else 1)
    missing = [(split, seed) for split in task.splits for seed in seeds if (split, seed) not in done]
    embedding, embedded = _embedded(peer, task, folder / f"{target}-{method}.npz") if missing else (None, {})
    for split, seed in missing:
        parts = task.parts(split)
        fit = getattr(peer, "fit", kernel.fit)
        fitted, seconds = timed(lambda fit=fit, parts=parts, seed=seed: fit(embedding, task, parts, seed))
        mae = float(np.abs(fitted.predictions - task.labels[parts["test"]]).mean())
        entry = {"split": split, "seed": seed, "mae": mae, **{f"n_{part}": len(rows) for part, rows in parts.items()}}
        entry |= {"trials": fitted.trials, "choices": dict(fitted.choices), "seconds": seconds, **embedded}
        entry |= {"versions": {name: version(name) for name in peer.METHOD.packages}}
        entry |= {"machine": _machine(), "date": date.today().isoformat()}
        fits = sorted([*fits, entry], key=lambda one: (one["split"], one["seed"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**record, "fits": fits}, indent=1, ensure_ascii=False) + "\n")
        print(f"{method}, {target}, split {split}, seed {seed}: {mae:.4f} {task.about['unit']}", flush=True)


def timed(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The value of an action, and its seconds: of one core, and on the wall, which on a busy machine is more."""
    core, wall = sum(os.times()[:4]), time.perf_counter()  # with processes that it starts and ends
    value = action()
    return value, {"core": round(sum(os.times()[:4]) - core, 2), "wall": round(time.perf_counter() - wall, 2)}


def _about(method: str, about: Method, task: Task) -> dict[str, Any]:
    described = {name: value for name, value in asdict(about).items() if name not in ("packages", "seeded")}
    pins = Path("benchmarks/peers") / f"requirements-{method}.txt"
    pins = pins if (Path(__file__).parent / pins.name).is_file() else Path("requirements.lock")
    return {"method": method, **described, "pins": str(pins), "target": task.name, **task.about}


def _embedded(peer: Any, task: Task, kept: Path) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The embedding of every crystal, (n, d), made once, and what it took; none where the method has none."""
    if not hasattr(peer, "embed"):
        return None, {}
    if not kept.is_file():
        embedding, seconds = timed(lambda: peer.embed(task.structures))
        with kept.with_suffix(".part").open("wb") as file:
            np.savez(file, embedding=embedding, **seconds)
        kept.with_suffix(".part").replace(kept)
    with np.load(kept) as file:
        embedding, seconds = file["embedding"], {name: float(file[name]) for name in ("core", "wall")}
    refused = int(np.isnan(embedding).all(axis=1).sum())
    return embedding, {"embedding": {**seconds, "crystals": len(embedding), "refused": refused}}


def _machine() -> dict[str, Any]:
    """Processor and Python, without the machine's name."""
    lines = []
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": models[0] if models else platform.machine(), "threads": 1, "python": platform.python_version()}
