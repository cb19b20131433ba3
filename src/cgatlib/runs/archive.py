"""Archives: the results of many runs in four files, small enough to be kept beside the code.

What is not a result stays behind: ids, formulas and labels of the tables, and the networks, but for those that other
runs start from, where they are wanted (``weights/KEY``).
"""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.files import file_digest, replacing
from cgatlib.runs.experiment import NETWORK, Experiment, Run, changed_files, read_json, unlike
from cgatlib.runs.tested import COLUMNS

FILES = ("runs.json", "curves.parquet", "errors.parquet")
"""Files of an archive besides ``archive.json``, which holds their hashes."""

TOLERANCE = 1e-6
"""How far a stored mean may lie from that of the stored errors, relative: ten times what single precision does."""

_NO_LIMIT = 1 << 30  # bytes, rows: one page per column, because pages are compressed one by one


@dataclass(frozen=True)
class RunArchive(Mapping[str, Run]):
    """Runs by key, read from the folder `path` when they are asked for.

    Keys are those that the experiments have today, whatever they were called when they were archived.
    """

    path: Path

    def __post_init__(self) -> None:
        if not (self.path / "archive.json").is_file():
            raise CgatError(f"{self.path} is not an archive of runs: it has no archive.json")

    def __reduce__(self) -> Any:
        return type(self), (self.path,)  # a process reads again what another has in memory

    def __getitem__(self, key: str) -> "ArchivedRun":
        return self._runs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @classmethod
    def write(cls, folder: Path, runs: Iterable[Run], networks: Collection[str] = ()) -> "RunArchive":
        """Archive `runs`; runs of an archive that is already there stay, those with the same key are replaced.

        The same runs give the same bytes, in whatever order and in however many steps they come.

        Args:
            folder: of the archive; other files in it stay. runs: finished runs.
            networks: keys of those whose weights and card are kept, besides those that the archive keeps already.

        Raises:
            CgatError: a run is damaged, starts from one that is not archived, or has no weights to keep.
        """
        folder = Path(folder)
        before = cls(folder) if (folder / "archive.json").is_file() else None
        known: dict[str, Run] = dict(before or {})
        kept = {*networks, *(key for key, run in known.items() if run.network is not None)}
        merged = known | {run.experiment.key: run for run in runs}
        if not merged:
            raise CgatError(f"there is no run to archive in {folder}")
        for key, run in merged.items():
            if problems := run.problems():
                raise CgatError(f"run {key} cannot be archived: {problems[0]}")
            source = run.experiment.source
            if source is not None and source.key not in merged:
                raise CgatError(f"run {key} cannot be archived without run {source.key}, which it starts from")
            if key in kept and run.network is None:
                raise CgatError(f"run {key} has no weights that could be archived")
        with replacing(folder, "an archive of runs", _may_be_replaced) as part:
            part.mkdir()
            for path in folder.iterdir() if folder.exists() else ():
                if path.name not in (*FILES, "archive.json", "weights"):
                    shutil.copy2(path, part)
            _write(part, merged, kept)
        return cls(folder)

    @cached_property
    def _runs(self) -> dict[str, "ArchivedRun"]:
        """By the key of today; `CgatError` where a run that another starts from is missing."""
        records = read_json(self.path / "runs.json")

        @cache
        def experiment(name: str) -> Experiment:
            values = records[name]["experiment"]
            source = values["source"]
            if source is not None and source not in records:
                raise CgatError(f"{self.path} lacks run {source}, from which run {name} starts")
            return Experiment.from_dict({**values, "source": source and experiment(source).to_dict()})

        runs = {name: ArchivedRun(self.path, self, name) for name in records}
        for name, run in runs.items():
            vars(run).update(records[name] | {"experiment": experiment(name)})
        return {run.experiment.key: run for run in runs.values()}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves of all runs, with the column ``key``."""
        return read_parquet(self.path / "curves.parquet").to_pandas()

    @cached_property
    def _errors(self) -> tuple[pa.Table, dict[str, int], dict[str, int]]:
        """The errors of all runs; by run the first of its rows, which lie together; by run their number."""
        table = read_parquet(self.path / "errors.parquet")
        keys = table["key"].to_pandas()
        return table, dict(zip(keys[::-1], keys.index[::-1], strict=True)), keys.value_counts().to_dict()

    def errors(self, name: str) -> pd.DataFrame:
        """`Run.errors` of the run that was archived as `name`; `CgatError` where they are missing."""
        table, first, count = self._errors
        if name not in first:
            raise CgatError(f"{self.path} holds no errors of run {name}")
        return of_rows(table.slice(first[name], count[name]))

    def problems(self) -> list[str]:
        """What is wrong with the archive: changed files, or else whatever its runs report."""
        digests = read_json(self.path / "archive.json")["files"]
        if found := changed_files(self.path, digests, "it was archived"):
            return found
        try:
            return [f"run {key}: {problem}" for key, run in self.items() for problem in run.problems()]
        except CgatError as error:
            return [str(error)]


def _may_be_replaced(folder: Path) -> bool:
    """An archive, baselines that go with one, or an empty folder."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return not there or bool(there & {"archive.json", "baselines.json"})


def find_runs(*folders: Path) -> dict[str, Run]:
    """Finished runs by key: of folders of runs, of archives, or of folders of archives.

    Of a run in several places, the first that has its weights counts, else the first; folders of runs come before
    archives, and a run that `Runs` has set aside comes last.

    Raises:
        CgatError: there is no such folder.
    """
    runs = [run for folder in folders for run in run_folders(folder)]
    runs += [run for folder in folders for archive in find_archives(folder) for run in archive.values()]
    found: dict[str, Run] = {}
    for run in runs:
        known = found.setdefault(run.experiment.key, run)
        if known is not run and known.network is None and run.network is not None:
            found[run.experiment.key] = run
    return found


def find_archives(folder: Path) -> list[RunArchive]:
    """The archive that `folder` is, or the archives in it by name; `CgatError` where there is no such folder."""
    return [RunArchive(path.parent) for path in _children(folder, "archive.json", "[!.]*/archive.json")]


def run_folders(folder: Path) -> list[Run]:
    """Every run that has a folder in `folder`, by name of the folder; `CgatError` where there is no such folder.

    A run that `Runs` has set aside has a longer name than the other of its key, and comes after it.
    """
    return [Run(path.parent) for path in _children(folder, "[!.]*/provenance.json")]


def _children(folder: Path, *patterns: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise CgatError(f"{folder} is not a folder of runs")
    return [path for pattern in patterns for path in sorted(Path(folder).glob(pattern))]


def read_parquet(path: Path) -> pa.Table:
    """A table; `CgatError` where the file cannot be read."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CgatError(f"{path} cannot be read: {error}") from error


def _write(folder: Path, merged: Mapping[str, Run], networks: Collection[str]) -> None:
    """Write the files of an archive: of all runs, and of those that are named their networks."""
    lines = []
    for key, run in sorted(merged.items()):
        source = run.experiment.source.key if run.experiment.source else None
        record = {"experiment": {**run.experiment.to_dict(), "source": source}}
        record |= {"metrics": run.metrics, "provenance": run.provenance}
        lines.append(f"{json.dumps(key)}: {json.dumps(record, sort_keys=True)}")
    (folder / "runs.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    kinds = {key: (e.data, e.label, repr(e.split)) for key, e in ((key, run.experiment) for key, run in merged.items())}
    keys = sorted(merged, key=lambda key: (*kinds[key], key))  # equal test sets together take almost no space
    write_table(folder / "curves.parquet", [_keyed(key, merged[key].curve) for key in keys])
    write_table(folder / "errors.parquet", [_keyed(key, kept(merged[key].errors)) for key in keys])
    names = list(FILES)
    for key in sorted(merged.keys() & {*networks}):
        (folder / "weights" / key).mkdir(parents=True)
        for name in NETWORK:
            names.append(f"weights/{key}/{name}")
            shutil.copyfile(cast(Path, merged[key].network) / name, folder / names[-1])
    hashes = {"files": {name: file_digest(folder / name) for name in names}}
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


def _keyed(key: str, frame: pd.DataFrame) -> pa.Table:
    keys = pa.array([key] * len(frame), pa.string())
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


@dataclass(frozen=True)
class ArchivedRun(Run):
    """A finished run without predictions, read from an archive; `path` is the archive's folder.

    Args:
        archive: that holds it and has set its experiment, metrics and provenance.
        name: its key when it was archived, which its rows bear.
    """

    archive: "RunArchive"
    name: str

    def __reduce__(self) -> Any:
        return RunArchive.__getitem__, (self.archive, self.experiment.key)

    @property
    def network(self) -> Path | None:
        """As `Run.network`; `CgatError` where a file is not the one that the run has made."""
        folder = self.path / "weights" / self.experiment.key
        if not folder.is_dir():
            return None
        for name in NETWORK:
            if not (folder / name).is_file() or file_digest(folder / name) != self.provenance["files"][name]:
                raise CgatError(f"{folder / name} is not the file that the run has made: it is lost or was changed")
        return folder

    @cached_property
    def curve(self) -> pd.DataFrame:
        """As `Run.curve`."""
        curves = self.archive.curves
        return curves.loc[curves["key"] == self.name].drop(columns="key").reset_index(drop=True)

    @cached_property
    def errors(self) -> pd.DataFrame:
        """As `Run.errors`, in single precision."""
        return self.archive.errors(self.name)

    @property
    def predictions(self) -> pd.DataFrame:
        """Raises `CgatError`: with the errors, predictions would be the labels of the table."""
        raise CgatError(f"{self.path} is an archive, which holds errors and no predictions of run {self.name}")

    def problems(self) -> list[str]:
        """What is wrong: no errors, or metrics that do not follow from them."""
        try:
            return unlike(self.metrics, self.errors["error"], "errors", TOLERANCE)
        except CgatError as error:
            return [str(error)]
