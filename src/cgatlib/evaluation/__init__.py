"""Evaluation of test errors: intervals, paired comparisons, repeated splits, classification, leakage.

Pure functions on tables of errors; neither torch nor the crystals or their labels are needed.
"""

from cgatlib.evaluation.intervals import (
    Comparison,
    Score,
    compare,
    corrected_interval,
    over_splits,
    paired_difference,
    score_interval,
)
from cgatlib.evaluation.metrics import BALANCED_ACCURACY, F1, MAE, OPEN_GAP_MAE, ROC_AUC, Metric
from cgatlib.evaluation.reports import GapScores, gap_scores, leakage_ratio, report_table
from cgatlib.evaluation.scored import Scored, Seeds, restrict
from cgatlib.scaling.powerlaws import Estimate

__all__ = [
    "BALANCED_ACCURACY",
    "F1",
    "MAE",
    "OPEN_GAP_MAE",
    "ROC_AUC",
    "Comparison",
    "Estimate",
    "GapScores",
    "Metric",
    "Score",
    "Scored",
    "Seeds",
    "compare",
    "corrected_interval",
    "gap_scores",
    "leakage_ratio",
    "over_splits",
    "paired_difference",
    "report_table",
    "restrict",
    "score_interval",
]
