"""Evaluation of predictions: intervals, paired comparisons, repeated splits, classification, leakage, failures.

Pure functions on tables of predictions; neither torch nor the crystals themselves are needed.
"""

from cgatlib.evaluation.failures import error_by_element, error_by_size, worst_crystals
from cgatlib.evaluation.intervals import (
    Comparison,
    Score,
    compare,
    corrected_interval,
    over_splits,
    paired_difference,
    score_interval,
)
from cgatlib.evaluation.metrics import BALANCED_ACCURACY, F1, GAP_THRESHOLD, MAE, OPEN_GAP_MAE, ROC_AUC, Metric
from cgatlib.evaluation.reports import GapScores, gap_scores, leak_categories, leakage_ratio, report_table
from cgatlib.evaluation.scored import Scored, Seeds, restrict
from cgatlib.scaling.powerlaws import Estimate

__all__ = [
    "BALANCED_ACCURACY",
    "F1",
    "GAP_THRESHOLD",
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
    "error_by_element",
    "error_by_size",
    "gap_scores",
    "leak_categories",
    "leakage_ratio",
    "over_splits",
    "paired_difference",
    "report_table",
    "restrict",
    "score_interval",
    "worst_crystals",
]
