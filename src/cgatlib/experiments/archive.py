"""Archives: the results of many runs in five files, small enough to be kept beside the code; weights stay behind."""

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
from cgatlib.experiments.archive_files import read_json, read_parquet, write_files
from cgatlib.experiments.experiment import Experiment, Run, file_digest, score

_TOLERANCE = 1e-6  # relative; ten times what single precision can do to an error


@dataclass(frozen=True)
class ArchivedRun(Run):
    """A finished run without weights, read from an archive; `path` is the archive's folder."""

    archive: "RunArchive"
    key: str

    def __reduce__(self) -> Any:
        return type(self), (self.path, self.archive, self.key)  # a process reads again what another has in memory

    @property
    def _record(self) -> dict[str, Any]:
        return self.archive.records[self.key]

    @cached_property
    def experiment(self) -> Experiment:
        """What was run; `CgatError` where the run it starts from is not in the archive."""
        values = self._record["experiment"]
        source = values["source"]
        if source is None:
            return Experiment.from_dict(values)
        if source not in self.archive:
            raise CgatError(f"{self.path} lacks run {source}, from which run {self.key} starts")
        return Experiment.from_dict({**values, "source": self.archive[source].experiment.to_dict()})

    @property
    def metrics(self) -> dict[str, Any]:
        """As `Run.metrics`."""
        return dict(self._record["metrics"])

    @property
    def provenance(self) -> dict[str, Any]:
        """As `Run.provenance`; its ``files`` are those of the run's folder before it was archived."""
        return dict(self._record["provenance"])

    @cached_property
    def curve(self) -> pd.DataFrame:
        """As `Run.curve`."""
        curves = self.archive.curves
        return curves.loc[curves["key"] == self.key].drop(columns="key").reset_index(drop=True)

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Test set: ``material_id``, ``error``, which is prediction minus target, in the label's unit."""
        return self.archive.errors(self.key)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """As `Run.predictions`."""
        e = self.experiment
        ids, error = self.errors["material_id"], self.errors["error"].astype(np.float64)
        target = ids.map(self.archive.targets(e.data, e.label))
        if target.isna().any():
            raise CgatError(
                f"{self.path} lacks the {e.label} of {ids[target.isna()].iloc[0]}, which run {self.key} tested"
            )
        return pd.DataFrame({"material_id": ids, "target": target, "prediction": target + error})

    def problems(self) -> list[str]:
        """What is wrong: no source or predictions, a key that is not the experiment's, metrics that do not follow."""
        try:
            key, found = self.experiment.key, score(self.predictions)
        except CgatError as error:
            return [str(error)]
        wrong = [] if key == self.key else [f"the experiment's key is {key}"]
        for name, value in found.items():
            if not np.isclose(value, self.metrics[name], rtol=_TOLERANCE, atol=0):
                wrong.append(f"{name} is {self.metrics[name]}, but the predictions give {value}")
        return wrong


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
    def write(cls, folder: Path, runs: Iterable[Run]) -> "RunArchive":
        """Archive `runs`; runs of an archive that is already there stay, those with the same key are replaced.

        The same runs give the same bytes, in whatever order and in however many steps they come.

        Raises:
            CgatError: a run is damaged, starts from one that is not archived, or contradicts the labels of another.
        """
        folder = Path(folder)
        known: dict[str, Run] = dict(cls(folder)) if (folder / "archive.json").is_file() else {}
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
        write_files(part, ordered, [_errors_of(run) for run in ordered])
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
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
