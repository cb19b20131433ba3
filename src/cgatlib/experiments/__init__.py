"""Experiments: what was run, by which code and where, and the store that runs what is missing."""

from cgatlib.experiments.experiment import Experiment, Run
from cgatlib.experiments.runner import RunStore

__all__ = ["Experiment", "Run", "RunStore"]
