"""Results of the baselines, and the two files they are stored in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from cgatlib import CgatError
from cgatlib.baselines.models import BASELINES, Task
from cgatlib.experiments.experiment import score
from cgatlib.experiments.provenance import provenance
from cgatlib.files import file_digest


@dataclass(frozen=True, eq=False)
class Baseline:
    """Result of a baseline.

    Attributes:
        name, needs: as in `BASELINES`. functional, label, data, train_size, seed, split: of the experiment.
        n_train, n_validation, n_test: crystals used; fewer than the experiment's where the source label is needed.
        choices: what the validation part chose.
        predictions: test crystals: ``material_id``, ``target``, ``prediction``, in the label's unit.
    """

    name: str
    needs: str
    functional: str
    label: str
    data: str
    train_size: int | None
    seed: int
    split: Mapping[str, Any]
    n_train: int
    n_validation: int
    n_test: int
    choices: Mapping[str, float | str]
    predictions: pd.DataFrame

    @property
    def mae(self) -> float:
        """MAE on the test crystals, in the label's unit."""
        return score(self.predictions)["test_mae"]


def baseline(name: str, task: Task) -> Baseline:
    """Fit one of `BASELINES` and predict the task's test part, or what of it has a source label where that is needed.

    Raises:
        CgatError: the name is unknown, or source labels are needed and a part has none.
    """
    if name not in BASELINES:
        raise CgatError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}")
    model, e = BASELINES[name], task.experiment
    if model.needs_source:
        task = task.paired()
    fitted, test = model.fit(task), task.parts.test
    return Baseline(
        name=name,
        needs=model.needs,
        functional=e.functional,
        label=e.label,
        data=e.data,
        train_size=e.train_size,
        seed=e.seed,
        split=asdict(e.split),
        **{f"n_{part}": len(rows) for part, rows in vars(task.parts).items()},
        choices=dict(fitted.choices),
        predictions=pd.DataFrame(
            {"material_id": task.ids[test], "target": task.labels[test], "prediction": fitted.predictions}
        ),
    )


def all_baselines(task: Task) -> list[Baseline]:
    """Every baseline that applies: those that need source labels where the task has them."""
    return [baseline(name, task) for name, m in BASELINES.items() if task.source is not None or not m.needs_source]


def write_baselines(folder: Path, baselines: Iterable[Baseline]) -> None:
    """Write ``baselines.json`` (everything but the predictions, provenance) and ``baselines.parquet`` (predictions)."""
    folder, baselines = Path(folder), list(baselines)
    folder.mkdir(parents=True, exist_ok=True)
    names = [item.name for item in fields(Baseline) if item.name != "predictions"]
    frames = [b.predictions.assign(entry=entry) for entry, b in enumerate(baselines)]
    table = folder / "baselines.parquet"
    pd.concat(frames, ignore_index=True).to_parquet(table, index=False, compression="zstd")
    record = {
        "baselines": [{**{name: getattr(b, name) for name in names}, "mae": b.mae} for b in baselines],
        "provenance": {**provenance(), "files": {table.name: file_digest(table)}},
    }
    (folder / "baselines.json").write_text(json.dumps(record, indent=1))


def read_baselines(folder: Path) -> list[Baseline]:
    """Read what `write_baselines` wrote.

    Raises:
        CgatError: a file is missing, or the predictions are not those that were written.
    """
    folder = Path(folder)
    table = folder / "baselines.parquet"
    try:
        record = json.loads((folder / "baselines.json").read_text())
        digest = file_digest(table)
    except (OSError, json.JSONDecodeError) as error:
        raise CgatError(f"{folder} holds no baselines: {error}") from error
    if digest != record["provenance"]["files"][table.name]:
        raise CgatError(f"{table} was changed after it was written")
    parts = dict(iter(pd.read_parquet(table).groupby("entry")))
    found = []
    for entry, values in enumerate(record["baselines"]):
        del values["mae"]  # follows from the predictions
        predictions = parts[entry].drop(columns="entry").reset_index(drop=True)
        found.append(Baseline(**values, predictions=predictions))
    return found
