"""A run as an archive keeps it."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cgatlib import CgatError
from cgatlib.experiments.archive_files import TOLERANCE
from cgatlib.experiments.experiment import Experiment, Run, score

if TYPE_CHECKING:
    from cgatlib.experiments.archive import RunArchive


@dataclass(frozen=True)
class ArchivedRun(Run):
    """A finished run without weights and predictions, read from an archive; `path` is the archive's folder.

    Args:
        archive: that holds it. name: its key when it was archived, which its rows bear.
    """

    archive: "RunArchive"
    name: str

    def __reduce__(self) -> Any:
        return type(self), (self.path, self.archive, self.name)  # a process reads again what another has in memory

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
