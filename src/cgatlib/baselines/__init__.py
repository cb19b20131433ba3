"""Baselines: simple models with the crystals of a run, their results and the files these are stored in."""

from cgatlib.baselines.models import BASELINES, Fitted, Model, Task
from cgatlib.baselines.planned import planned_baselines
from cgatlib.baselines.records import (
    Baseline,
    all_baselines,
    baseline,
    baseline_problems,
    read_baselines,
    write_baselines,
)

__all__ = [
    "BASELINES",
    "Baseline",
    "Fitted",
    "Model",
    "Task",
    "all_baselines",
    "baseline",
    "baseline_problems",
    "planned_baselines",
    "read_baselines",
    "write_baselines",
]
