"""Power laws of the error against the number of crystals, fitted as straight lines.

The paper reads its Figs. 3, 4, 5 and 8 as straight lines in ln MAE against ln n, that is MAE =
exp(intercept) n^-slope. Arrays in, frozen dataclasses out. `resampling` adds the uncertainty, `extrapolation` draws the
conclusions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from cgatlib import CgatError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """MAE = exp(intercept) n^-slope; the intercept is ln MAE at n = 1, in the unit of the MAE."""

    intercept: float
    slope: float

    @classmethod
    def through(cls, n: float, mae: float, slope: float) -> PowerLaw:
        """The law of this slope that passes through (n, mae)."""
        return cls(math.log(mae) + slope * math.log(n), slope)

    def predict(self, n: ArrayLike) -> Array:
        """MAE at n crystals, same shape as n."""
        return np.asarray(np.exp(self.intercept - self.slope * np.log(np.asarray(n, dtype=float))))

    def invert(self, mae: float) -> float:
        """Size at which the law reaches `mae`; CgatError when the error does not fall with n."""
        if mae <= 0 or self.slope <= 0:
            raise CgatError(f"no size reaches an error of {mae:g} on a law of slope {self.slope:g}")
        return float(size_reaching(self.intercept, self.slope, math.log(mae)))


@dataclass(frozen=True)
class FloorLaw:
    """MAE = exp(intercept) n^-slope + floor: a line that bends towards an error no data removes."""

    intercept: float
    slope: float
    floor: float

    def predict(self, n: ArrayLike) -> Array:
        """MAE at n crystals, same shape as n."""
        return PowerLaw(self.intercept, self.slope).predict(n) + self.floor


@dataclass(frozen=True)
class Points:
    """Measured runs: sizes, maes (P,) > 0; errors (P, T) absolute errors on T common test crystals, or None.

    Each run is a point, several runs (seeds) may share a size. Within a size, runs are taken in the order
    given, which must be the order of their seeds for paired resampling. CgatError for lengths that differ,
    values that are not positive and finite, or fewer than two sizes.
    """

    sizes: Array
    maes: Array
    errors: Array | None = None

    def __post_init__(self) -> None:
        for name in ("sizes", "maes"):
            values = np.asarray(getattr(self, name), dtype=float)
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise CgatError(f"{name} of a power law must be positive and finite, got {values.tolist()}")
            object.__setattr__(self, name, values)
        if self.sizes.shape != self.maes.shape or self.sizes.ndim != 1:
            raise CgatError(f"sizes {self.sizes.shape} and MAEs {self.maes.shape} must be of one length")
        if self.errors is not None and len(self.errors) != len(self.sizes):
            raise CgatError(f"{len(self.errors)} rows of errors were given for {len(self.sizes)} runs")
        if len(np.unique(self.sizes)) < 2:
            raise CgatError(f"a power law needs at least two sizes, got {np.unique(self.sizes).tolist()}")

    @property
    def has_spread(self) -> bool:
        """Whether runs are repeated or sizes enough (three) to estimate an uncertainty from the points alone."""
        distinct = len(np.unique(self.sizes))
        return distinct >= 3 or distinct < len(self.sizes)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval from resampling; `never` is the share of infinite resamples."""

    value: float
    low: float
    high: float
    never: float = 0.0
    level: float = 0.95

    @classmethod
    def of(cls, value: float, samples: Array, level: float = 0.95) -> Estimate:
        """Central percentile interval of samples (R,); infinite samples count as larger than any number."""
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(samples, tails, method="inverted_cdf")
        return cls(float(value), float(low), float(high), float(np.isinf(samples).mean()), level)


def fit_power_law(points: Points) -> PowerLaw:
    """Least-squares straight line in ln MAE against ln n, every run one point."""
    intercepts, slopes = straight_lines(np.log(points.sizes), np.log(points.maes)[None])
    return PowerLaw(float(intercepts[0]), float(slopes[0]))


def r_squared(points: Points, law: PowerLaw | FloorLaw) -> float:
    """Share of the variance of ln MAE that the law explains; 1 for a flat, exactly met series."""
    y = np.log(points.maes)
    unexplained = float(((y - np.log(law.predict(points.sizes))) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    return 1.0 - unexplained / total if total > 0 else 1.0


def fit_with_floor(points: Points) -> FloorLaw:
    """Least squares in ln MAE of exp(intercept) n^-slope + floor, 0 <= floor < min MAE; needs three sizes."""
    if len(np.unique(points.sizes)) < 3:
        raise CgatError(f"a law with a floor needs at least three sizes, got {np.unique(points.sizes).tolist()}")
    lowest = points.maes.min()

    def law(x: Array) -> FloorLaw:
        return FloorLaw(float(x[0]), float(x[1]), float(x[2] * lowest))

    def residuals(x: Array) -> Array:
        return np.log(law(x).predict(points.sizes)) - np.log(points.maes)

    fits = []
    for share in (0.0, 0.3, 0.6, 0.9):  # several starts: the floor has local optima
        start = fit_power_law(Points(points.sizes, points.maes - share * lowest))
        x0 = [start.intercept, max(start.slope, 1e-3), max(share, 1e-3)]
        bounds = ([-np.inf, 0.0, 0.0], [np.inf, np.inf, 1.0])
        fits.append(least_squares(residuals, x0, bounds=bounds, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14))
    return law(min(fits, key=lambda fit: fit.cost).x)


def straight_lines(x: Array, y: Array) -> tuple[Array, Array]:
    """Intercepts and (falling) slopes (R,) of least-squares lines through x (P,), y (R, P)."""
    centred = x - x.mean()
    slopes = -(y @ centred) / (centred @ centred)
    return y.mean(axis=1) + slopes * x.mean(), slopes


def size_reaching(intercept: ArrayLike, slope: ArrayLike, log_mae: ArrayLike) -> Array:
    """Sizes at which laws reach ln MAE, infinite where the error does not fall; arrays broadcast."""
    intercept, slope, log_mae = np.broadcast_arrays(intercept, slope, log_mae)
    falls = slope > 0
    with np.errstate(over="ignore"):  # a size beyond 1e308 is never reached
        return np.where(falls, np.exp((intercept - log_mae) / np.where(falls, slope, 1.0)), np.inf)
