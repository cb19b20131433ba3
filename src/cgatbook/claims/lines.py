"""Evidence on the paper's claims from error against size: lines, what follows from them, and whether they are lines.

What follows from a line that the data reject cannot hold (`cgatbook.claims.verdict.decide`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from cgatbook.claims.evidence import Evidence
from cgatbook.claims.verdict import Effect, Finding, Side, share_text
from cgatbook.scaling_cells import NO_FALL, in_units, size_text
from cgatbook.stored import StoredResults
from cgatlib.evaluation import scaling
from cgatlib.evaluation.statistics import Estimate
from cgatlib.figures.sizes import curve_points
from cgatlib.runs.experiment import Run

STRAIGHT = 0.9  # of the variance of ln MAE, below which a line says little


@dataclass(frozen=True)
class Curve:
    """Errors against one size, with their line."""

    runs: list[Run]
    fit: scaling.ScalingFit
    curvature: Estimate

    @classmethod
    def of(cls, rows: pd.DataFrame, runs: Sequence[Run], against: str = "train_size") -> "Curve":
        """From a table of `StoredResults.table` in units, and the runs that it is of."""
        points, keys = curve_points(rows, against), set(rows["key"])
        return cls([run for run in runs if run.experiment.key in keys], scaling.bootstrap(points), curvature(points))

    @property
    def straight(self) -> bool:
        """Whether the data allow a straight line."""
        return self.curvature.low <= 0 <= self.curvature.high


def curvature(points: scaling.Points) -> Estimate:
    """Second derivative of ln MAE in ln n with its 95 % interval (least squares, Student's t).

    Positive where the error falls more slowly at large n; infinitely wide for three points or fewer.
    """
    x, y = np.log(points.sizes), np.log(points.maes)
    basis = np.stack([np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2], axis=1)
    values, *_ = np.linalg.lstsq(basis, y, rcond=None)
    free = len(x) - 3
    if free < 1:
        return Estimate(2 * float(values[2]), -math.inf, math.inf)
    scatter = float(((y - basis @ values) ** 2).sum()) / free
    half = float(stats.t.ppf(0.975, free)) * math.sqrt(scatter * float(np.linalg.inv(basis.T @ basis)[2, 2]))
    return Estimate(*(2 * (float(values[2]) + shift) for shift in (0.0, -half, half)))


@dataclass(frozen=True, eq=False)
class Sizes:
    """Curves of one or several entries of a plan."""

    evidence: Evidence
    results: StoredResults
    entries: tuple[str, ...]
    rows: pd.DataFrame
    runs: list[Run]

    @classmethod
    def of(cls, evidence: Evidence, *entries: str) -> "Sizes":
        """All runs of the entries; of several pre-training sizes, at the training sizes that all of them have."""
        return evidence.once(cls._of, evidence, *entries)

    @classmethod
    def _of(cls, evidence: Evidence, *entries: str) -> "Sizes":
        results = evidence.dft.of(*entries)
        rows = results.table(*entries)
        rows = in_units(rows, rows["label"].iloc[0])
        shared = set.intersection(*(set(part["train_size"]) for _, part in rows.groupby("pretrain_size")))
        runs = [run for name in entries for run in results.runs(name)]
        return cls(evidence, results, entries, rows[rows["train_size"].isin(shared)], runs)

    def at(self, mode: str) -> Curve:
        """Error against training size of a way of training."""
        return Curve.of(self.rows[self.rows["mode"] == mode], self.runs)

    def after(self, pretrain_size: int) -> Curve:
        """Error against training size after a pre-training."""
        return Curve.of(self.rows[self.rows["pretrain_size"] == pretrain_size], self.runs)

    @cached_property
    def by_pretraining(self) -> Curve:
        """Error against pre-training size at the largest training set."""
        rows = self.rows[self.rows["train_size"] == self.rows["train_size"].max()]
        return Curve.of(rows, self.runs, "pretrain_size")

    @property
    def pretrain_sizes(self) -> list[int]:
        """Sizes of the pre-training sets."""
        return sorted(self.rows["pretrain_size"].unique())

    def finding(
        self, curves: Sequence[Curve], text: str, effect: Effect | None = None, *, line: bool = True
    ) -> list[Finding]:
        """What an effect of the lines of some curves says; `line`: whether it follows from their being straight."""
        straight = not line or all(curve.straight for curve in curves)
        return self.evidence.finding(self.results, self.entries, [curves[-1].runs], text, effect, straight=straight)


def straight_line(sizes: Sizes, curve: Curve) -> list[Finding]:
    """ln MAE is a straight line in ln n: no significant curvature, and a line that explains the points."""
    explained, missed = curve.fit.r_squared, scaling.hold_out_largest(curve.fit.points).line_error
    text = f"curvature {_number(curve.curvature)}, slope {_number(curve.fit.slope)}, R² {explained:.2f}; a line "
    text += f"through the smaller sizes misses the largest by {missed:+.0%}"
    margin = math.inf if curve.straight and explained >= STRAIGHT else 0.0  # then a curvature that may be none is none
    return sizes.finding([curve], text, Effect(curve.curvature, "equal", "number", margin=margin), line=False)


def error_falls(sizes: Sizes, curve: Curve) -> list[Finding]:
    """The error falls with a size."""
    effect = Effect(curve.fit.slope, axis="number")
    return sizes.finding([curve], f"slope {_number(curve.fit.slope)}", effect, line=False)


def slope_drops(sizes: Sizes, side: Side, margin: float = 0.0) -> list[Finding]:
    """The slope against training size is lower after the largest than after the smallest pre-training, in relation."""
    ends = sizes.pretrain_sizes[0], sizes.pretrain_sizes[-1]
    few, many = (sizes.after(size) for size in ends)
    text = f"slope {_number(few.fit.slope)} after {ends[0]:,} and {_number(many.fit.slope)} after {ends[1]:,} crystals"
    return _lower(sizes, few, many, side, margin, text)


def pretraining_slope(sizes: Sizes, side: Side, margin: float = 0.0) -> list[Finding]:
    """The error falls more slowly with pre-training than with training size."""
    training, pretraining = _both(sizes)
    ratio, cost = (sizes.evidence.paper[f"numbers/{name}"].value for name in ("balanced_ratio", "cost_ratio_SCAN"))
    text = (
        f"slope {_number(pretraining.fit.slope)} against pre-training, {_number(training.fit.slope)} against training "
        f"size, ratio {pretraining.fit.law.slope / training.fit.law.slope:.2f}; {ratio / cost:.2f} in the paper"
    )
    return _lower(sizes, training, pretraining, side, margin, text)


def _lower(sizes: Sizes, first: Curve, second: Curve, side: Side, margin: float, text: str) -> list[Finding]:
    """By which share the second slope is lower than the first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = np.nan_to_num(1 - second.fit.slopes / first.fit.slopes)
    drop = Estimate.of(1 - second.fit.law.slope / first.fit.law.slope, samples)
    effect = Effect(drop, side, margin=margin)
    return sizes.finding([first, second], f"{text}; lower by {share_text(drop)}", effect)


def meeting(sizes: Sizes) -> list[Finding]:
    """Training from scratch catches up with full transfer, and beyond the largest training set."""
    none, full = sizes.at("none"), sizes.at("full")
    size, largest = scaling.crossing_size(none.fit, full.fit), none.fit.points.sizes.max()
    never = math.isinf(size.low)
    effect = Estimate(0.0, -math.inf, -math.inf) if never else _log(size, largest)
    names = "crossing_e_above_hull_SCAN", "training_sizes/1"
    theirs, trained = (sizes.evidence.paper[f"numbers/{name}"].value for name in names)
    text = f"the lines meet at {size_text(size)} crystals, {_times(size, largest)} the largest set"
    text += f"; {theirs / trained:.1f} times in the paper"
    open_ended = math.isinf(size.high) and not never  # whether they meet at all is not known
    effect = replace(effect, low=-math.inf) if open_ended else effect
    return sizes.finding([none, full], text, Effect(effect, axis="ratio"))


def equivalent(sizes: Sizes, at_least: float) -> list[Finding]:
    """Training from scratch needs at least so many times the largest set to equal the best transfer."""
    none, full = sizes.at("none"), sizes.at("full")
    size, largest = scaling.equivalent_size(none.fit, full.fit), none.fit.points.sizes.max()
    text = f"{size_text(size)} crystals, {_times(size, largest)} the largest set"
    return sizes.finding([none, full], text, Effect(_log(size, at_least * largest), axis="ratio"))


def pays_equally(sizes: Sizes, ratio: float, side: Side) -> list[Finding]:
    """Which calculation pays more at a ratio of pre-training to training crystals.

    Args:
        sizes: full transfer from several pre-training sizes. ratio: that the claim is about. side: ``"above"`` if
            training pays more there, ``"below"`` if pre-training does, ``"equal"`` if both do.
    """
    training, pretraining = _both(sizes)
    if min(training.fit.law.slope, pretraining.fit.law.slope) <= 0:
        return sizes.finding([training], NO_FALL, line=False)
    even = scaling.balance(training.fit, pretraining.fit, sizes.evidence.paper["numbers/cost_ratio_SCAN"].value)
    log = _log(even, ratio)
    effect = Estimate(-log.value, -log.high, -log.low)
    text = f"both pay equally at {even.text('{:.2g}'.format)} pre-training crystals per training crystal; the claim is "
    text += f"about {ratio:.2g}"
    inside = side == "equal" and effect.low <= 0 <= effect.high
    margin = math.log(ratio) if inside else 0.0  # equal holds within what equal set sizes are off
    return sizes.finding([training, pretraining], text, Effect(effect, side, "ratio", margin=margin))


def best_share(sizes: Sizes) -> list[Finding]:
    """A fresh budget is best divided: a share for PBE that is neither nothing nor all."""
    training, pretraining = _both(sizes)
    if min(training.fit.law.slope, pretraining.fit.law.slope) <= 0:
        return sizes.finding([training], NO_FALL, line=False)
    share = scaling.optimal_split(training.fit, pretraining.fit)
    inside = share if share.high < 1 else replace(share, low=0.0)
    text = f"best share for PBE {share_text(share)}"
    return sizes.finding([training, pretraining], text, Effect(inside))


def _both(sizes: Sizes) -> tuple[Curve, Curve]:
    """Against training size after the largest pre-training, and against pre-training size at the largest training."""
    return sizes.after(sizes.pretrain_sizes[-1]), sizes.by_pretraining


def _log(size: Estimate, reference: float) -> Estimate:
    """ln of a size over another."""
    return Estimate(*(math.log(x / reference) if x > 0 else -math.inf for x in (size.value, size.low, size.high)))


def _number(e: Estimate) -> str:
    return e.text("{:.3f}".format)


def _times(size: Estimate, largest: float) -> str:
    return size.text(lambda x: "never" if math.isinf(x) else f"{x / largest:.2g}") + " times"
