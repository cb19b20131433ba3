"""Verdicts on claims about errors, from the test errors of stored runs."""

import math
from collections.abc import Sequence

import pandas as pd
from scipy import stats

from cgatbook.stored import StoredResults
from cgatbook.variants import change_text, error_change
from cgatbook.verdicts import (
    Evidence,
    Outcome,
    Verdict,
    beside,
    data_text,
    decide,
    runs_of,
    share_text,
    subject_of,
    together,
)
from cgatlib import CgatError
from cgatlib.crystals.crystal import GAP_THRESHOLD
from cgatlib.evaluation.comparison import Comparison, Score, compare, score_interval
from cgatlib.evaluation.metrics import OPEN_GAP_MAE, Scored
from cgatlib.evaluation.statistics import Estimate, mean_interval

_BASELINES = {"ridge": "a linear model of the composition", "boosting": "boosted trees on the composition"}


def reduction(
    evidence: Evidence,
    entry: str,
    reference: str,
    expected: str = "better",
    stated: str | None = None,
    non_metals: bool = False,
) -> Verdict:
    """Whether an entry has a smaller error than another on the same test crystals, at every training size of both.

    Args:
        entry, reference: of the plan. expected: of the entry, ``"better"``, ``"worse"`` or ``"same"``.
        stated: the paper's relative reduction. non_metals: score only the test crystals with a gap.
    """
    own, _ = runs_of(evidence.real, (entry, reference))
    found = _comparisons(evidence.real, entry, reference, non_metals)
    outcome = together([decide(c.reduction, expected) for c in found.values()])
    if len(found) == 1:
        (only,) = found.values()
        number = evidence.published[stated] if stated else None
        text = f"error reduction {share_text(only.reduction)}{beside(only.reduction, number, outcome)}"
    else:
        text = "error reduction by size " + "; ".join(f"{n:,}: {share_text(c.reduction)}" for n, c in found.items())
        own = [run for run in own if run.metrics["n_train"] in found]
    scored = f"; only gaps above {GAP_THRESHOLD:g} eV are scored" if non_metals else ""
    return Verdict(outcome, text, data_text(evidence.real, own) + scored, subject_of(own))


def _comparisons(results: StoredResults, entry: str, reference: str, non_metals: bool) -> dict[int, Comparison]:
    """By training size; of splits, whose sizes differ a little, one over all."""
    own, other = results.runs(entry), results.runs(reference)
    if non_metals:
        a, b = (Scored.of([run.errors for run in some]) for some in (own, other))
        return {int(own[0].metrics["n_train"]): compare(a, b, OPEN_GAP_MAE)}
    if len(results.plan.entries[entry].sizes) == 1:
        return {int(own[0].metrics["n_train"]): results.comparison(entry, reference)}
    sizes = [{int(run.metrics["n_train"]) for run in some} for some in (own, other)]
    found = {}
    for size in sorted(set.intersection(*sizes)):
        parts = [[run.errors for run in some if run.metrics["n_train"] == size] for some in (own, other)]
        found[size] = compare(parts[0], parts[1])
    return found


def _relative(first: Score, second: Score) -> Estimate:
    """1 - first / second for scores on different crystals, the logarithms of both taken as independent and normal."""
    z = float(stats.norm.ppf(0.975))
    errors = [math.log(s.estimate.high / s.estimate.low) / (2 * z) for s in (first, second)]
    log = math.log(first.estimate.value / second.estimate.value)
    half = z * math.hypot(*errors)
    return Estimate(-math.expm1(log), -math.expm1(log + half), -math.expm1(log - half))


def larger_error(evidence: Evidence, entry: str, parent: str) -> Verdict:
    """Whether training from scratch gives a larger error than the PBE network has on its own test set."""
    own, source = runs_of(evidence.real, (entry, parent))
    scores = [score_interval([run.errors for run in some]) for some in (own, source)]
    effect = _relative(scores[1], scores[0])  # positive where the PBE network is better
    excess = Estimate(*(x / (1 - x) for x in (effect.value, effect.low, effect.high)))
    text = f"error larger by {share_text(excess)} than that of the PBE network on its own test set"
    return Verdict(decide(effect, "better"), text, data_text(evidence.real, own), subject_of(own))


def smaller_on_metals(evidence: Evidence, entry: str) -> Verdict:
    """Whether the gaps of metals are predicted with a smaller error than those of other crystals."""
    (own,) = runs_of(evidence.real, (entry,))
    scored = Scored.of([run.errors for run in own])
    scores = [score_interval(scored.at(rows)) for rows in (~scored.kinds, scored.kinds)]
    share = 1 - scored.kinds.mean()
    effect = _relative(*scores)
    values = " eV and ".join(f"{score.estimate.value:.3f}" for score in scores)
    text = f"MAE {values} eV on metals and others, smaller by {share_text(effect)}; metals are {share:.0%}"
    return Verdict(decide(effect, "better"), text, data_text(evidence.real, own), subject_of(own))


def beats_baseline(evidence: Evidence, entry: str, baseline: str) -> Verdict:
    """Whether the network has a smaller error than a simple predictor on the same split."""
    (own,) = runs_of(evidence.real, (entry,))
    e = own[0].experiment
    found = [b for b in evidence.real.baselines if (b.data, b.label, b.name) == (e.data, e.label, baseline)]
    found = [b for b in found if b.split["seed"] == e.split.seed]
    if not found or baseline not in _BASELINES:
        raise CgatError(f"the archive has no baseline {baseline!r} for {entry}")
    c = compare([run.errors for run in own], [found[0].errors])
    text = f"error reduction against {_BASELINES[baseline]} {share_text(c.reduction)}"
    return Verdict(decide(c.reduction, "better"), text, data_text(evidence.real, own), subject_of(own))


def reached_sooner(evidence: Evidence, entry: str, reference: str, stated: Sequence[str]) -> Verdict:
    """Whether transfer reaches the lowest validation error of the reference in fewer steps than that takes.

    Args:
        entry, reference: of the plan, paired by seed and split. stated: the paper's epochs with and without transfer.
    """
    own, other = runs_of(evidence.real, (entry, reference))
    shares = []
    for run, against in zip(own, other, strict=True):
        reached = run.curve.loc[run.curve["validation_mae"] <= against.curve["validation_mae"].min(), "step"]
        shares.append(reached.min() / against.experiment.training.steps)
    values = pd.Series(shares, dtype=float)
    if values.isna().any():
        outcome = Outcome.FAILS if values.isna().all() else Outcome.OPEN
        text = f"reached by {values.notna().sum()} of {len(values)} runs"
        return Verdict(outcome, text, data_text(evidence.real, own), subject_of(own))
    share = mean_interval(values)
    rest = Estimate(1 - share.value, 1 - share.high, 1 - share.low)
    paper = evidence.published[stated[0]].value / evidence.published[stated[1]].value
    text = (
        f"after {share_text(share)} of the steps, evaluated every {1 / len(own[0].curve):.0%}; {paper:.0%} in the paper"
    )
    return Verdict(decide(rest, "better"), text, data_text(evidence.real, own), subject_of(own))


def variant(evidence: Evidence, entry: str, reference: str, expected: str = "same") -> Verdict:
    """What a variant of the network or of its training changes, paired by seed."""
    own, other = runs_of(evidence.variants, (entry, reference))
    change = error_change(own, other)
    outcome = decide(Estimate(-change["mean"], -change["high"], -change["low"]), expected)
    return Verdict(outcome, f"error {change_text(change)}", data_text(evidence.variants, own), subject_of(own))
