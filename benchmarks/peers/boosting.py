"""Boosted trees on the composition: our own baseline, in cgatlib's environment."""

from typing import Any

import numpy as np

from benchmarks.peers.tasks import Fitted, Method, Task
from cgatlib.evaluation import baselines
from cgatlib.runs.experiment import Experiment
from cgatlib.splits import Split

METHOD = Method("Boosted trees on the composition", "10.1214/aos/1013203451", "BSD-3-Clause", ("scikit-learn", "numpy"))


def fit(_: Any, task: Task, parts: dict[str, np.ndarray], __: int) -> Fitted:
    """`cgatlib.evaluation.baselines.boosting` on the same parts."""
    about = task.about
    same = baselines.Task(
        experiment=Experiment(about["fingerprint"], about["functional"], about["label"]),
        ids=np.array([]),
        formulas=np.array(task.formulas),
        labels=task.labels,
        parts=Split(**parts),
    )
    fitted = baselines.boosting(same)
    return Fitted(fitted.predictions, fitted.choices, trials=2)
