"""A run as an archive keeps it."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cgatlib import CgatError
from cgatlib.experiments.experiment import Experiment, Run, score

if TYPE_CHECKING:
    from cgatlib.experiments.archive import RunArchive

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
