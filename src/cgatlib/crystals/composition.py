"""Compositions as numbers: element fractions, and statistics of the elements' tabulated properties.

The properties are the 22 elemental attributes of Magpie (Ward et al., npj Comput. Mater. 2, 16028 (2016),
doi:10.1038/npjcompumats.2016.28), from the data file of the ElementEmbeddings package (importing the package pulls in
its plotting stack); the statistics are those of its compositional featuriser, for all compositions at once.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.crystals.crystal import ATOMIC_NUMBERS, SYMBOLS

Array = NDArray[np.float64]


@cache
def element_amounts(formula: str) -> MappingProxyType[str, float]:
    """Atoms of each element in a formula unit, e.g. ``Ca3(PO4)2`` -> Ca 3, P 2, O 8.

    Raises:
        CgatError: the text is no formula, or names an element beyond Lr, or D, which is not taken for hydrogen.
    """
    from pymatgen.core.composition import Composition

    amounts: dict[str, float] = {}
    if ATOMIC_NUMBERS.keys() >= set(re.findall("[A-Z][a-z]?", formula)):
        with suppress(ValueError):
            amounts = Composition(formula).get_el_amt_dict()
    if not amounts:
        raise CgatError(f"{formula!r} is no chemical formula of elements up to {SYMBOLS[-1]}")
    return MappingProxyType(amounts)


def element_fractions(formulas: Sequence[str]) -> Array:
    """Atomic fractions, (n, 103), column by atomic number from hydrogen on; rows add up to 1."""
    fractions = np.zeros((len(formulas), len(SYMBOLS)))
    for row, formula in zip(fractions, formulas, strict=True):
        for symbol, amount in element_amounts(formula).items():
            row[ATOMIC_NUMBERS[symbol] - 1] = amount
    return fractions / fractions.sum(axis=1, keepdims=True)


@cache
def _magpie() -> Array:
    """Attributes of the elements, (103, 22); NaN for those beyond Bk, which the table does not hold."""
    path = resources.files("elementembeddings") / "data" / "element_representations" / "magpie.csv"
    with path.open() as file:
        return pd.read_csv(file, index_col="element").reindex(SYMBOLS).to_numpy(dtype=float)


def composition_features(formulas: Sequence[str]) -> Array:
    """Mean, variance, minimum, maximum and range of 22 elemental attributes over each composition, (n, 110).

    Mean and variance are weighted by the atomic fractions. A composition with an element beyond Bk has NaN throughout.
    """
    fractions = element_fractions(formulas)
    rows, elements = np.nonzero(fractions)  # (P,) present elements, composition by composition
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    weights = fractions[rows, elements][:, None]
    values = _magpie()[elements]  # (P, 22)
    mean = np.add.reduceat(weights * values, starts)
    variance = np.add.reduceat(weights * (values - mean[rows]) ** 2, starts)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.concatenate([mean, variance, low, high, high - low], axis=1)
