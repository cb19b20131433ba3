"""Results of the baselines, and the two files they are stored in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cgatlib import CgatError
from cgatlib.baselines.models import BASELINES, Task
from cgatlib.files import file_digest, replacing
from cgatlib.runs.archive import TOLERANCE, kept, of_rows, read_json, read_parquet, write_table
from cgatlib.runs.experiment import score
from cgatlib.runs.provenance import provenance
from cgatlib.runs.tested import errors_of


@dataclass(frozen=True, eq=False)
class Baseline:
    """Result of a baseline.

    Attributes:
        name, needs: as in `BASELINES`. functional, label, data, train_size, seed, split: of the experiment.
        n_train, n_validation, n_test: crystals used; fewer than the experiment's where the source label is needed.
        choices: what the validation part chose. mae: on the test crystals, in the label's unit.
        errors: of the test crystals, as `cgatlib.runs.tested` describes them; none where `Model.learns` is not.
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
    mae: float
    errors: pd.DataFrame


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
    columns = {"material_id": task.ids, "formula": task.formulas, "target": task.labels}
    tested = pd.DataFrame({name: values[test] for name, values in columns.items()} | {"prediction": fitted.predictions})
    errors = errors_of(tested, e.label)
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
        mae=score(errors["error"])["test_mae"],
        errors=errors if model.learns else errors[:0],
    )


def all_baselines(task: Task) -> list[Baseline]:
    """Every baseline that applies: those that need source labels where the task has them."""
    return [baseline(name, task) for name, m in BASELINES.items() if task.source is not None or not m.needs_source]


def write_baselines(folder: Path, baselines: Iterable[Baseline]) -> None:
    """Write ``baselines.json`` (everything but the errors, provenance) and ``baselines.parquet`` (errors)."""
    folder, baselines = Path(folder), list(baselines)
    names = [item.name for item in fields(Baseline) if item.name != "errors"]
    frames = [kept(b.errors).assign(entry=np.int32(entry)) for entry, b in enumerate(baselines)]
    table = folder / "baselines.parquet"
    with replacing(table, "a table of baselines", lambda path: (folder / "baselines.json").is_file()) as part:
        write_table(part, [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames])
    record = {
        "baselines": [{name: getattr(b, name) for name in names} for b in baselines],
        "provenance": {**provenance(), "files": {table.name: file_digest(table)}},
    }
    with replacing(
        folder / "baselines.json", "a list of baselines", lambda path: "baselines" in read_json(path)
    ) as part:
        part.write_text(json.dumps(record, indent=1))


def read_baselines(folder: Path) -> list[Baseline]:
    """Read what `write_baselines` wrote.

    Raises:
        CgatError: a file is missing, or the errors are not those that were written.
    """
    folder = Path(folder)
    record, table = read_json(folder / "baselines.json"), read_parquet(folder / "baselines.parquet")
    if file_digest(folder / "baselines.parquet") != record["provenance"]["files"]["baselines.parquet"]:
        raise CgatError(f"{folder / 'baselines.parquet'} was changed after it was written")
    entries = table["entry"].to_numpy()
    return [
        Baseline(**values, errors=of_rows(table.filter(pa.array(entries == entry))))
        for entry, values in enumerate(record["baselines"])
    ]


def baseline_problems(folder: Path) -> list[str]:
    """What is wrong with the baselines of a folder: changed files, or a MAE that does not follow from the errors."""
    if not (folder / "baselines.json").exists():
        return []
    try:
        found = read_baselines(folder)
    except CgatError as error:
        return [str(error)]
    return [
        f"baseline {number} ({b.name}): the MAE is {b.mae}, but the errors give {value}"
        for number, b in enumerate(found)
        if len(b.errors)
        and not np.isclose(value := score(b.errors["error"])["test_mae"], b.mae, rtol=TOLERANCE, atol=0)
    ]
