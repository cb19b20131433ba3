"""Formulas as element fractions and as statistics of elemental attributes."""

import numpy as np
import pytest

from cgatlib import CgatError
from cgatlib.crystals.composition import composition_features, element_amounts, element_fractions
from cgatlib.crystals.crystal import ATOMIC_NUMBERS, SYMBOLS
from cgatlib.crystals.table import CrystalTable


@pytest.mark.parametrize(
    ("formula", "amounts"),
    [
        ("NaCl", {"Na": 1, "Cl": 1}),
        ("Ca3(PO4)2", {"Ca": 3, "P": 2, "O": 8}),
        ("K(Fe(CN)3)2", {"K": 1, "Fe": 2, "C": 6, "N": 6}),
        ("Co", {"Co": 1}),
        ("CO", {"C": 1, "O": 1}),
        ("Li0.5CoO2", {"Li": 0.5, "Co": 1, "O": 2}),
        ("CH3CH3", {"C": 2, "H": 6}),
    ],
)
def test_formulas_are_read(formula, amounts):
    assert dict(element_amounts(formula)) == amounts


@pytest.mark.parametrize("text", ["", "nacl", "Xx2", "Rf", "D2O", "Fe2)", "(Fe2", "Fe-O", "2Fe", "()", "Fe0"])
def test_other_texts_are_refused_by_name(text):
    with pytest.raises(CgatError, match="is no chemical formula of elements up to Lr") as caught:
        element_fractions(["NaCl", text])
    assert repr(text) in str(caught.value)


def test_fractions_stand_in_the_column_of_the_atomic_number():
    fractions = element_fractions(["Ca3(PO4)2", "H2"])
    assert fractions.shape == (2, len(SYMBOLS))
    assert fractions.sum(axis=1) == pytest.approx([1, 1])
    assert fractions[0, ATOMIC_NUMBERS["O"] - 1] == pytest.approx(8 / 13)
    assert fractions[1, 0] == 1


def test_features_of_an_element_are_its_attributes_without_spread():
    mean, variance, low, high, width = composition_features(["Fe"]).reshape(5, -1)
    assert (mean == low).all()
    assert (mean == high).all()
    assert not variance.any()
    assert not width.any()
    assert 26.0 in mean


def test_features_weigh_elements_by_their_fraction():
    iron, oxygen, oxide = (row.reshape(5, -1) for row in composition_features(["Fe", "O2", "Fe2O3"]))
    assert oxide[0] == pytest.approx(0.4 * iron[0] + 0.6 * oxygen[0])
    assert oxide[1] == pytest.approx(0.4 * 0.6 * (iron[0] - oxygen[0]) ** 2)
    assert oxide[2] == pytest.approx(np.minimum(iron[0], oxygen[0]))
    assert oxide[4] == pytest.approx(np.abs(iron[0] - oxygen[0]))


def test_features_beyond_the_table_are_missing_not_made_up():
    features = composition_features(["CfO2", "UO2"])
    assert np.isnan(features[0]).all()
    assert np.isfinite(features[1]).all()


@pytest.mark.slow  # imports a plotting stack
def test_features_are_those_of_the_package_the_attributes_come_from():
    from elementembeddings.composition import CompositionalEmbedding

    formulas = ["NaCl", "Ca3(PO4)2", "LiCoO2", "Fe"]
    names = ["mean", "variance", "minpool", "maxpool", "range"]
    expected = [CompositionalEmbedding(formula, "magpie").feature_vector(names) for formula in formulas]
    np.testing.assert_allclose(composition_features(formulas), expected, rtol=1e-9, atol=1e-9)


def test_formulas_of_real_crystals_give_the_fractions_of_their_atoms(real_data):
    table = CrystalTable.read(real_data / "gaps_high_fidelity.parquet", "HSE")
    expected = np.array([np.bincount(numbers, minlength=104)[1:] for numbers in table.table["numbers"].to_pylist()])
    expected = expected / expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(element_fractions(table.formulas), expected, atol=1e-12)
