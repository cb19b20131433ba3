"""What the paper did not try: recipes of transfer, and other methods on the same splits; where results are there."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cgatbook.answers import answer, text_of, title_of
from cgatbook.stored import Archives, Mae, StoredResults, training_of
from cgatlib.figures.style import MODES, QUANTITIES
from cgatlib.runs.experiment import Run

RECIPES: Mapping[str, str] = {
    "full": "plain full transfer",
    "fitted": "labels on the scale of the pre-trained network",
    "head_first": "output network first, then all weights",
    "interpolated": "between pre-trained and tuned weights",
    "kernel": "kernel machine on the embedding",
    "average": "mean of network and kernel machine",
    "joint": "pre-trained on four properties",
}
"""Last parts of the names of a plan's entries, in words."""

TARGETS: Mapping[str, tuple[str, int | None]] = {
    "hse-gap": ("gap-hse", None),
    "scan-gap": ("gap-scan", None),
    "r2scan-e_form": ("e_form-r2scan", None),
    "pbesol-volume": ("volume-pbesol", None),
    "r2scan-volume": ("volume-r2scan-sizes", 4000),
}
"""Folders of ``data/peers``: how the names of our entries begin, and the training size of those that have several."""


def recipe_table(part: StoredResults) -> pd.DataFrame:
    """Every recipe of a plan (entries ``TARGET-RECIPE``) against ``TARGET-full`` on the same crystals, one row each."""
    rows = {}
    for plain in [name for name in part.plan.entries if name.endswith("-full") and part.has(name)]:
        title, start = title_of(part.runs(plain)[0]), plain.removesuffix("full")
        for name in [name for name in part.plan.entries if name.startswith(start) and part.has(name)]:
            q = QUANTITIES[part.runs(name)[0].experiment.label]
            words = ", ".join(RECIPES[word] for word in name.removeprefix(start).split("-"))
            cells = answer(part, name, plain).cells if name != plain else {}
            rows[f"{title} / {q.error_unit}: {words}"] = {
                "MAE": text_of(part.mae(name), q),
                **{column: cells.get(column) for column in ("reduction / %", "95 %: from", "to", "transfer")},
                "seconds": f"{_seconds(part.runs(name)):.0f}",
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename(columns={"transfer": "recipe"})


def recipe_sentence(table: pd.DataFrame) -> str:
    """Which recipes of `recipe_table` beat plain full transfer beyond doubt."""
    better = table[table["recipe"] == "helps"]
    found = "; ".join(f"{name} ({row['reduction / %']} % less)" for name, row in better.iterrows())
    count = f"{len(better) or 'none'} of {table['recipe'].count()} beat plain full transfer beyond doubt"
    return f"{count}: {found}." if found else f"{count}."


def method_errors(real: Archives, folder: Path) -> pd.DataFrame:
    """Test errors of ours and of other methods: [method, target, error (of the label), MAE (text), seconds (text)].

    Args:
        real: our runs. folder: of the results of others (``data/peers``); a target without any is left out.
    """
    rows: list[dict[str, Any]] = []
    published = json.loads((folder / "published.json").read_text())
    for target, (start, size) in TARGETS.items():
        peers = [json.loads(path.read_text()) for path in sorted((folder / target).glob("*.json"))]
        if not peers:
            continue
        ours = _ours(real, start, size)
        run = ours["full"][0]
        guess = pd.Series([run.metrics["test_mad"] for run in ours["full"]]).mean()
        found = {"guess": (Mae(guess, math.nan), math.nan)}
        found |= {f"ours, {MODES[mode].name}": (Mae.of(runs), _seconds(runs)) for mode, runs in ours.items()}
        found |= {peer["name"]: (_over(fit["mae"] for fit in peer["fits"]), _cost(peer["fits"])) for peer in peers}
        for other in [other for other in published if other["target"] == target]:
            found[f"{other['name']}, as published"] = Mae(other["mae"], math.nan), math.nan
        q = QUANTITIES[run.experiment.label]
        rows += [
            {
                "method": name,
                "target": f"{title_of(run)} / {q.error_unit}, ours {training_of(run)}",
                "error": mae.value,
                "MAE": text_of(mae, q),
                "seconds": None if math.isnan(seconds) else f"{seconds:,.0f}",
            }
            for name, (mae, seconds) in found.items()
        ]
    return pd.DataFrame(rows)


def by_target(errors: pd.DataFrame, what: str) -> pd.DataFrame:
    """A column of `method_errors` with a row a method and a column a target, which names its unit with errors alone."""
    wide = errors.dropna(subset=what).pivot_table(what, "method", "target", aggfunc="first")
    order = [name for name in errors["method"].unique() if name in wide.index]
    wide = wide.loc[order, errors["target"].unique()].rename_axis(None)
    return wide.rename(columns=lambda target: target.partition(" / ")[0]) if what == "seconds" else wide


def method_sentence(errors: pd.DataFrame) -> str:
    """On how many targets full transfer has the lowest error of all that learnt from our splits."""
    run_here = errors[~errors["method"].str.endswith("as published")]
    best = run_here.loc[run_here.groupby("target", sort=False)["error"].idxmin(), ["target", "method"]]
    first = (best["method"] == f"ours, {MODES['full'].name}").sum()
    lower = [f"{target.partition(' / ')[0]}: {name}" for target, name in best.to_numpy() if "ours, " not in name]
    end = f" Lower elsewhere: {'; '.join(lower)}." if lower else ""
    count = f"{first} of {len(best)} targets"
    return f"Of all methods run on our splits, full transfer has the lowest error on {count}.{end}"


def _ours(real: Archives, start: str, size: int | None) -> dict[str, list[Run]]:
    """Our runs by mode, all of one archive, so that they were trained alike; at one size where there are several."""
    part = real.of(f"{start}-none", f"{start}-full")
    entries = {mode: f"{start}-{mode}" for mode in ("none", "head", "full")}
    return {
        mode: [run for run in part.runs(entry) if size in (None, run.experiment.train_size)]
        for mode, entry in entries.items()
        if entry in part.plan.entries and part.has(entry)
    }


def _over(maes: Iterable[float]) -> Mae:
    values = pd.Series(list(maes))
    return Mae(float(values.mean()), float(values.std(ddof=1)))


def _seconds(runs: Sequence[Run]) -> float:
    return sum(float(run.metrics["seconds"]) for run in runs) / len(runs)


def _cost(fits: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of one core for a fit with its trials, and for the embedding where the method has one."""
    embedding = fits[0].get("embedding") or {"core": 0.0}
    return float(embedding["core"] + sum(fit["seconds"]["core"] for fit in fits) / len(fits))
