"""Estimates of errors: they rank and cover errors that they were not learnt from, and are stored whole."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from cgatlib import CgatError
from cgatlib.uncertainty import FILE, Estimator, learnt, load_estimators, save_estimators

WIDTH = 12


@pytest.fixture(scope="module")
def made_up():
    """Embeddings, outputs of two members, and errors that grow with one part of the embedding and with the spread."""
    rng = np.random.default_rng(0)
    embeddings, values = rng.normal(size=(1200, WIDTH)), rng.normal(size=(2, 1200))
    size = np.exp(embeddings[:, 3]) * np.abs(values[0] - values[1])
    return embeddings, values, size * np.abs(rng.normal(size=1200))


@pytest.fixture(scope="module")
def fitted(made_up) -> tuple[Estimator, float]:
    """Learnt from the second third; the first is that of the references."""
    embeddings, values, errors = made_up
    estimator = Estimator.of(embeddings[:400])
    formulas = [f"A{row // 2}" for row in range(400)]
    found = learnt(estimator.features(embeddings[400:800], values[:, 400:800]), errors[400:800], formulas, WIDTH)
    assert found is not None
    return replace(estimator, lines={"e_form": found[0]}), found[1]


def test_estimates_rank_and_cover_errors_of_other_crystals(fitted, made_up):
    estimator, factor = fitted
    embeddings, values, errors = (x[..., 800:] if x.ndim < 2 or len(x) == 2 else x[800:] for x in made_up)
    uncertainty = factor * estimator("e_form", embeddings, values)
    assert spearmanr(uncertainty, errors).statistic > 0.6
    assert 0.6 <= (errors <= uncertainty).mean() <= 0.75


def test_one_member_has_no_spread_and_still_an_estimate(made_up):
    embeddings, values, errors = made_up
    estimator = Estimator.of(embeddings[:400])
    both = estimator.features(embeddings[400:800], values[:, 400:800])
    one = estimator.features(embeddings[400:800], values[:1, 400:800])
    assert one.shape == (400, both.shape[1] - 1)
    line, _ = learnt(one, errors[400:800], [str(row) for row in range(400)], WIDTH)
    assert len(line) == one.shape[1] + 1


def test_a_crystal_far_from_all_references_is_told_from_one_among_them(fitted):
    estimator, _ = fitted
    features = estimator.features(np.stack([np.zeros(WIDTH), np.full(WIDTH, 4.0)]), np.zeros((2, 2)))
    assert (features[1, :3] > features[0, :3] + 0.5).all()


@pytest.mark.parametrize(("n", "formulas"), [(9, 9), (50, 1)])
def test_too_little_teaches_nothing(n, formulas, made_up):
    embeddings, values, errors = made_up
    features = Estimator.of(embeddings).features(embeddings[:n], values[:, :n])
    assert learnt(features, errors[:n], [str(row % formulas) for row in range(n)], WIDTH) is None


def test_what_is_stored_is_what_is_read(fitted, made_up, tmp_path):
    estimator, _ = fitted
    digest = save_estimators([estimator], tmp_path)
    (read,) = load_estimators(tmp_path, digest, [(("e_form",), WIDTH, 2)])
    embeddings, values, _ = made_up
    np.testing.assert_array_equal(read("e_form", embeddings, values), estimator("e_form", embeddings, values))


def test_what_was_not_written_with_it_is_refused(fitted, tmp_path):
    digest = save_estimators([fitted[0]], tmp_path)
    with pytest.raises(CgatError, match="is not of 1 members with embeddings of 12 numbers"):
        load_estimators(tmp_path, digest, [(("e_form",), WIDTH, 1)])
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CgatError, match="is not the file that was written with it"):
        load_estimators(tmp_path, digest, [(("e_form",), WIDTH, 2)])
    wild = replace(fitted[0], lines={"e_form": np.full_like(fitted[0].lines["e_form"], np.nan)})
    digest = save_estimators([wild], tmp_path)
    with pytest.raises(CgatError, match="holds a number that is not finite"):
        load_estimators(tmp_path, digest, [(("e_form",), WIDTH, 2)])
