"""MODNet (De Breuck et al., npj Comput. Mater. 7, 83 (2021), doi:10.1038/s41524-021-00552-2), from scratch."""

import numpy as np
import pandas as pd
import tensorflow as tf
from modnet.featurizers.presets.matminer_2024_fast import Matminer2024FastFeaturizer
from modnet.models import MODNetModel
from modnet.preprocessing import MODData
from pymatgen.core import Structure

from benchmarks.peers.tasks import Fitted, Method, Task

METHOD = Method(
    "MODNet, from scratch", "10.1038/s41524-021-00552-2", "MIT", ("modnet", "matminer", "tensorflow"), seeded=True
)
_FEATURES, _EPOCHS, _PATIENCE = (64, 128, 256), 300, 30
_LAYERS = ([256], [128], [16], [16])


def embed(structures: list[Structure]) -> np.ndarray:
    """Matminer's features without the slow ones, (n, d)."""
    data = MODData(materials=structures, featurizer=Matminer2024FastFeaturizer())
    data.featurize(n_jobs=1)
    return data.df_featurized.to_numpy(dtype=float)


def fit(embedding: np.ndarray, task: Task, parts: dict[str, np.ndarray], seed: int) -> Fitted:
    """The package's selection of features, in the number of the lowest validation error."""
    tf.keras.utils.set_random_seed(seed)
    train, validation, test = (_data(embedding, task, rows) for rows in parts.values())
    train.feature_selection(n=max(_FEATURES), n_jobs=1)
    known = task.labels[parts["validation"]]
    trials = []
    for features in _FEATURES:
        network = MODNetModel([[["value"]]], {"value": 1}, num_neurons=_LAYERS, n_feat=features)
        stop = tf.keras.callbacks.EarlyStopping(patience=_PATIENCE, restore_best_weights=True)
        network.fit(train, val_data=validation, loss="mae", epochs=_EPOCHS, callbacks=[stop])
        error = float(np.abs(network.predict(validation)["value"].to_numpy() - known).mean())
        trials.append((error, features, network))
    _, features, network = min(trials, key=lambda trial: trial[0])
    return Fitted(network.predict(test)["value"].to_numpy(), {"features": features}, len(trials))


def _data(embedding: np.ndarray, task: Task, rows: np.ndarray) -> MODData:
    names = [f"feature {place}" for place in range(embedding.shape[1])]
    index = [f"row {row}" for row in rows]
    frame = pd.DataFrame(embedding[rows], columns=names, index=index)
    return MODData(
        materials=[None] * len(rows),
        targets=task.labels[rows],
        target_names=["value"],
        structure_ids=index,
        df_featurized=frame,
    )
