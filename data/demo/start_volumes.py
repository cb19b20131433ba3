"""Volumes at which the equations of state start: the better they are, the fewer energies are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from decoration import Candidate
from eos import guess_volume
from numpy.typing import NDArray
from pymatgen.core import Element

RIDGE = 0.3
# after so many candidates the model is fitted again to all results before them
REFITS = (0, 384, 1024, 2560, 6144)


class StartVolumes:
    """Ridge regression of ln V on the radius guess, the composition, the electronegativities and the prototype."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.place = {label: i for i, label in enumerate(labels)}
        self.weights: NDArray[np.float64] | None = None

    def _features(self, candidate: Candidate) -> NDArray[np.float64]:
        """Shape (4 + 94 + 94 + number of prototypes,)."""
        numbers = candidate.numbers
        elements = [Element.from_Z(int(z)) for z in numbers]
        negativity = np.array([float(element.X) for element in elements])
        spread = float(negativity.std())
        fractions = np.bincount(numbers - 1, minlength=94) / len(numbers)
        prototype = np.zeros(len(self.place))
        prototype[self.place[candidate.prototype.label]] = 1.0
        base = np.log(guess_volume(candidate.prototype.structure, numbers))
        additive = np.log(np.mean([float(element.atomic_radius or 1.5) ** 3 for element in elements]))
        return np.concatenate([[base, additive, spread, 1.0], fractions, fractions * spread, prototype])

    def fit(self, candidates: Sequence[Candidate], volumes: Sequence[float]) -> None:
        """Fit to known equilibrium volumes (Å³/atom)."""
        x = np.array([self._features(candidate) for candidate in candidates])
        target = np.log(volumes) - x[:, 0]
        self.weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ target)

    def __call__(self, candidate: Candidate) -> float:
        """Start volume in Å³/atom."""
        features = self._features(candidate)
        shift = 0.0 if self.weights is None else float(np.clip(features @ self.weights, -0.7, 0.9))
        return float(np.exp(features[0] + shift))
