"""What is kept of a test crystal: what was computed for it, under a digest of its name, and no value of its table.

A table of errors has a row for each test crystal of a run, in the order of the ids:

- ``crystal``: digest of id and formula; who has the table finds the crystal again by `digests`.
- ``group``: place of its formula among the sorted formulas of the test set, which are redrawn together.
- ``error``: prediction minus target in the label's unit.
- ``non_metal``, ``level``: of band gaps only, whether the target is above `GAP_THRESHOLD`, and `levels`.
- ``seen``: of a run whose pre-training may have seen test crystals, how close that came: a value of `SEEN`.
"""

import hashlib
from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cgatlib.crystals.crystal import GAP_THRESHOLD, PROPERTIES

SEEN = ("same id in pre-training", "same formula only", "neither")
"""How close a pre-training set comes to a test crystal, the closest first."""

COLUMNS = ("crystal", "group", "error", "non_metal", "level", "seen")


def digests(ids: Iterable[str], formulas: Iterable[str]) -> NDArray[np.uint64]:
    """64 bits for each crystal that follow from its id and its reduced formula, and say neither."""
    texts = (f"{name}\0{formula}".encode() for name, formula in zip(ids, formulas, strict=True))
    return np.array(
        [int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") for text in texts], dtype=np.uint64
    )


def errors_of(predictions: pd.DataFrame, label: str) -> pd.DataFrame:
    """The errors of `Run.predictions`; of a target they keep no more than whether a band gap is that of a metal."""
    predictions = predictions.sort_values("material_id")
    target, prediction = (predictions[name].to_numpy(np.float64) for name in ("target", "prediction"))
    formulas = predictions["formula"].to_numpy(dtype=str)
    columns = {
        "crystal": digests(predictions["material_id"], formulas),
        "group": np.unique(formulas, return_inverse=True)[1].astype(np.int32),
        "error": prediction - target,
    }
    if PROPERTIES[label].name == "band_gap":
        columns["non_metal"] = target > GAP_THRESHOLD
        columns["level"] = levels(prediction, columns["non_metal"])
    if "seen" in predictions:
        columns["seen"] = predictions["seen"].to_numpy()
    return pd.DataFrame(columns)


def levels(gaps: NDArray[np.float64], non_metal: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Order of predicted gaps (T,) in eV as far as a classification asks for it; above 0 a non-metal is predicted.

    Equal gaps share a level, and so do neighbours in the order that are of one kind: which of two metals has the wider
    predicted gap changes no score, and would tell of their labels.
    """
    values, place = np.unique(gaps, return_inverse=True)
    kinds = np.zeros(len(values), dtype=np.int8)
    np.bitwise_or.at(kinds, place, np.where(non_metal, 2, 1).astype(np.int8))
    wide = values > GAP_THRESHOLD
    begins = (np.diff(kinds, prepend=0) != 0) | (kinds == 3) | np.diff(wide, prepend=False)
    numbers = np.cumsum(begins)
    return (numbers - np.max(numbers, where=~wide, initial=0))[place].astype(np.int32)


def seen_in(
    ids: Iterable[str], formulas: Iterable[str], known: Collection[str], compositions: Collection[str]
) -> list[str]:
    """How close a pre-training set of ids `known` and of `compositions` comes to each crystal, a value of `SEEN`."""
    return [
        SEEN[0] if name in known else SEEN[1] if formula in compositions else SEEN[2]
        for name, formula in zip(ids, formulas, strict=True)
    ]
