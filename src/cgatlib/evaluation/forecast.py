"""What more crystals would buy: the error of runs on nested parts of a table, and the power law through it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cgatlib.crystals.crystal import PROPERTIES
from cgatlib.errors import CgatError
from cgatlib.evaluation.scaling import Points, ScalingFit, bootstrap, fit_with_floor, hold_out_largest
from cgatlib.evaluation.statistics import Estimate
from cgatlib.runs.experiment import Run

_SMALLEST = 20  # training crystals; below, the error says little about what follows


@dataclass(frozen=True)
class Forecast:
    """A learning curve and where it leads.

    Args:
        fit: power law of the test MAE. n_train: training crystals of the whole table. share: of its crystals that are
            trained on. label, functional: of the table.
    """

    fit: ScalingFit
    n_train: int
    share: float
    label: str
    functional: str

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Forecast":
        """Fit runs on nested parts of one table.

        Raises:
            CgatError: fewer than two sizes, or the runs were tested on different crystals.
        """
        ordered = sorted(runs, key=lambda run: (run.metrics["n_train"], run.experiment.seed))
        tests = {tuple(run.errors["crystal"]) for run in ordered}
        if len(tests) != 1:
            raise CgatError("a forecast needs runs that were tested on the same crystals")
        errors = [np.abs(run.errors["error"].to_numpy(np.float64)) for run in ordered]
        sizes = np.array([run.metrics["n_train"] for run in ordered], dtype=float)
        groups = ordered[0].errors["group"].to_numpy()
        points = Points(sizes, np.array([run.metrics["test_mae"] for run in ordered]), np.stack(errors), groups)
        e = ordered[0].experiment
        return cls(bootstrap(points), int(sizes.max()), e.split.train, e.label, e.functional)

    def mae(self, more: int = 0) -> Estimate:
        """Expected test MAE, with its 95 % interval, when `more` crystals are added to the table."""
        n = self.n_train + self.share * more
        low, high = self.fit.band(n)
        return Estimate(float(self.fit.law.predict(n)), float(low[0]), float(high[0]))

    def fall(self, more: int) -> Estimate:
        """Share by which the measured MAE falls, with its 95 % interval.

        Narrower than the MAE's, as the test crystals stay. It holds the uncertainty of the line and the scatter of the
        runs, which a measured fall has twice, before and after.
        """
        growth = 1 + self.share * more / self.n_train
        scatter = np.random.default_rng(0).normal(0.0, math.sqrt(2) * self.scatter, len(self.fit.slopes))
        return Estimate.of(1 - growth**-self.fit.law.slope, 1 - growth**-self.fit.slopes * np.exp(scatter))

    @property
    def scatter(self) -> float:
        """Standard deviation of ln MAE, averaged over the runs of a size; about the line where sizes have one run."""
        points = pd.DataFrame({"size": self.fit.points.sizes, "log_mae": np.log(self.fit.points.maes)})
        sizes = points["size"].nunique()
        if len(points) > sizes:
            centre, free = points.groupby("size")["log_mae"].transform("mean"), len(points) - sizes
        else:
            centre, free = np.log(self.fit.law.predict(points["size"])), len(points) - 2
        return math.sqrt(float(((points["log_mae"] - centre) ** 2).sum()) / free * sizes / len(points))

    def mae_with_floor(self, more: int) -> float | None:
        """The same if the error falls towards a floor; None for fewer than three sizes, which do not tell."""
        if len(self.fit.points.distinct) < 3:
            return None
        return float(fit_with_floor(self.fit.points).predict(self.n_train + self.share * more))

    def report(self, more: int) -> dict[str, Any]:
        """What the runs gave and what `more` crystals are expected to give, as plain values."""
        points, slope, now, then, fall = self.fit.points, self.fit.slope, self.mae(), self.mae(more), self.fall(more)
        return {
            "label": self.label,
            "functional": self.functional,
            "unit": PROPERTIES[self.label].unit,
            "measured": {int(size): float(points.maes[points.sizes == size].mean()) for size in points.distinct},
            "slope": [slope.value, slope.low, slope.high],
            "more": more,
            "n_train": [self.n_train, round(self.n_train + self.share * more)],
            "mae": [now.value, then.value],
            "interval": [then.low, then.high],
            "fall": [fall.value, fall.low, fall.high],
            "with_floor": self.mae_with_floor(more),
            "largest_foretold": hold_out_largest(points).line_error if len(points.distinct) >= 4 else None,
        }


@dataclass(frozen=True)
class Check:
    """A measured size and its MAE, that foretold, and the fall from the size before: foretold and measured."""

    size: int
    foretold: float
    mae: float
    fall: Estimate
    measured_fall: float

    @property
    def held(self) -> bool:
        """Whether the measured fall lies in the interval that was foretold."""
        return self.fall.low <= self.measured_fall <= self.fall.high


def checks(runs: Sequence[Run], sizes: int = 4) -> list[Check]:
    """Foretell every size of finished runs from the `sizes` sizes before it, and compare; none where there are fewer.

    Sizes, MAEs and test crystals are those of `Forecast.of`, whose errors are raised.
    """
    rows = pd.DataFrame([(run.metrics["n_train"], run.metrics["test_mae"]) for run in runs], columns=["n", "mae"])
    maes, found = rows.groupby("n")["mae"].mean(), []
    for place in range(sizes, len(maes)):
        before, size, mae = maes.index[place - sizes : place], int(maes.index[place]), float(maes.iloc[place])
        forecast = Forecast.of([run for run in runs if run.metrics["n_train"] in before])
        more, fall = round((size - forecast.n_train) / forecast.share), 1 - mae / float(maes.iloc[place - 1])
        found.append(Check(size, forecast.mae(more).value, mae, forecast.fall(more), fall))
    return found


def halved_sizes(n_train: int) -> list[int]:
    """Half, quarter and eighth of the training part, as far as they are 20 or more; `CgatError` where none is."""
    sizes = sorted(n_train // part for part in (2, 4, 8) if n_train // part >= _SMALLEST)
    if not sizes:
        raise CgatError(f"a forecast needs {2 * _SMALLEST} training crystals; the training part has {n_train}")
    return sizes


def forecast_text(report: dict[str, Any]) -> str:
    """A `Forecast.report` in words."""
    unit, (now, then), (low, high) = report["unit"], report["mae"], report["interval"]
    fall, fall_low, fall_high = report["fall"]
    lines = ["training crystals   test MAE"]
    lines += [f"{size:>17}   {mae:.4g} {unit}" for size, mae in report["measured"].items()]
    value, least, most = report["slope"]
    lines.append(f"MAE proportional to n^{-value:.3f} (95 % interval of the exponent {-most:.3f} to {-least:.3f})")
    if report["largest_foretold"] is not None:
        lines.append(f"check: the smaller sizes foretell the error of the largest by {report['largest_foretold']:+.1%}")
    lines += [
        f"with {report['more']:,} more crystals ({report['n_train'][0]:,} to {report['n_train'][1]:,} to train on):",
        f"  the MAE is expected to go from {now:.4g} to {then:.4g} {unit} (95 % interval {low:.4g} to {high:.4g})",
        f"  that is {-fall:+.1%} ({-fall_high:+.1%} to {-fall_low:+.1%})",
    ]
    if report["with_floor"] is not None:
        lines.append(f"  or to {report['with_floor']:.4g} {unit}, if it falls towards a floor")
    return "\n".join(lines)
