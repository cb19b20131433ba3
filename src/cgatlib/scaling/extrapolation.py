"""What the power laws say: crossings, equivalent data, chemical accuracy, extrapolation, compute budgets.

An infinite size means "never": the error does not fall, or one line never meets the other. Intervals count
infinite resamples as larger than any number and report their share as `Estimate.never`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cgatlib import CgatError
from cgatlib.scaling.powerlaws import (
    Array,
    Estimate,
    Points,
    PowerLaw,
    fit_power_law,
    fit_with_floor,
    size_reaching,
)
from cgatlib.scaling.resampling import ScalingFit

CHEMICAL_ACCURACY = 0.043  # eV/atom, 1 kcal/mol


@dataclass(frozen=True)
class HeldOut:
    """The largest size, predicted from the smaller ones by the straight line and by the line with a floor."""

    size: float
    observed: float
    line: float
    with_floor: float

    @property
    def line_error(self) -> float:
        """Relative error of the straight line's prediction; negative when it was too hopeful."""
        return self.line / self.observed - 1

    @property
    def floor_error(self) -> float:
        """Relative error of the prediction with a floor; negative when it was too hopeful."""
        return self.with_floor / self.observed - 1


def hold_out_largest(points: Points) -> HeldOut:
    """Fit both laws without the largest size and predict it; needs four sizes."""
    largest = points.sizes.max()
    kept = points.sizes < largest
    if len(np.unique(points.sizes)) < 4:
        raise CgatError(f"holding out the largest size needs four sizes, got {np.unique(points.sizes).tolist()}")
    smaller = Points(points.sizes[kept], points.maes[kept])
    return HeldOut(
        size=float(largest),
        observed=float(np.exp(np.log(points.maes[~kept]).mean())),
        line=float(fit_power_law(smaller).predict(largest)),
        with_floor=float(fit_with_floor(smaller).predict(largest)),
    )


def crossing(none: PowerLaw, full: PowerLaw) -> float:
    """Size N_cross at which training from scratch catches up with transfer, none(N) = full(N).

    Infinite when scratch does not fall faster than transfer; below one when it is better at every size.
    """
    return float(_crossing(none.intercept, none.slope, full.intercept, full.slope))


def crossing_size(none: ScalingFit, full: ScalingFit) -> Estimate:
    """N_cross with its interval and the share of resamples whose lines never cross."""
    samples = _crossing(none.intercepts, none.slopes, *_paired(none, full))
    return Estimate.of(crossing(none.law, full.law), samples)


def equivalent_size(none: ScalingFit, full: ScalingFit) -> Estimate:
    """N_equiv: the size at which training from scratch equals the best transfer model, none(N) = min full."""
    _paired(none, full)
    value = size_reaching(none.law.intercept, none.law.slope, math.log(full.best))
    return Estimate.of(float(value), size_reaching(none.intercepts, none.slopes, np.log(full.bests)))


def size_at(fit: ScalingFit, mae: float) -> Estimate:
    """Size at which the law reaches `mae` (unit of the fit), for instance chemical accuracy."""
    if mae <= 0:
        raise CgatError(f"no size reaches an error of {mae:g}")
    value = size_reaching(fit.law.intercept, fit.law.slope, math.log(mae))
    return Estimate.of(float(value), size_reaching(fit.intercepts, fit.slopes, math.log(mae)))


def laws_from_counts(
    none_mae: float, full_mae: float, size: float, equivalent: float, crossing: float
) -> tuple[PowerLaw, PowerLaw]:
    """The two lines (none, full) behind a pair of MAEs at one size and the quoted N_equiv and N_cross.

    The paper prints no slopes in its text; these four numbers fix them.
    """
    gain = math.log(none_mae / full_mae)
    if gain <= 0 or equivalent <= size or crossing <= size:
        raise CgatError("lines follow from the counts only if transfer is better and both counts exceed the size")
    none_slope = gain / math.log(equivalent / size)
    full_slope = none_slope - gain / math.log(crossing / size)
    return PowerLaw.through(size, none_mae, none_slope), PowerLaw.through(size, full_mae, full_slope)


@dataclass(frozen=True)
class ComputeBudget:
    """A start (n_pretrain low- and n_train high-fidelity crystals) and the fits along either size (Fig. 5).

    Budgets are in units of one low-fidelity (PBE) calculation; a high-fidelity one costs `cost_ratio` of
    them. CgatError when a size or the cost is not positive, or the fits have different numbers of resamples.
    """

    training: ScalingFit  # MAE against n_train at this n_pretrain; slope beta
    pretraining: ScalingFit  # MAE against n_pretrain at this n_train; slope alpha
    n_train: float
    n_pretrain: float
    cost_ratio: float = 5.0

    def __post_init__(self) -> None:
        if min(self.n_train, self.n_pretrain, self.cost_ratio) <= 0:
            raise CgatError("sizes and cost ratio of a compute budget must be positive")
        _paired(self.training, self.pretraining)

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


def balance_ratio(training_slope: float, pretraining_slope: float, cost_ratio: float) -> float:
    """n_pretrain / n_train at which both calculations pay equally, c alpha / beta."""
    if training_slope <= 0 or pretraining_slope <= 0:
        raise CgatError("a balance of calculations needs an error that falls with both sizes")
    return cost_ratio * pretraining_slope / training_slope


def optimal_share(training_slope: float, pretraining_slope: float) -> float:
    """Share of a fresh budget for low-fidelity calculations, alpha / (alpha + beta), at any cost ratio.

    It minimises K n_train^-beta n_pretrain^-alpha under n_pretrain + c n_train = budget.
    """
    if training_slope <= 0 or pretraining_slope <= 0:
        raise CgatError("a split of the budget needs an error that falls with both sizes")
    return pretraining_slope / (pretraining_slope + training_slope)


def balance(training: ScalingFit, pretraining: ScalingFit, cost_ratio: float) -> Estimate:
    """`balance_ratio` with its interval; infinite where training size, 0 where pre-training does not help."""
    alphas, betas = _falling(training, pretraining)
    value = balance_ratio(training.law.slope, pretraining.law.slope, cost_ratio)
    return Estimate.of(value, np.where(betas > 0, cost_ratio * alphas / np.where(betas > 0, betas, 1.0), np.inf))


def optimal_split(training: ScalingFit, pretraining: ScalingFit) -> Estimate:
    """`optimal_share` with its interval; resamples in which neither size helps count as an even split."""
    alphas, betas = _falling(training, pretraining)
    total = alphas + betas
    value = optimal_share(training.law.slope, pretraining.law.slope)
    return Estimate.of(value, np.where(total > 0, alphas / np.where(total > 0, total, 1.0), 0.5))


def _crossing(none_a: ArrayLike, none_s: ArrayLike, full_a: ArrayLike, full_s: ArrayLike) -> Array:
    """Crossing of lines with intercepts a and slopes s: the size at which their difference reaches 0."""
    return size_reaching(np.subtract(none_a, full_a), np.subtract(none_s, full_s), 0.0)


def _paired(none: ScalingFit, full: ScalingFit) -> tuple[Array, Array]:
    """The second fit's resamples, refused when their number differs from the first's."""
    if len(none.slopes) != len(full.slopes):
        raise CgatError(f"fits with {len(none.slopes)} and {len(full.slopes)} resamples cannot be compared")
    return full.intercepts, full.slopes


def _falling(training: ScalingFit, pretraining: ScalingFit) -> tuple[Array, Array]:
    """Resampled slopes alpha, beta (R,), those of an error that rises set to 0: more data buy nothing."""
    _paired(training, pretraining)
    return np.maximum(pretraining.slopes, 0.0), np.maximum(training.slopes, 0.0)
