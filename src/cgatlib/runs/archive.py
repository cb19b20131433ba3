"""Archives: the results of many runs in four files, small enough to be kept beside the code.

What is not a result stays behind: ids, formulas and labels of the tables, and the networks, but for those that other
runs start from, where they are wanted (``weights/KEY``).
"""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.files import file_digest, replacing
from cgatlib.runs.experiment import NETWORK, Experiment, Run, score
from cgatlib.runs.tested import COLUMNS


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
            write_files(part, sorted(merged.values(), key=_place), kept)
        return cls(folder)

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """``experiment``, ``metrics`` and ``provenance`` as plain values, by key."""
        return read_json(self.path / "runs.json")

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """What was run, by the key of the time.

        Raises:
            CgatError: a run that another starts from is missing.
        """
        found: dict[str, Experiment] = {}

        def of(name: str) -> Experiment:
            if name not in found:
                values = self.records[name]["experiment"]
                source = values["source"]
                if source is not None and source not in self.records:
                    raise CgatError(f"{self.path} lacks run {source}, from which run {name} starts")
                found[name] = Experiment.from_dict({**values, "source": source and of(source).to_dict()})
            return found[name]

        return {name: of(name) for name in self.records}

    @cached_property
    def _runs(self) -> dict[str, "ArchivedRun"]:
        return {e.key: ArchivedRun(self.path, self, name) for name, e in self.experiments.items()}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves of all runs, with the column ``key``."""
        return read_parquet(self.path / "curves.parquet").to_pandas()

    @cached_property
    def _errors(self) -> tuple[pa.Table, dict[str, int], dict[str, int]]:
        """The table of errors, and of each run, whose rows lie together, the first row and their number."""
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
        found = []
        for name, digest in read_json(self.path / "archive.json")["files"].items():
            if not (self.path / name).is_file():
                found.append(f"{name} is missing")
            elif file_digest(self.path / name) != digest:
                found.append(f"{name} was changed after it was archived")
        if found:
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

    Of a run in several places, one in a folder of its own counts, which has its weights; else the first.

    Raises:
        CgatError: there is no such folder.
    """
    places: list[Mapping[str, Run]] = [find_folders(folder) for folder in folders]
    places += [archive for folder in folders for archive in find_archives(folder)]
    found: dict[str, Run] = {}
    for runs in reversed(places):
        found |= runs
    return found


def find_archives(folder: Path) -> list[RunArchive]:
    """The archive that `folder` is, or the archives in it by name; `CgatError` where there is no such folder."""
    paths = [*_children(folder, "archive.json"), *_children(folder, "[!.]*/archive.json")]
    return [RunArchive(path.parent) for path in paths]


def find_folders(folder: Path) -> dict[str, Run]:
    """The runs that have a folder each in `folder`, by key, not those that `Runs` has set aside where there is
    another; `CgatError` where there is no such folder."""
    runs = run_folders(folder)
    return {run.experiment.key: run for run in reversed(runs)}  # the name of one set aside is longer, so comes later


def run_folders(folder: Path) -> list[Run]:
    """Every run that has a folder in `folder`, by name of the folder; `CgatError` where there is no such folder."""
    return [Run(path.parent) for path in _children(folder, "[!.]*/provenance.json")]


def _children(folder: Path, pattern: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise CgatError(f"{folder} is not a folder of runs")
    return sorted(Path(folder).glob(pattern))


def _place(run: Run) -> tuple[str, ...]:
    """Runs with equal test sets one after the other, which compresses their ids to almost nothing."""
    e = run.experiment
    return e.data, e.label, repr(e.split), e.key


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


def write_files(folder: Path, runs: Sequence[Run], networks: Collection[str] = ()) -> None:
    """Write the files of an archive.

    Args:
        folder: exists; files of an archive that it holds are replaced.
        runs: runs with equal test sets one after the other. networks: keys of those whose network is kept.
    """
    lines = [f"{json.dumps(run.experiment.key)}: {json.dumps(_record(run), sort_keys=True)}" for run in runs]
    (folder / "runs.json").write_text("{\n" + ",\n".join(sorted(lines)) + "\n}\n")
    write_table(folder / "curves.parquet", [_keyed(run, run.curve) for run in runs])
    write_table(folder / "errors.parquet", [_keyed(run, kept(run.errors)) for run in runs])
    names = list(FILES)
    for run in sorted(runs, key=lambda run: run.experiment.key):
        if (key := run.experiment.key) in networks and run.network is not None:
            (folder / "weights" / key).mkdir(parents=True)
            for name in NETWORK:
                names.append(f"weights/{key}/{name}")
                shutil.copyfile(run.network / name, folder / names[-1])
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


@dataclass(frozen=True)
class ArchivedRun(Run):
    """A finished run without predictions, read from an archive; `path` is the archive's folder.

    Args:
        archive: that holds it. name: its key when it was archived, which its rows bear.
    """

    archive: "RunArchive"
    name: str

    def __reduce__(self) -> Any:
        return type(self), (self.path, self.archive, self.name)

    @property
    def experiment(self) -> Experiment:
        """As `Run.experiment`."""
        return self.archive.experiments[self.name]

    @property
    def metrics(self) -> dict[str, Any]:
        """As `Run.metrics`."""
        return dict(self.archive.records[self.name]["metrics"])

    @property
    def provenance(self) -> dict[str, Any]:
        """As `Run.provenance`; its ``files`` are those of the run's folder before it was archived."""
        return dict(self.archive.records[self.name]["provenance"])

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
            found = score(self.errors["error"])
        except CgatError as error:
            return [str(error)]
        return [
            f"{name} is {self.metrics[name]}, but the errors give {value}"
            for name, value in found.items()
            if not np.isclose(value, self.metrics[name], rtol=TOLERANCE, atol=0)
        ]
