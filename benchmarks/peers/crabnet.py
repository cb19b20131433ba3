"""CrabNet (Wang et al., npj Comput. Mater. 7, 77 (2021), doi:10.1038/s41524-021-00545-1), from scratch."""

from typing import Any

import numpy as np
import pandas as pd
from crabnet.crabnet_ import CrabNet

from benchmarks.peers.tasks import Fitted, Method, Task

METHOD = Method("CrabNet, from scratch", "10.1038/s41524-021-00545-1", "MIT", ("crabnet", "torch"), seeded=True)


def fit(_: Any, task: Task, parts: dict[str, np.ndarray], seed: int) -> Fitted:
    """The package's own settings; the validation part decides when it stops and which weights are averaged."""
    formulas = np.array(task.formulas)
    train, validation, test = (
        pd.DataFrame({"formula": formulas[rows], "target": task.labels[rows]}) for rows in parts.values()
    )
    silent = dict.fromkeys(("verbose", "losscurve", "learningcurve", "save"), False)
    network = CrabNet(compute_device="cpu", random_state=seed, **silent)
    network.fit(train, validation)
    return Fitted(network.predict(test), {"epoch": network.epoch}, trials=1)
