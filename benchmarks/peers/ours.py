"""Our own runs in the same file: read from archives, by table and label."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.peers.results import KEY, add
from benchmarks.peers.tasks import Task
from cgatlib.runs.archive import find_runs
from cgatlib.runs.experiment import Run

_NAMES = {"none": "no transfer", "untouched": "zero-shot", "head": "head alone", "full": "full transfer"}


def add_archived(target: str, folder: Path, runs: Path, out: Path) -> None:
    """Of every split and mode of transfer the configuration with the lowest validation error, mean of its seeds.

    Args:
        folder: of the tasks. runs: archives or folders of runs on the whole training part.
    """
    task = Task.read(folder, target)
    groups: dict[tuple[str, int], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in find_runs(runs).values():
        e = run.experiment
        comparable = (e.train_size, e.split.groups, e.transfer.test_crystals) == (None, "formula", "unseen")
        if comparable and e.data == task.about["fingerprint"] and task.about["label"] in e.labels:
            groups[e.transfer.mode, e.split.seed][_alike(run)].append(run)
    for (mode, split), configurations in groups.items():
        scores = {
            name: float(np.mean([run.scores(task.about["label"])["validation_mae"] for run in seeds]))
            for name, seeds in configurations.items()
        }
        best = min(scores, key=scores.__getitem__)
        name = f"cgatlib, {_NAMES[mode]}"
        add(out, "results", _entry(name, task, split, configurations[best]), KEY)


def _alike(run: Run) -> str:
    """What runs of several seeds have in common."""
    e = run.experiment
    source = e.source and (e.source.data, e.source.labels, e.source.model, e.source.training)
    return repr((source, e.transfer, e.labels, e.model, e.training))


def _entry(method: str, task: Task, split: int, seeds: list[Run]) -> dict:
    scores = [run.scores(task.about["label"]) for run in seeds]
    first, seconds = seeds[0], float(np.mean([run.metrics["seconds"] for run in seeds]))
    source = first.experiment.source
    return {
        "method": method,
        "target": task.name,
        "fingerprint": task.about["fingerprint"],
        "split": split,
        "mae": float(np.mean([score["test_mae"] for score in scores])),
        "unit": task.about["unit"],
        **{f"n_{part}": scores[0][f"n_{part}"] for part in ("train", "validation", "test")},
        "fitting": {"wall": seconds},
        "choices": {
            "seeds": len(seeds),
            "learning_rate": first.experiment.training.learning_rate,
            "steps": first.experiment.training.steps,
            "from": ", ".join(source.labels) if source else "",
        },
        "versions": {name: first.provenance["libraries"][name] for name in ("torch", "numpy")},
        "machine": {"processor": first.provenance["machine"]["processor"]},
    }
