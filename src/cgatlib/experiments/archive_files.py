"""Files of an archive of runs.

``runs.json`` holds experiment (its source by key), metrics and provenance of each run, ``curves.parquet`` the learning
curves, ``targets.parquet`` every test label once, ``predictions.parquet`` the errors (prediction minus target) of every
run on its test set, ``crystals.parquet`` ids and formulas of the tables, and ``archive.json`` the hashes of the others.
Errors are kept in single precision: none changes by more than a part in 10^7, and so neither do the metrics, which
rounded predictions would not guarantee.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.experiments.experiment import Run, file_digest

FILES = ("runs.json", "curves.parquet", "targets.parquet", "predictions.parquet", "crystals.parquet")
"""Files of an archive besides ``archive.json``, which holds their hashes."""

Crystals = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""Material ids and reduced formulas of the crystals of each table, by the table's fingerprint."""

_CRYSTALS = pa.schema([("data", pa.string()), ("material_id", pa.string()), ("formula", pa.string())])
_NO_LIMIT = 1 << 30  # bytes, rows: one page per column, because pages are compressed one by one


def read_json(path: Path) -> dict[str, Any]:
    """An object; `CgatError` where the file cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CgatError(f"{path} cannot be read: {error}") from error


def read_parquet(path: Path) -> pa.Table:
    """A table; `CgatError` where the file cannot be read."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CgatError(f"{path} cannot be read: {error}") from error


def read_crystals(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """The tables of ``crystals.parquet``."""
    groups = read_parquet(path).to_pandas().groupby("data", sort=False)
    return {data: (rows["material_id"].tolist(), rows["formula"].tolist()) for data, rows in groups}


def write_files(folder: Path, runs: Sequence[Run], errors: Sequence[pd.DataFrame], crystals: Crystals) -> None:
    """Write the files of an archive.

    Args:
        folder: exists; files of an archive that it holds are replaced.
        runs: runs with equal test sets one after the other. errors: ``material_id`` and ``error`` of each run.
        crystals: of the runs' tables.
    """
    lines = [f"{json.dumps(run.experiment.key)}: {json.dumps(_record(run), sort_keys=True)}" for run in runs]
    (folder / "runs.json").write_text("{\n" + ",\n".join(sorted(lines)) + "\n}\n")
    _save(folder / "curves.parquet", [_keyed(run, run.curve) for run in runs])
    _save(folder / "targets.parquet", _targets_of(runs))
    _save(folder / "predictions.parquet", [_keyed(*pair) for pair in zip(runs, errors, strict=True)])
    rows = [pa.table({"data": [], "material_id": [], "formula": []}, schema=_CRYSTALS)]
    rows += [
        pa.table({"data": [data] * len(ids), "material_id": list(ids), "formula": list(formulas)}, schema=_CRYSTALS)
        for data, (ids, formulas) in sorted(crystals.items())
    ]
    _save(folder / "crystals.parquet", rows)
    hashes = {"files": {name: file_digest(folder / name) for name in FILES}}
    (folder / "archive.json").write_text(json.dumps(hashes, indent=1) + "\n")


def _record(run: Run) -> dict[str, Any]:
    source = run.experiment.source
    experiment = {**run.experiment.to_dict(), "source": source.key if source else None}
    return {"experiment": experiment, "metrics": run.metrics, "provenance": run.provenance}


def _keyed(run: Run, frame: pd.DataFrame) -> pa.Table:
    keys = pa.array([run.experiment.key] * len(frame), pa.string())
    return pa.Table.from_pandas(frame, preserve_index=False).add_column(0, "key", keys)


def _targets_of(runs: Sequence[Run]) -> list[pa.Table]:
    """Test labels of all runs, each once; one crystal of a table cannot have two."""
    frames = {}
    for place, group in groupby(runs, key=lambda run: (run.experiment.data, run.experiment.label)):
        rows = pd.concat([run.predictions[["material_id", "target"]] for run in group])
        frames[place] = rows.drop_duplicates().sort_values("material_id")
    for (data, label), frame in frames.items():
        twice = frame.loc[frame["material_id"].duplicated(), "material_id"].tolist()
        if twice:
            raise CgatError(f"crystal {twice[0]} of table {data} has two values of {label}: runs cannot be archived")
    return [
        pa.Table.from_pandas(frame.assign(data=data, label=label), preserve_index=False)
        for (data, label), frame in frames.items()
    ]


def _save(path: Path, tables: Sequence[pa.Table]) -> None:
    whole = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(None)
    pq.write_table(
        whole,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=["key", "data", "label"],
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in whole.column_names if name == "error"},
        data_page_size=_NO_LIMIT,
        row_group_size=_NO_LIMIT,
    )
