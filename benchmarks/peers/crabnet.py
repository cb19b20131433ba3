"""CrabNet (Wang et al., npj Comput. Mater. 7, 77 (2021), doi:10.1038/s41524-021-00545-1), from scratch on formulas."""

import contextlib
import tempfile
from typing import Any

import numpy as np
import pandas as pd
from crabnet.crabnet_ import CrabNet

from benchmarks.peers.tasks import Fitted, Task

PACKAGES = ("crabnet", "torch", "pandas")
_EPOCHS = 40  # fewer than the package's default, which takes hours on one core


def fit(_: Any, task: Task, parts: dict[str, np.ndarray]) -> Fitted:
    """The package's own training, which averages weights and stops by the validation part."""
    frames = [
        pd.DataFrame({"formula": [task.formulas[row] for row in rows], "target": task.labels[rows]})
        for rows in parts.values()
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it writes curves where it runs
        network = CrabNet(
            epochs=_EPOCHS, random_state=0, compute_device="cpu", verbose=False, losscurve=False, learningcurve=False
        )
        network.fit(frames[0], frames[1], save=False)
        predictions = network.predict(frames[2].assign(target=0.0))
    return Fitted(np.asarray(predictions), {"epochs": _EPOCHS})
