"""What the errors say about one target: the table of all kinds of run, metals and non-metals, leaked test crystals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from cgatlib import CgatError
from cgatlib.evaluation.intervals import Comparison, Score, compare, score_of
from cgatlib.evaluation.metrics import BALANCED_ACCURACY, F1, OPEN_GAP_MAE, ROC_AUC
from cgatlib.evaluation.scored import Scored, Seeds
from cgatlib.runs.tested import SEEN


def report_table(kinds: Mapping[str, Seeds], reference: str = "none") -> pd.DataFrame:
    """All kinds of run for one target on one test set.

    Args:
        kinds: errors by the name of the kind of run (a transfer mode, a baseline), one table per seed.
        reference: the kind that the others are compared with.

    Returns:
        A row per kind: ``mode``, ``seeds``, ``crystals``, ``mae``, ``low``, ``high`` (95 % interval), ``spread``
        (standard deviation over seeds), ``reduction`` (1 - MAE / MAE of the reference, paired), ``reduction_low``,
        ``reduction_high``; the reference has no reduction.

    Raises:
        CgatError: the reference is not among the kinds, or a kind has other test crystals.
    """
    if reference not in kinds:
        raise CgatError(f"the reference {reference!r} is not there; the kinds are: {', '.join(kinds)}")
    scored = {name: Scored.of(seeds, repr(name)) for name, seeds in kinds.items()}
    rows = []
    for name, own in scored.items():
        own.require_same(scored[reference], repr(name), repr(reference))
        score = score_of(own)
        row = {"mode": name, "seeds": score.seeds, "crystals": score.crystals, "mae": score.estimate.value}
        row |= {"low": score.estimate.low, "high": score.estimate.high, "spread": score.spread}
        row |= dict.fromkeys(("reduction", "reduction_low", "reduction_high"), math.nan)
        if name != reference:
            gain = compare(own, scored[reference]).reduction
            row |= {"reduction": gain.value, "reduction_low": gain.low, "reduction_high": gain.high}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class GapScores:
    """Predicted band gaps as a classification into metals and non-metals, and their error where there is a gap.

    A gap above `cgatlib.runs.tested.GAP_THRESHOLD`, true or predicted, makes a non-metal. ``roc_auc`` needs no
    threshold on the prediction. ``open_gap_mae`` (eV) is the MAE of the crystals that are non-metals.
    """

    balanced_accuracy: Score
    roc_auc: Score
    f1: Score
    open_gap_mae: Score
    metals: int
    non_metals: int


def gap_scores(seeds: Seeds) -> GapScores:
    """Score predicted band gaps as a classification, with intervals; compare two kinds of run by
    `paired_difference` with the metrics of `cgatlib.evaluation.metrics`.

    Raises:
        CgatError: the errors are not of band gaps, or of metals only or non-metals only; or as `Scored.of`.
    """
    scored = Scored.of(seeds)
    non_metals = int(scored.kinds.sum())
    metals = len(scored.crystals) - non_metals
    if 0 in (metals, non_metals):
        raise CgatError(f"a classification needs both kinds of crystal: {metals} metals, {non_metals} non-metals")
    return GapScores(
        balanced_accuracy=score_of(scored, BALANCED_ACCURACY),
        roc_auc=score_of(scored, ROC_AUC),
        f1=score_of(scored, F1),
        open_gap_mae=score_of(scored, OPEN_GAP_MAE),
        metals=metals,
        non_metals=non_metals,
    )


def leakage_ratio(clean: Seeds, seen: Seeds) -> dict[str, Comparison]:
    """What it is worth to have been pre-trained on the test crystals.

    Args:
        clean: errors after pre-training without the test crystals and their formulas, one table per seed.
        seen: errors on the same crystals after pre-training that may have held them, which their column ``seen`` says.

    Returns:
        By a value of `SEEN`, `Comparison` of ``seen`` (first) with ``clean`` (second); its ``ratio`` is MAE seen /
        clean. The crystals of which pre-training has seen nothing tell how far the two differ for other reasons.

    Raises:
        CgatError: the test crystals differ, or it is not known what pre-training has seen.
    """
    a, b = Scored.of(seen, "the seen runs"), Scored.of(clean, "the clean runs")
    a.require_same(b, "the seen runs", "the clean runs")
    if a.seen is None:
        raise CgatError("the seen runs do not say which test crystals their pre-training has seen")
    parts = {name: a.seen == name for name in SEEN}
    return {name: compare(a.at(rows), b.at(rows)) for name, rows in parts.items() if rows.any()}
