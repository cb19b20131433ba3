"""Estimators for structures: scikit-learn's own checks, its pipelines, searches and pickles."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_array

from cgatlib import CgatError, CGATRegressor, CrystalEmbedding, load_model
from cgatlib.crystals.crystal import Crystal
from cgatlib.ensemble import Ensemble
from cgatlib.graphs.neighbours import GraphConfig
from cgatlib.inputs import TargetStatistics
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import ModelConfig
from cgatlib.predictor import ModelCard, Predictor


@pytest.fixture(scope="module")
def crystals(table) -> list[Crystal]:
    return list(table)


@pytest.fixture(scope="module")
def energies(table) -> np.ndarray:
    return table.label("e_form")


@pytest.fixture(scope="module")
def fitted(model_folder, crystals, energies, tmp_path_factory) -> CGATRegressor:
    """Fitted from a model whose folder is gone."""
    folder = shutil.copytree(model_folder, tmp_path_factory.mktemp("start") / "model")
    regressor = CGATRegressor(folder, "e_form", "kernel", functional="HSE").fit(crystals, energies)
    shutil.rmtree(folder)
    return regressor


def pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301 -- made here


# scikit-learn's checks
#
# They fit on rows of numbers. Here each row stands for one of the compounds, so that they can be run on estimators for
# structures; what they say of the numbers themselves (shapes, names and counts of features) does not apply.

_CELL = 2.8 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
_PLACES = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
COMPOUNDS = [
    Crystal("", _CELL, np.array([cation, anion]), _PLACES, {})
    for cation in (3, 11, 12, 19, 20, 37, 38, 56)
    for anion in (8, 9, 16, 17, 34, 35)
]


def compounds(X) -> list[Crystal]:
    """A rock salt for each row (n, k), the same for the same numbers."""
    places = np.abs(check_array(X, dtype=float)).sum(axis=1) * 1000 % len(COMPOUNDS)
    return [COMPOUNDS[int(place)] for place in places]


class OfRows:
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags

    def fit(self, X, y=None):
        return super().fit(compounds(X), y)


class EmbeddingOfRows(OfRows, CrystalEmbedding):
    def transform(self, X):
        return super().transform(compounds(X))


class RegressorOfRows(OfRows, CGATRegressor):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # of the numbers that the targets depend on, a compound keeps little
        return tags

    def predict(self, X, return_std=False, known=None):
        return super().predict(compounds(X), return_std, known)


def exceptions(estimator) -> dict[str, str]:
    """Checks that do not apply, with the reason."""
    if isinstance(estimator, CrystalEmbedding):
        return {"check_transformer_general": "structures have no number of features that could be wrong"}
    return {
        "check_fit2d_1sample": "one structure is refused, but in words of our own",
        "check_regressor_data_not_an_array": "its targets are beyond what a formation energy can be, and refused",
    }


@pytest.fixture
def released(monkeypatch) -> None:
    """Random weights of double precision for a released model: single rounds by the batch, and rows are to be alike."""
    config, graph = ModelConfig(8, 8, 2, 2, neighbours=4, output_widths=(8,), roost_steps=1), GraphConfig(4)
    card = ModelCard("e_form", "eV/atom", "PBE", TargetStatistics(0.0, 1.0), config, graph, tuple(range(1, 104)))
    model = Ensemble((Predictor(CGAT(config).double(), card),))
    monkeypatch.setattr("cgatlib.recipes.load_model", lambda name: model)


@pytest.mark.usefixtures("released")
@parametrize_with_checks([EmbeddingOfRows()], expected_failed_checks=exceptions)
def test_the_embedding_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@parametrize_with_checks([RegressorOfRows(label="e_form", recipe="kernel")], expected_failed_checks=exceptions)
def test_the_regressor_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


# Structures as X


def test_the_embedding_is_that_of_the_model(model_folder, crystals):
    model = load_model(model_folder)
    embedded = CrystalEmbedding(model_folder).fit_transform(crystals[:5])
    np.testing.assert_array_equal(embedded, model.embed(crystals[:5]))
    second = replace(model, members=model.members[1:2]).embed(crystals[:5])
    np.testing.assert_array_equal(np.split(embedded, 2, axis=1)[1], second)  # the members side by side
    frame = CrystalEmbedding(model).set_output(transform="pandas").fit_transform(pd.Series(crystals[:5]))
    assert frame.shape == embedded.shape
    assert frame.columns[0] == "crystalembedding0"


def test_a_pipeline_learns_from_embeddings_and_is_searched_and_pickled(model_folder, crystals, energies):
    pipeline = make_pipeline(CrystalEmbedding(model_folder), StandardScaler(), Ridge())
    grid = {"ridge__alpha": [0.1, 1.0]}
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, grid, scoring="neg_mean_absolute_error", cv=folds).fit(crystals, energies)
    assert -search.best_score_ < 0.8 * np.abs(energies - energies.mean()).mean()
    np.testing.assert_allclose(pickled(search).predict(crystals[:5]), search.predict(crystals[:5]))


def test_the_regressor_is_searched_and_its_training_and_seed_are_parameters(model_folder, crystals, energies):
    regressor, half = CGATRegressor(model_folder, "e_form", "head", batch_size=16), (crystals[::2], energies[::2])
    grid = {"steps": [2], "learning_rate": [1e-3]}
    search = GridSearchCV(regressor, grid, cv=2, refit=False, error_score="raise").fit(*half)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert clone(regressor).get_params() == regressor.get_params()
    drawn = clone(regressor).set_params(steps=3, random_state=np.random.RandomState(0))
    members = drawn.fit(crystals, energies).model_.card.members
    assert [members[0].experiment["training"][name] for name in ("steps", "batch_size")] == [3, 16]
    first = members[0].experiment["seed"]
    assert first > 0
    assert [member.experiment["seed"] for member in members] == [first, first + 1]


def test_the_regressor_learns_states_its_uncertainty_and_is_pickled_with_its_weights(fitted, crystals, energies):
    predicted, uncertainty = fitted.predict(crystals, return_std=True)
    np.testing.assert_array_equal(predicted, pickled(fitted).predict(crystals))
    assert fitted.score(crystals, energies) > 0.5
    assert predicted.shape == uncertainty.shape == (144,)
    assert (uncertainty > 0).all()
    embedding = CrystalEmbedding(fitted.model_).fit(crystals)
    np.testing.assert_array_equal(pickled(embedding).transform(crystals[:9]), embedding.transform(crystals[:9]))


def test_a_fitted_model_is_saved_as_any_other(fitted, crystals, tmp_path):
    for _ in range(2):  # replaced
        fitted.model_.save(tmp_path / "mine")
    model = load_model(tmp_path / "mine")
    pd.testing.assert_frame_equal(model.predict(crystals[:9]), fitted.model_.predict(crystals[:9]))
    assert (model.card.functional, len(model.members)) == ("HSE", 2)
    (tmp_path / "notes").mkdir()
    with pytest.raises(CgatError, match="notes exists and is not a model: it is not replaced"):
        fitted.model_.save(tmp_path / "notes")


# What cannot be


def test_what_cannot_be_taken_is_named(fitted, crystals, energies, tmp_path):
    far = replace(crystals[0], numbers=np.array([92, 9]), material_id="uranium")
    for refused in (fitted.predict, fitted.model_.embed, CrystalEmbedding(fitted.model_).fit(crystals).transform):
        with pytest.raises(CgatError, match=r"structure 1 \(uranium\): element not in the training data: U$"):
            refused([crystals[1], far])
        with pytest.raises(CgatError, match=r"structure 0 \(.*a.cif\): .* \(and 1 more cannot be taken\)"):
            refused([tmp_path / "a.cif", crystals[1], far])
    with pytest.raises(CgatError, match="there are no structures to embed"):
        fitted.model_.embed([])
    with pytest.raises(CgatError, match=r"structure 1 \(absent.cif\): undecodable file"):
        fitted.model_.fine_tune([crystals[0], "absent.cif"], [0.1, 0.2], "e_form")
    with pytest.raises(CgatError, match="value 3 of y is nan"):
        clone(fitted).fit(crystals, [*energies[:3], np.nan, *energies[4:]])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(fitted).fit(crystals, energies[:9])
    with pytest.raises(CgatError, match="unknown label 'hardness'"):
        clone(fitted).set_params(model=fitted.model_, label="hardness").fit(crystals, energies)
    with pytest.raises(CgatError, match="no model 'absent'"):
        CrystalEmbedding("absent").fit(crystals)
