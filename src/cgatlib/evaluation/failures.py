"""Where a network fails: by element, by size of the cell, and the crystals with the largest errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from cgatlib import CgatError
from cgatlib.composition import element_fractions
from cgatlib.crystals.checks import SYMBOLS
from cgatlib.evaluation.intervals import metric_by_seed, score_of
from cgatlib.evaluation.scored import Scored, Seeds


def error_by_element(seeds: Seeds, formulas: Mapping[str, str], at_least: int = 10) -> pd.DataFrame:
    """MAE of the test crystals that contain an element, worst element first.

    Args:
        seeds: predictions, one table per seed. formulas: reduced formula by material id.
        at_least: test crystals an element needs to be listed.

    Returns:
        ``element``, ``crystals``, ``mae``, ``low``, ``high`` (95 % interval), ``ratio`` (to the MAE of all crystals).
    """
    scored = Scored.of(seeds, formulas)
    contains = element_fractions(scored.formulas.tolist()) > 0
    listed = [z for z in range(len(SYMBOLS)) if contains[:, z].sum() >= at_least]
    rows = [{"element": SYMBOLS[z], **_part(scored, contains[:, z])} for z in listed]
    columns = ["element", "crystals", "mae", "low", "high", "ratio"]
    return pd.DataFrame(rows, columns=columns).sort_values("mae", ascending=False, ignore_index=True)


def error_by_size(
    seeds: Seeds,
    formulas: Mapping[str, str],
    n_atoms: Mapping[str, int],
    bounds: Sequence[int] = (1, 3, 5, 9, 17, 33),
) -> pd.DataFrame:
    """MAE by the number of atoms of the primitive cell.

    Args:
        seeds: predictions, one table per seed. formulas: reduced formula by material id.
        n_atoms: number of atoms by material id. bounds: first sizes of the classes and the first size beyond the last.

    Returns:
        ``smallest``, ``largest`` (atoms), ``crystals``, ``mae``, ``low``, ``high``, ``ratio`` as `error_by_element`;
        classes without a crystal are left out.

    Raises:
        CgatError: the number of atoms of a crystal is not known, or lies outside the bounds.
    """
    scored = Scored.of(seeds, formulas)
    unknown = [i for i in scored.ids if i not in n_atoms]
    if unknown:
        raise CgatError(f"the number of atoms of {unknown[0]} is not known")
    sizes = np.array([n_atoms[i] for i in scored.ids])
    if sizes.min() < bounds[0] or sizes.max() >= bounds[-1]:
        raise CgatError(
            f"cells of {sizes.min()} to {sizes.max()} atoms do not fit into {bounds[0]} to {bounds[-1] - 1} atoms"
        )
    rows = []
    for first, beyond in pairwise(bounds):
        inside = (sizes >= first) & (sizes < beyond)
        if inside.any():
            rows.append({"smallest": first, "largest": beyond - 1, **_part(scored, inside)})
    return pd.DataFrame(rows)


def worst_crystals(seeds: Seeds, formulas: Mapping[str, str], n: int = 20) -> pd.DataFrame:
    """The `n` test crystals with the largest absolute error, the seeds' mean prediction being judged.

    Returns:
        ``material_id``, ``formula``, ``target``, ``prediction`` (mean over seeds), ``error`` (prediction - target) and
        ``spread`` (standard deviation over seeds, NaN for one seed): a large error with a small spread is one that more
        seeds do not cure.
    """
    scored = Scored.of(seeds, formulas)
    mean = scored.predictions.mean(axis=0)
    several = len(scored.predictions) > 1
    table = pd.DataFrame(
        {
            "material_id": scored.ids,
            "formula": scored.formulas,
            "target": scored.targets,
            "prediction": mean,
            "error": mean - scored.targets,
            "spread": scored.predictions.std(axis=0, ddof=1) if several else np.nan,
        }
    )
    worst = np.argsort(-np.abs(table["error"].to_numpy()), kind="stable")[:n]
    return table.iloc[worst].reset_index(drop=True)


def _part(scored: Scored, rows: np.ndarray) -> dict[str, Any]:
    """Score of some of the crystals, and its ratio to that of all."""
    score = score_of(scored.at(rows))
    whole = metric_by_seed(scored).mean()
    return {
        "crystals": score.crystals,
        "mae": score.estimate.value,
        "low": score.estimate.low,
        "high": score.estimate.high,
        "ratio": score.estimate.value / whole,
    }
