"""Files of an archive of runs.

``runs.json`` holds experiment (its source by key), metrics and provenance of each run, ``curves.parquet`` the learning
curves, ``errors.parquet`` what is kept of every run's test crystals (`cgatlib.experiments.tested`), and
``archive.json`` the hashes of the others. No id, formula or label of a crystal is among them. Errors are kept in single
precision: none changes by more than a part in 10^7, and so neither do the metrics.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.experiments.experiment import Run
from cgatlib.experiments.tested import COLUMNS
from cgatlib.files import file_digest

FILES = ("runs.json", "curves.parquet", "errors.parquet")
"""Files of an archive besides ``archive.json``, which holds their hashes."""

TOLERANCE = 1e-6
"""How far a stored mean may lie from that of the stored errors, relative: ten times what single precision does."""

_NO_LIMIT = 1 << 30  # bytes, rows: one page per column, because pages are compressed one by one


def read_json(path: Path) -> dict[str, Any]:
    """An object; `CgatError` where the file cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CgatError(f"{path} cannot be read: {error}") from error


def read_parquet(path: Path) -> pa.Table:
    """A table; `CgatError` where the file cannot be read."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CgatError(f"{path} cannot be read: {error}") from error


def write_files(folder: Path, runs: Sequence[Run]) -> None:
    """Write the files of an archive.

    Args:
        folder: exists; files of an archive that it holds are replaced.
        runs: runs with equal test sets one after the other.
    """
    lines = [f"{json.dumps(run.experiment.key)}: {json.dumps(_record(run), sort_keys=True)}" for run in runs]
    (folder / "runs.json").write_text("{\n" + ",\n".join(sorted(lines)) + "\n}\n")
    write_table(folder / "curves.parquet", [_keyed(run, run.curve) for run in runs])
    write_table(folder / "errors.parquet", [_keyed(run, kept(run.errors)) for run in runs])
    hashes = {"files": {name: file_digest(folder / name) for name in FILES}}
    (folder / "archive.json").write_text(json.dumps(hashes, indent=1) + "\n")


def kept(errors: pd.DataFrame) -> pd.DataFrame:
    """A table of errors with every column it can have, as it is stored."""
    return errors.reindex(columns=list(COLUMNS)).astype(
        {"error": np.float32, "non_metal": "boolean", "level": "Int32", "seen": "string"}
    )


def of_rows(rows: pa.Table) -> pd.DataFrame:
    """The inverse of `kept`: a table of errors with the columns that it has."""
    frame = rows.select(list(COLUMNS)).to_pandas()
    types = {"non_metal": np.bool_, "level": np.int32, "seen": "string"}
    known = {name: kind for name, kind in types.items() if frame[name].notna().any()}
    return frame.drop(columns=types.keys() - known.keys()).astype(known)


def _record(run: Run) -> dict[str, Any]:
    source = run.experiment.source
    experiment = {**run.experiment.to_dict(), "source": source.key if source else None}
    return {"experiment": experiment, "metrics": run.metrics, "provenance": run.provenance}


def _keyed(run: Run, frame: pd.DataFrame) -> pa.Table:
    keys = pa.array([run.experiment.key] * len(frame), pa.string())
    return pa.Table.from_pandas(frame, preserve_index=False).add_column(0, "key", keys)


def write_table(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write tables one below the other, as small as parquet can."""
    whole = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(None)
    pq.write_table(
        whole,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=["key", "seen", "entry"],
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in whole.column_names if name == "error"},
        data_page_size=_NO_LIMIT,
        max_rows_per_page=_NO_LIMIT,
        row_group_size=_NO_LIMIT,
    )
