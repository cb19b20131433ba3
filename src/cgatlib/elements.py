"""Element vectors: what the network knows of an element before it has seen a crystal.

The matscholar vectors (200 numbers for each of the 103 elements from H to Lr) were learnt from the abstracts of
materials-science papers (Tshitoyan et al., Nature 571, 95 (2019), doi:10.1038/s41586-019-1335-8). They come with the
ElementEmbeddings package; only its data file is read, because importing the package pulls in its plotting stack.
"""

import json
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import torch
from torch import Tensor

ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr"
).split()
"""Chemical symbols in the order of the atomic number; ``ELEMENTS[z - 1]`` is element ``z``."""

ElementVectors = Literal["matscholar", "one-hot"]


@cache
def _matscholar() -> np.ndarray:
    path = (
        resources.files("elementembeddings")
        / "data"
        / "element_representations"
        / "matscholar-embedding.json"
    )
    vectors = json.loads(path.read_text())
    return np.array([vectors[symbol] for symbol in ELEMENTS])


def element_vectors(kind: ElementVectors = "matscholar") -> Tensor:
    """Vectors of all elements, one row per atomic number starting at hydrogen.

    Args:
        kind: ``"matscholar"`` (200 columns, unit length) or ``"one-hot"`` (103 columns, carries no chemistry).

    Returns:
        Tensor of shape (103, 200) or (103, 103), float64.
    """
    if kind == "one-hot":
        return torch.eye(len(ELEMENTS), dtype=torch.float64)
    return torch.from_numpy(_matscholar())
