"""Archives: the results of many runs in four files, small enough to be kept beside the code.

Weights stay behind, and so does what is not a result: ids, formulas and labels of the tables.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from cgatlib import CgatError
from cgatlib.experiments.archive_files import (
    FILES,
    of_rows,
    read_json,
    read_parquet,
    write_files,
)
from cgatlib.experiments.archived_run import ArchivedRun
from cgatlib.experiments.experiment import Experiment, Run
from cgatlib.files import file_digest, replacing


@dataclass(frozen=True)
class RunArchive(Mapping[str, Run]):
    """Runs by key, read from the folder `path` when they are asked for.

    Keys are those that the experiments have today, whatever they were called when they were archived.
    """

    path: Path

    def __reduce__(self) -> Any:
        return type(self), (self.path,)

    def __getitem__(self, key: str) -> ArchivedRun:
        return self._runs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    @classmethod
    def open(cls, folder: Path) -> "RunArchive":
        """The archive in `folder`.

        Raises:
            CgatError: there is none.
        """
        folder = Path(folder)
        if not (folder / "archive.json").is_file():
            raise CgatError(f"{folder} is not an archive of runs: it has no archive.json")
        return cls(folder)

    @classmethod
    def write(cls, folder: Path, runs: Iterable[Run]) -> "RunArchive":
        """Archive `runs`; runs of an archive that is already there stay, those with the same key are replaced.

        The same runs give the same bytes, in whatever order and in however many steps they come.

        Args:
            folder: of the archive; other files in it stay. runs: finished runs.

        Raises:
            CgatError: a run is damaged, or starts from one that is not archived.
        """
        folder = Path(folder)
        before = cls(folder) if (folder / "archive.json").is_file() else None
        known: dict[str, Run] = dict(before or {})
        merged = known | {run.experiment.key: run for run in runs}
        if not merged:
            raise CgatError(f"there is no run to archive in {folder}")
        for key, run in merged.items():
            if problems := run.problems():
                raise CgatError(f"run {key} cannot be archived: {problems[0]}")
            source = run.experiment.source
            if source is not None and source.key not in merged:
                raise CgatError(f"run {key} cannot be archived without run {source.key}, which it starts from")
        with replacing(folder, "an archive of runs", _may_be_replaced) as part:
            part.mkdir()
            for path in folder.iterdir() if folder.exists() else ():
                if path.name not in (*FILES, "archive.json"):
                    shutil.copy2(path, part)
            write_files(part, sorted(merged.values(), key=_place))
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
    def _runs(self) -> dict[str, ArchivedRun]:
        return {e.key: ArchivedRun(self.path, self, name) for name, e in self.experiments.items()}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves of all runs, with the column ``key``."""
        return read_parquet(self.path / "curves.parquet").to_pandas()

    @cached_property
    def _errors(self) -> tuple[pa.Table, dict[str, slice]]:
        """The table of errors, and the rows of each run, which lie together."""
        table = read_parquet(self.path / "errors.parquet")
        places, start = {}, 0
        for key, rows in groupby(table["key"].to_pylist()):
            stop = start + sum(1 for _ in rows)
            places[key], start = slice(start, stop), stop
        return table, places

    def errors(self, name: str) -> pd.DataFrame:
        """`Run.errors` of the run that was archived as `name`; `CgatError` where they are missing."""
        table, places = self._errors
        if name not in places:
            raise CgatError(f"{self.path} holds no errors of run {name}")
        rows = places[name]
        return of_rows(table.slice(rows.start, rows.stop - rows.start))

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
    archived = [dict(archive) for folder in folders for archive in find_archives(folder)]
    found: dict[str, Run] = {}
    for runs in [*archived[::-1], *(find_folders(folder) for folder in folders[::-1])]:
        found |= runs
    return found


def find_archives(folder: Path) -> list[RunArchive]:
    """The archive that `folder` is, or the archives in it by name; `CgatError` where there is no such folder."""
    paths = [*_children(folder, "archive.json"), *_children(folder, "[!.]*/archive.json")]
    return [RunArchive(path.parent) for path in paths]


def find_folders(folder: Path) -> dict[str, Run]:
    """The runs that have a folder each in `folder`, by key, not those that `RunStore` has set aside where there is
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
