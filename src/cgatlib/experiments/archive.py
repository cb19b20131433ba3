"""Archives: the results of many runs in six files, small enough to be kept beside the code; weights stay behind."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cgatlib import CgatError
from cgatlib.experiments.archive_files import (
    FILES,
    Crystals,
    read_crystals,
    read_json,
    read_parquet,
    write_files,
)
from cgatlib.experiments.archived_run import ArchivedRun
from cgatlib.experiments.experiment import Run, file_digest


@dataclass(frozen=True)
class RunArchive(Mapping[str, Run]):
    """Runs by key, read from the folder `path` when they are asked for."""

    path: Path

    def __reduce__(self) -> Any:
        return type(self), (self.path,)

    def __getitem__(self, key: str) -> ArchivedRun:
        return self._runs[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

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
    def write(cls, folder: Path, runs: Iterable[Run], crystals: Crystals | None = None) -> "RunArchive":
        """Archive `runs`; runs of an archive that is already there stay, those with the same key are replaced.

        The same runs give the same bytes, in whatever order and in however many steps they come.

        Args:
            folder: of the archive; other files in it stay. runs: finished runs.
            crystals: ids and formulas of the runs' tables, where they are known.

        Raises:
            CgatError: a run is damaged, starts from one that is not archived, or contradicts the labels of another.
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
        part = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        ordered = sorted(merged.values(), key=_place)
        tables = {run.experiment.data for run in ordered}
        kept = {**(before.all_crystals if before else {}), **(crystals or {})}
        kept = {data: kept[data] for data in kept if data in tables}
        write_files(part, ordered, [_errors_of(run) for run in ordered], kept)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*FILES, "archive.json"):  # a kill in between leaves hashes that do not fit
            os.replace(part / name, folder / name)
        part.rmdir()
        return cls(folder)

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """``experiment``, ``metrics`` and ``provenance`` as plain values, by key."""
        return read_json(self.path / "runs.json")

    @cached_property
    def _runs(self) -> dict[str, ArchivedRun]:
        return {key: ArchivedRun(self.path, self, key) for key in self.records}

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Learning curves of all runs, with the column ``key``."""
        return read_parquet(self.path / "curves.parquet").to_pandas()

    @cached_property
    def _errors(self) -> tuple[pa.Table, dict[str, slice]]:
        """The table of errors, and the rows of each run, which lie together."""
        table = read_parquet(self.path / "predictions.parquet")
        places, start = {}, 0
        for key, rows in groupby(table["key"].to_pylist()):
            stop = start + sum(1 for _ in rows)
            places[key], start = slice(start, stop), stop
        return table, places

    def errors(self, key: str) -> pd.DataFrame:
        """``material_id`` and ``error`` of one run's test set."""
        table, places = self._errors
        if key not in places:
            raise CgatError(f"{self.path} holds no predictions of run {key}")
        rows = places[key]
        part = table.select(["material_id", "error"]).slice(rows.start, rows.stop - rows.start)
        return part.to_pandas()

    @cached_property
    def _targets(self) -> dict[tuple[str, str], pd.Series]:
        frame = read_parquet(self.path / "targets.parquet").to_pandas()
        groups = frame.groupby(["data", "label"], sort=False)
        return {key: rows.set_index("material_id")["target"] for key, rows in groups}

    def targets(self, data: str, label: str) -> pd.Series:
        """Test labels of a table by material id; empty where there are none."""
        return self._targets.get((data, label), pd.Series(dtype=np.float64))

    @cached_property
    def all_crystals(self) -> dict[str, tuple[list[str], list[str]]]:
        """Ids and formulas of the tables' crystals, by the tables' fingerprints."""
        return read_crystals(self.path / "crystals.parquet")

    def crystals(self, data: str) -> tuple[list[str], list[str]]:
        """Ids and reduced formulas of the crystals of a table, by its fingerprint, in its order.

        Raises:
            CgatError: the archive does not know that table.
        """
        if data not in self.all_crystals:
            known = ", ".join(self.all_crystals) or "none"
            raise CgatError(f"{self.path} does not hold the crystals of table {data}; known: {known}")
        return self.all_crystals[data]

    @cached_property
    def formulas(self) -> dict[str, str]:
        """Reduced formula of each crystal by its id.

        Raises:
            CgatError: two tables mean different crystals by one id.
        """
        found: dict[str, str] = {}
        for ids, formulas in self.all_crystals.values():
            for name, formula in zip(ids, formulas, strict=True):
                if found.setdefault(name, formula) != formula:
                    raise CgatError(f"{self.path}: {name} is {found[name]} in one table and {formula} in another")
        return found

    def problems(self) -> list[str]:
        """What is wrong with the archive: changed files, or else whatever its runs report."""
        found = []
        for name, digest in read_json(self.path / "archive.json")["files"].items():
            if not (self.path / name).is_file():
                found.append(f"{name} is missing")
            elif file_digest(self.path / name) != digest:
                found.append(f"{name} was changed after it was archived")
        return found or [f"run {key}: {problem}" for key, run in self.items() for problem in run.problems()]


def find_runs(folder: Path) -> dict[str, Run]:
    """Finished runs by key: of a folder of runs, of an archive, or of a folder of archives.

    Raises:
        CgatError: there is no such folder.
    """
    found: dict[str, Run] = {}
    for archive in find_archives(folder):
        found = dict(archive) | found  # of a run in two archives, the first by name counts
    return found | find_folders(folder)


def find_archives(folder: Path) -> list[RunArchive]:
    """The archive that `folder` is, or the archives in it by name; `CgatError` where there is no such folder."""
    paths = [*_children(folder, "archive.json"), *_children(folder, "[!.]*/archive.json")]
    return [RunArchive(path.parent) for path in paths]


def find_folders(folder: Path) -> dict[str, Run]:
    """The runs that have a folder each in `folder`, by key; `CgatError` where there is no such folder."""
    return {path.parent.name: Run(path.parent) for path in _children(folder, "[!.]*/provenance.json")}


def _children(folder: Path, pattern: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise CgatError(f"{folder} is not a folder of runs")
    return sorted(Path(folder).glob(pattern))


def _place(run: Run) -> tuple[str, ...]:
    """Runs with equal test sets one after the other, which compresses their ids to almost nothing."""
    e = run.experiment
    return e.data, e.label, repr(e.split), e.key


def _errors_of(run: Run) -> pd.DataFrame:
    if isinstance(run, ArchivedRun):
        return run.errors  # as they are: archiving twice must not round twice
    error = (run.predictions["prediction"] - run.predictions["target"]).astype(np.float32)
    return pd.DataFrame({"material_id": run.predictions["material_id"], "error": error})
