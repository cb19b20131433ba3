"""Scaling laws: power laws of the error against the number of crystals, their uncertainty, what follows from them.

The paper reads its Figs. 3, 4, 5 and 8 as straight lines in ln MAE against ln n, that is MAE = exp(intercept) n^-slope.

An infinite size means "never": the error does not fall, or one line never meets the other. Intervals count
infinite resamples as larger than any number and report their share as `Estimate.never`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from cgatlib.errors import CgatError
from cgatlib.evaluation.statistics import (
    RESAMPLES,
    TAILS,
    Array,
    Estimate,
    between_runs,
    redraw_formulas,
    seed_factors,
    student_root,
)

CHEMICAL_ACCURACY = 0.043  # eV/atom, 1 kcal/mol


@dataclass(frozen=True)
class PowerLaw:
    """MAE = exp(intercept) n^-slope + floor, in the unit of the MAE; a floor is an error that no data removes."""

    intercept: float
    slope: float
    floor: float = 0.0

    @classmethod
    def through(cls, n: float, mae: float, slope: float) -> PowerLaw:
        """The law of this slope that passes through (n, mae)."""
        return cls(math.log(mae) + slope * math.log(n), slope)

    def predict(self, n: ArrayLike) -> Array:
        """MAE at n crystals, same shape as n."""
        return np.asarray(np.exp(self.intercept - self.slope * np.log(np.asarray(n, dtype=float)))) + self.floor

    def invert(self, mae: float) -> float:
        """Size at which the law without its floor reaches `mae` > 0; infinite where the error does not fall."""
        return float(size_reaching(self.intercept, self.slope, math.log(mae)))


@dataclass(frozen=True)
class Points:
    """Measured runs: sizes, maes (P,) > 0; errors (P, T) absolute errors on T common test crystals, or None.

    Several runs (seeds) may share a size, in the order of their seeds for paired resampling. groups (T,) numbers the
    crystals' formulas from 0; every crystal has its own where it is None. CgatError for lengths that differ, values
    that are not positive and finite, or fewer than two sizes.
    """

    sizes: Array
    maes: Array
    errors: Array | None = None
    groups: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        for name in ("sizes", "maes"):
            values = np.asarray(getattr(self, name), dtype=float)
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise CgatError(f"{name} of a power law must be positive and finite, got {values.tolist()}")
            object.__setattr__(self, name, values)
        if self.sizes.shape != self.maes.shape or self.sizes.ndim != 1:
            raise CgatError(f"sizes {self.sizes.shape} and MAEs {self.maes.shape} must be of one length")
        if len(self.distinct) < 2:
            raise CgatError(f"a power law needs at least two sizes, got {self.distinct.tolist()}")

    @property
    def distinct(self) -> Array:
        """The different sizes, the smallest first."""
        return np.unique(self.sizes)


def fit_power_law(points: Points) -> PowerLaw:
    """Least-squares straight line in ln MAE against ln n, every run one point."""
    intercepts, slopes = straight_lines(np.log(points.sizes), np.log(points.maes)[None])
    return PowerLaw(float(intercepts[0]), float(slopes[0]))


def r_squared(points: Points, law: PowerLaw) -> float:
    """Share of the variance of ln MAE that the law explains; 1 for a flat, exactly met series."""
    y = np.log(points.maes)
    unexplained = float(((y - np.log(law.predict(points.sizes))) ** 2).sum())
    total = float(((y - y.mean()) ** 2).sum())
    return 1.0 - unexplained / total if total > 0 else 1.0


def fit_with_floor(points: Points) -> PowerLaw:
    """Least squares in ln MAE of exp(intercept) n^-slope + floor, 0 <= floor < min MAE; needs three sizes."""
    if len(points.distinct) < 3:
        raise CgatError(f"a law with a floor needs at least three sizes, got {points.distinct.tolist()}")
    lowest = points.maes.min()

    def law(x: Array) -> PowerLaw:
        return PowerLaw(float(x[0]), float(x[1]), float(x[2] * lowest))

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


@dataclass(frozen=True)
class ScalingFit:
    """A fitted law and its resamples: intercepts, slopes, bests, shifts (R,).

    `best` is the lowest error over the sizes (geometric mean over its runs), `bests` its resamples. `shifts` is what
    the redrawn test crystals add to ln MAE, mean of all runs; 0 without `Points.errors`.
    """

    points: Points
    law: PowerLaw
    r_squared: float
    best: float
    intercepts: Array
    slopes: Array
    bests: Array
    shifts: Array

    @property
    def slope(self) -> Estimate:
        """Slope with its 95 % interval."""
        return Estimate.of(self.law.slope, self.slopes)

    @property
    def intercept(self) -> Estimate:
        """Intercept with its 95 % interval."""
        return Estimate.of(self.law.intercept, self.intercepts)

    def band(self, n: ArrayLike, common: Array | float = 0.0) -> tuple[Array, Array]:
        """Lower and upper MAE at n (N,), each (N,): pointwise 95 % interval of the resampled lines.

        `common` (R,) is left out of ln MAE: the mean `shifts` of lines that are compared on one test set, which an
        easier or harder one moves together.
        """
        log_n = np.log(np.atleast_1d(np.asarray(n, dtype=float)))
        levels = (self.intercepts - common)[:, None]
        curves = np.exp(levels - self.slopes[:, None] * log_n)  # (R, N)
        low, high = np.quantile(curves, TAILS, axis=0)
        return low, high


def bootstrap(points: Points, noise: float | None = None) -> ScalingFit:
    """Fit a power law and resample it over seeds, and over formulas of test crystals where `points.errors` are known.

    A size with a single run borrows the scatter of the other sizes; where every size has a single run it is that about
    the line. `noise` (relative standard deviation between seeds, e.g. 0.02) replaces both. With five sizes the 95 %
    interval of the slope covers the true one in 93 to 95 % of simulations, for one, three and five runs per size.
    CgatError for two sizes with a single run each, and no `noise`.
    """
    law = fit_power_law(points)
    drawn, shifts = _redraw(points, noise)
    intercepts, slopes = straight_lines(np.log(points.sizes), drawn)
    groups = [points.sizes == size for size in points.distinct]
    log_means = [float(np.log(points.maes[group]).mean()) for group in groups]
    lowest = int(np.argmin(log_means))
    best, bests = math.exp(log_means[lowest]), np.exp(drawn[:, groups[lowest]].mean(axis=1))
    return ScalingFit(points, law, r_squared(points, law), best, intercepts, slopes, bests, shifts)


def _redraw(points: Points, noise: float | None) -> tuple[Array, Array]:
    """Resampled ln MAE (R, P) of every run, and `ScalingFit.shifts` (R,)."""
    single = len(points.distinct) == len(points.sizes)
    if noise is None and single and len(points.sizes) < 3:
        raise CgatError("two sizes with one run each leave no uncertainty to estimate: add seeds, sizes or `noise`")
    maes, errors = np.broadcast_to(points.maes, (RESAMPLES, len(points.maes))), points.errors
    if errors is not None:
        groups = np.arange(errors.shape[1]) if points.groups is None else points.groups
        maes = redraw_formulas(lambda w: w @ errors.T / w.sum(axis=1, keepdims=True), groups)
    scatter = None if noise is None else np.full(RESAMPLES, noise)
    if noise is None and single:
        scatter = _scatter_about_the_line(points, maes)
    shifts = np.log(maes / points.maes).mean(axis=1)
    return np.log(maes * seed_factors(points.maes, maes, points.sizes, scatter)), shifts


def _scatter_about_the_line(points: Points, redrawn: Array) -> Array:
    """Relative standard deviation of a run of each of at least three sizes, (R,), from P - 2 degrees of freedom."""
    x, free = np.log(points.sizes), len(points.sizes) - 2

    def residuals(y: Array) -> Array:
        intercepts, slopes = straight_lines(x, y)
        return np.asarray(y - intercepts[:, None] + slopes[:, None] * x)

    kept = between_runs(residuals(np.log(points.maes)[None]), residuals(np.log(redrawn)))
    return student_root(free) * math.sqrt((kept**2).sum() / free)


@dataclass(frozen=True)
class HeldOut:
    """The largest size and its MAE, and the relative errors of what the smaller ones foretell for it.

    Errors of the straight line and of the line with a floor; negative where it was too hopeful.
    """

    size: float
    observed: float
    line_error: float
    floor_error: float


def hold_out_largest(points: Points) -> HeldOut:
    """Fit both laws without the largest size and predict it; needs four sizes."""
    largest = points.distinct[-1]
    kept = points.sizes < largest
    if len(points.distinct) < 4:
        raise CgatError(f"holding out the largest size needs four sizes, got {points.distinct.tolist()}")
    smaller = Points(points.sizes[kept], points.maes[kept])
    observed = float(np.exp(np.log(points.maes[~kept]).mean()))
    line, floor = (float(fit(smaller).predict(largest)) / observed - 1 for fit in (fit_power_law, fit_with_floor))
    return HeldOut(float(largest), observed, line, floor)


def crossing(none: PowerLaw, full: PowerLaw) -> float:
    """Size N_cross at which training from scratch catches up with transfer, none(N) = full(N).

    Infinite when scratch does not fall faster than transfer; below one when it is better at every size.
    """
    return float(size_reaching(none.intercept - full.intercept, none.slope - full.slope, 0.0))


def crossing_size(none: ScalingFit, full: ScalingFit) -> Estimate:
    """N_cross with its interval and the share of resamples whose lines never cross."""
    samples = size_reaching(none.intercepts - full.intercepts, none.slopes - full.slopes, 0.0)
    return Estimate.of(crossing(none.law, full.law), samples)


def equivalent_size(none: ScalingFit, full: ScalingFit) -> Estimate:
    """N_equiv: the size at which training from scratch equals the best transfer model, none(N) = min full."""
    return Estimate.of(none.law.invert(full.best), size_reaching(none.intercepts, none.slopes, np.log(full.bests)))


def size_at(fit: ScalingFit, mae: float) -> Estimate:
    """Size at which the law reaches `mae` > 0 (unit of the fit), for instance chemical accuracy."""
    return Estimate.of(fit.law.invert(mae), size_reaching(fit.intercepts, fit.slopes, math.log(mae)))


@dataclass(frozen=True)
class ComputeBudget:
    """A start (n_pretrain low- and n_train high-fidelity crystals) and the fits along either size (Fig. 5).

    Budgets are in units of one low-fidelity (PBE) calculation; a high-fidelity one costs `cost_ratio` of
    them. CgatError when a size or the cost is not positive.
    """

    training: ScalingFit  # MAE against n_train at this n_pretrain; slope beta
    pretraining: ScalingFit  # MAE against n_pretrain at this n_train; slope alpha
    n_train: float
    n_pretrain: float
    cost_ratio: float = 5.0

    def __post_init__(self) -> None:
        if min(self.n_train, self.n_pretrain, self.cost_ratio) <= 0:
            raise CgatError("sizes and cost ratio of a compute budget must be positive")

    def training_size(self, budget: ArrayLike) -> Array:
        """High-fidelity crystals after the budget bought only those, n_train + B / c."""
        return self.n_train + np.asarray(budget, dtype=float) / self.cost_ratio

    def pretraining_size(self, budget: ArrayLike) -> Array:
        """Low-fidelity crystals after the budget bought only those, n_pretrain + B."""
        return self.n_pretrain + np.asarray(budget, dtype=float)

    @property
    def falls(self) -> bool:
        """Whether the error falls with both sizes, without which there is no advantage."""
        return self.training.law.slope > 0 and self.pretraining.law.slope > 0

    @property
    def training_advantage(self) -> Estimate:
        """Marginal relative gain per cost of high over low fidelity, beta n_pretrain / (c alpha n_train).

        Infinite where the error does not fall with the pre-training size, 0 where not with the training size.
        """
        even, ratio = balance(self.training, self.pretraining, self.cost_ratio), self.n_pretrain / self.n_train
        value, low, high = (ratio / size if size > 0 else math.inf for size in (even.value, even.high, even.low))
        return Estimate(value, low, high)


def balance(training: ScalingFit, pretraining: ScalingFit, cost_ratio: float) -> Estimate:
    """n_pretrain / n_train at which both calculations pay equally, c alpha / beta.

    Its interval ends at infinity where training size, at 0 where pre-training does not help.
    """
    alphas, betas = _falling(training, pretraining)
    value = cost_ratio * pretraining.law.slope / training.law.slope
    return Estimate.of(value, np.where(betas > 0, cost_ratio * alphas / np.where(betas > 0, betas, 1.0), np.inf))


def optimal_split(training: ScalingFit, pretraining: ScalingFit) -> Estimate:
    """Share of a fresh budget for low-fidelity calculations, alpha / (alpha + beta), at any cost ratio.

    It minimises K n_train^-beta n_pretrain^-alpha under n_pretrain + c n_train = budget. Resamples in which neither
    size helps count as an even split.
    """
    alphas, betas = _falling(training, pretraining)
    total = alphas + betas
    value = pretraining.law.slope / (pretraining.law.slope + training.law.slope)
    return Estimate.of(value, np.where(total > 0, alphas / np.where(total > 0, total, 1.0), 0.5))


def _falling(training: ScalingFit, pretraining: ScalingFit) -> tuple[Array, Array]:
    """Resampled slopes alpha, beta (R,), those of an error that rises set to 0: more data buy nothing."""
    if min(training.law.slope, pretraining.law.slope) <= 0:
        raise CgatError("a balance of calculations needs an error that falls with both sizes")
    return np.maximum(pretraining.slopes, 0.0), np.maximum(training.slopes, 0.0)
