"""How far off a prediction is expected to be, from what is known of it without its label.

The logarithm of the error is a linear function, fitted to the errors of the validation crystals by ridge regression,
of the crystal embedding, the logarithms of its distances to the nearest training crystals, the predicted value (metals
are predicted more surely than gaps) and, where there are several members, their disagreement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.files import file_digest

Array = NDArray[np.float64]

FILE = "uncertainty.safetensors"
REFERENCES = 10_000
"""Training crystals that an estimator knows, at most."""
_STORED = ("center", "scale", "axes", "references")
_ONE_SIGMA = 0.6827  # share of a normal distribution within one standard deviation
_AXES = 16  # principal ones, along which distances are taken
_NEAREST = (1, 3, 10)  # of them, to which the distance is taken
_FLOOR = 0.1  # quantile of the errors that is added to each, so that a lucky hit is no large negative number
_LIMIT = 5.0  # standard deviations: no part of an embedding counts for more
_PREFERRED = 3.0  # how much cheaper distances, value and disagreement are to the ridge than a part of the embedding
_PENALTIES = 10.0 ** np.arange(0, 6)
_FOLDS = 5
_LEAST = 10  # validation crystals that errors are learnt from


@dataclass(frozen=True, eq=False)
class Estimator:
    """Estimates the errors of one trunk from the embeddings, of W numbers, of its first member.

    Args:
        center, scale: (W,) of the embeddings of some training crystals. axes: (W, A) of the largest variance of these.
        references: (R, A), these crystals along the axes.
        lines: by label the constant and the weights of the features, (1 + F,).
    """

    center: Array
    scale: Array
    axes: Array
    references: Array
    lines: Mapping[str, Array]

    @classmethod
    def of(cls, embeddings: Array) -> "Estimator":
        """From embeddings of training crystals (n, W); nothing is estimated yet."""
        center, scale = embeddings.mean(axis=0), np.maximum(embeddings.std(axis=0), 1e-6)
        scaled = (embeddings - center) / scale
        axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1][:, :_AXES]
        references = (scaled @ axes).astype(np.float16).astype(float)
        center, scale, axes = (x.astype(np.float32).astype(float) for x in (center, scale, axes))  # as they are stored
        return cls(center, scale, axes, references, {})

    def features(self, embeddings: Array, values: Array) -> Array:
        """(n, F) from embeddings (n, W) and the members' predictions (members, n), in units of the label's scale."""
        from scipy.spatial.distance import cdist

        scaled = (embeddings - self.center) / self.scale
        apart = np.sort(cdist(scaled @ self.axes, self.references), axis=1)
        nearest = apart[:, [min(k, apart.shape[1]) - 1 for k in _NEAREST]]
        value = np.abs(values.mean(axis=0))
        columns = [np.log(nearest + 1e-3), values.mean(axis=0), value, np.log(value + 0.05)]
        if len(values) > 1:
            columns.append(np.log(values.std(axis=0, ddof=1) + 1e-4))
        return np.column_stack([*columns, np.clip(scaled, -_LIMIT, _LIMIT)])

    def __call__(self, label: str, embeddings: Array, values: Array) -> Array:
        """Estimated errors (n,), in units of the label's scale, up to a factor; arguments as of `features`."""
        features = self.features(embeddings, values)
        return np.exp(self.lines[label][0] + features @ self.lines[label][1:])


def learnt(features: Array, errors: Array, formulas: Sequence[str], width: int) -> tuple[Array, float] | None:
    """A label's linear function, (1 + F,), and the factor on its estimates that two thirds of the errors are below.

    The factor is cross-validated: from estimates for crystals whose formulas were left out of the fit.

    Args:
        features: (n, F) of the validation crystals, the last `width` parts of the embedding. errors: (n,) absolute.
        formulas: (n,) of which a fold holds all crystals or none.

    Returns:
        None where there are fewer than 10 crystals or all are of one formula.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = min(_FOLDS, len(set(formulas)))
    if len(errors) < _LEAST or folds < 2:
        return None
    target = np.log(errors + max(np.quantile(errors, _FLOOR), 1e-9))
    center, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    scale[: features.shape[1] - width] /= _PREFERRED
    scaled, ridge = (features - center) / scale, RidgeCV(_PENALTIES)
    unseen = cross_val_predict(ridge, scaled, target, groups=np.array(formulas), cv=GroupKFold(folds))
    ridge.fit(scaled, target)
    weights = ridge.coef_ / scale
    line = np.append(ridge.intercept_ - center @ weights, weights).astype(np.float32)
    return line.astype(float), float(np.quantile(errors / np.exp(unseen), _ONE_SIGMA))


def save_estimators(estimators: Sequence[Estimator], folder: Path) -> str:
    """Write `FILE`, of the trunks in order; returns its SHA-256."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[np.floating]] = {}
    for place, estimator in enumerate(estimators):
        kept = {name: getattr(estimator, name) for name in _STORED} | dict(estimator.lines)
        for name, value in kept.items():
            tensors[f"{place}.{name}"] = value.astype(np.float16 if name == "references" else np.float32)
    (folder / FILE).write_bytes(save(tensors))
    return file_digest(folder / FILE)


def load_estimators(
    folder: Path, sha256: str, trunks: Sequence[tuple[Sequence[str], int, int]]
) -> tuple[Estimator, ...]:
    """What `save_estimators` wrote; `CgatError` where it is another file or not of these trunks.

    Args:
        folder, sha256: of `FILE`. trunks: labels, embedding width and number of members of each.
    """
    from safetensors.numpy import load_file

    if file_digest(folder / FILE) != sha256:
        raise CgatError(f"{FILE} is not the file that was written with it (its sha256 differs)")
    tensors = {name: value.astype(float) for name, value in load_file(folder / FILE).items()}
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise CgatError(f"{FILE} holds a number that is not finite")
    found = []
    for place, (labels, width, members) in enumerate(trunks):
        lines = {label: tensors[f"{place}.{label}"] for label in labels if f"{place}.{label}" in tensors}
        center, scale, axes, references = (tensors[f"{place}.{name}"] for name in _STORED)
        estimator = Estimator(center, scale, axes, references, lines)
        sizes = {len(estimator.features(np.zeros((1, width)), np.zeros((members, 1)))[0]) + 1}
        if {line.size for line in lines.values()} - sizes:
            raise CgatError(f"{FILE} is not of {members} members with embeddings of {width} numbers")
        found.append(estimator)
    return tuple(found)
