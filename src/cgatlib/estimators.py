"""Models as scikit-learn knows them, with structures as X: in pipelines, searches and cross-validation.

X is a list of what `Ensemble.predict` takes. scikit-learn passes its members on and looks at nothing but their number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, RegressorMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from cgatlib import CgatError
from cgatlib.ensemble import Ensemble, load_model, refuse_noted

Array = NDArray[np.float64]


class _OfStructures(BaseEstimator):
    """What both estimators tell scikit-learn of X: one structure a row, which it must not turn into numbers."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = False, True
        tags.no_validation = True
        return tags


class CrystalEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _OfStructures):
    """What a pre-trained model has learnt of each structure, as numbers for a machine of your own.

    Args:
        model: a released model (`cgatlib model list`), the folder of a model or run, or a loaded model.

    Attributes:
        model_: the model; it goes into a pickle with its weights.
    """

    def __init__(self, model: str | Path | Ensemble = "pbe") -> None:
        self.model = model

    def fit(self, X: Sequence[Any], y: Any = None) -> "CrystalEmbedding":
        """Load the model; nothing is learnt from X."""
        self.model_ = _loaded(self.model)
        return self

    def transform(self, X: Sequence[Any]) -> Array:
        """Embeddings (n, width) of the structures.

        Raises:
            CgatError: a structure cannot be judged; its place and the reason are named.
        """
        check_is_fitted(self)
        return self.model_.embed(X)

    @property
    def _n_features_out(self) -> int:
        return sum(member.card.model.embedding_width for member in self.model_.members)


class CGATRegressor(RegressorMixin, _OfStructures):
    """A pre-trained model, tuned to the property of your structures.

    A part of them is kept from the training, to choose the best step and to state errors and uncertainties.

    Args:
        model: as of `CrystalEmbedding`; it must say how it was trained, as the released ones do.
        label: property to learn, of `cgatlib.crystals.crystal.PROPERTIES`.
        recipe: of `cgatlib.recipes.RECIPES`; None takes the best that is known.
        functional: that the values come from, for the card.
        steps, learning_rate, batch_size: of the training; None takes what the recipe has.
        random_state: seed of the members.

    Attributes:
        model_: the tuned model, with its card; it goes into a pickle with its weights, and ``model_.save`` keeps it.
    """

    def __init__(
        self,
        model: str | Path | Ensemble = "pbe",
        label: str = "band_gap",
        recipe: str | None = None,
        functional: str = "not stated",
        steps: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.model = model
        self.label = label
        self.recipe = recipe
        self.functional = functional
        self.steps = steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Sequence[Any], y: ArrayLike) -> "CGATRegressor":
        """Tune the model to values y (n,), in the label's unit.

        Raises:
            CgatError: see `Ensemble.fine_tune`.
        """
        check_consistent_length(X, y)
        values = column_or_1d(y, dtype=np.float64, warn=True)
        if not np.isfinite(values).all():
            place = int(np.flatnonzero(~np.isfinite(values))[0])
            raise CgatError(f"value {place} of y is {values[place]}: leave its structure out")
        training = {name: getattr(self, name) for name in ("steps", "learning_rate", "batch_size")}
        self.model_ = _loaded(self.model).fine_tune(
            X,
            values.tolist(),
            self.label,
            self.recipe,
            functional=self.functional,
            seed=_seed(self.random_state),
            **{name: value for name, value in training.items() if value is not None},
        )
        return self

    def predict(self, X: Sequence[Any], return_std: bool = False) -> Array | tuple[Array, Array]:
        """Predictions (n,) for the structures, in the label's unit, and on request their uncertainties (n,).

        Raises:
            CgatError: a structure cannot be judged; its place and the reason are named.
        """
        check_is_fitted(self)
        found = self.model_.predict(X)
        refuse_noted(found["material_id"], found["note"].where(found["prediction"].isna(), ""))
        values = found["prediction"].to_numpy()
        return (values, found["uncertainty"].to_numpy()) if return_std else values


def _loaded(model: str | Path | Ensemble) -> Ensemble:
    return model if isinstance(model, Ensemble) else load_model(model)


def _seed(random_state: Any) -> int:
    """A whole number from what scikit-learn takes for a state of chance."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**20))
