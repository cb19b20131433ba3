"""A support-vector machine on frozen embeddings: what is fitted to every network that is not trained further."""

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from benchmarks.peers.tasks import Fitted, Task

_PENALTIES, _WIDTHS = (1.0, 10.0, 100.0), (0.3, 1.0)
_TUBE = 0.05  # of the training labels' standard deviation


def fit(embedding: np.ndarray, task: Task, parts: dict[str, np.ndarray], _: int = 0) -> Fitted:
    """Penalty, width and inputs of the lowest validation error, tested once.

    Args:
        embedding: (n, d), NaN where the network refuses a crystal.
    """
    inputs = {"embedding": embedding, "embedding, composition": np.hstack([embedding, task.composition])}
    train, validation, test = parts.values()
    mean, deviation = task.labels[train].mean(), task.labels[train].std()
    found = []
    for name, x in inputs.items():
        scale = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()).fit(x[train])
        x = scale.transform(x)
        for penalty in _PENALTIES:
            for width in _WIDTHS:
                machine = SVR(C=penalty, gamma=width / x.shape[1], epsilon=_TUBE, cache_size=1000)
                machine.fit(x[train], (task.labels[train] - mean) / deviation)
                error = np.abs(machine.predict(x[validation]) * deviation + mean - task.labels[validation]).mean()
                found.append((error, {"inputs": name, "penalty": penalty, "width": width}, machine, x[test]))
    _, choices, machine, x = min(found, key=lambda trial: trial[0])
    return Fitted(machine.predict(x) * deviation + mean, choices, len(found))
