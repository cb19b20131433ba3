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

from cgatlib.crystals.crystal import SYMBOLS

ElementVectors = Literal["matscholar", "one-hot"]


@cache
def _matscholar() -> np.ndarray:
    path = resources.files("elementembeddings") / "data" / "element_representations" / "matscholar-embedding.json"
    vectors = json.loads(path.read_text())
    return np.array([vectors[symbol] for symbol in SYMBOLS])


def element_vectors(kind: ElementVectors = "matscholar") -> Tensor:
    """Vectors of all elements, one row per atomic number starting at hydrogen.

    Args:
        kind: ``"matscholar"`` (200 columns, unit length) or ``"one-hot"`` (103 columns, carries no chemistry).

    Returns:
        Tensor of shape (103, 200) or (103, 103), float64.
    """
    if kind == "one-hot":
        return torch.eye(len(SYMBOLS), dtype=torch.float64)
    return torch.from_numpy(_matscholar())
