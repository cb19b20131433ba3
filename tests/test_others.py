"""Recipes and other methods: what their tables and sentences say of results that are there."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cgatbook import others
from cgatbook.stored import Archives, MissingRunsError, StoredResults, training_of

ROOT = Path(__file__).parents[1]
NAMES = {  # recipe -> runs of another plan that stand in for it
    "volume-pbesol-full": "volume-pbesol-head",
    "volume-pbesol-fitted": "volume-pbesol-full",
    "volume-pbesol-joint-kernel": "volume-pbesol-none",
    "volume-pbesol-average": "",
}


@pytest.fixture(scope="module")
def real() -> Archives:
    return Archives.open(ROOT, [["data/plans/real_data.yaml", "data/runs/real_data"]])


def test_recipes(real):
    part = real.parts[0]

    class Renamed(StoredResults):
        def runs(self, name):
            if not NAMES[name]:
                raise MissingRunsError(name)
            return part.runs(NAMES[name])

    found = others.recipe_table(Renamed(SimpleNamespace(entries=NAMES), part.archive))
    start = "PBEsol volume / Å³/atom: "
    assert list(found.index) == [
        f"{start}plain full transfer",
        f"{start}labels on the scale of the pre-trained network",
        f"{start}pre-trained on four properties, kernel machine on the embedding",
    ]
    assert found["recipe"].iloc[1:].tolist() == ["helps", "harms"]
    assert "1 of 2 beat plain full transfer beyond doubt: PBEsol volume / Å³/atom: labels" in others.recipe_sentence(
        found
    )
    assert others.recipe_sentence(found.iloc[[0, 2]]).endswith("none of 1 beat plain full transfer beyond doubt.")


def test_methods(real, tmp_path):
    (tmp_path / "published.json").write_text(json.dumps([{"name": "X", "target": "pbesol-volume", "mae": 0.5}]))
    assert others.method_errors(real, tmp_path).empty
    fits = [{"split": 0, "seed": seed, "mae": mae, "seconds": {"core": 1200.0}} for seed, mae in enumerate((0.1, 0.2))]
    peer = {"name": "Another", "fits": [{**fit, "embedding": {"core": 34.0}} for fit in fits]}
    (tmp_path / "pbesol-volume").mkdir()
    (tmp_path / "pbesol-volume" / "another.json").write_text(json.dumps(peer))
    found = others.method_errors(real, tmp_path)
    errors, seconds = (others.by_target(found, what) for what in ("MAE", "seconds"))
    assert list(errors.index) == [
        "guess",
        "ours, no transfer",
        "ours, only regression head",
        "ours, full transfer",
        "Another",
        "X, as published",
    ]
    assert list(errors.columns) == ["PBEsol volume / Å³/atom, ours short"]
    assert errors.loc[["Another", "X, as published"]].to_numpy().ravel().tolist() == [
        "0.150\u00a0±\u00a00.071",
        "0.500",
    ]
    assert seconds.loc["Another"].item() == "1,234"
    assert list(seconds.columns) == ["PBEsol volume"]
    assert "guess" not in seconds.index
    assert others.method_sentence(found).endswith("on 0 of 1 targets. Lower elsewhere: PBEsol volume: Another.")
    assert others.method_sentence(found[found["method"] != "Another"]) == (
        "Of all methods run on our splits, full transfer has the lowest error on 1 of 1 targets."
    )


def test_our_runs_of_a_target_are_of_one_archive():
    pairs = [[f"data/plans/{name}.yaml", f"data/runs/{name}"] for name in ("converged", "real_data")]
    long, short = Archives.open(ROOT, pairs).parts
    scratch = {key for key, run in long.archive.items() if run.experiment.transfer.mode == "none"}
    kept = {key: run for key, run in long.archive.items() if key not in scratch or run.experiment.functional == "PBE"}
    lacking = StoredResults(long.plan, kept)
    assert lacking.has("volume-r2scan-sizes-full")  # which must not stand beside a short run without transfer
    ours = others._ours(Archives((lacking, short)), "volume-r2scan-sizes", 4000)
    assert {training_of(run) for runs in ours.values() for run in runs} == {"short"}
