"""What the repository carries: results, with a notice of their sources, and nothing of the tables they came from."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cgatlib.crystals.crystal import PROPERTIES
from cgatlib.runs.tested import COLUMNS, digests

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src/cgatlib/released_models"
COMPUTED = {"curves.parquet": {"key", "step", "epoch", "learning_rate", "train_mae", "validation_mae"}}
COMPUTED |= {"errors.parquet": {"key", *COLUMNS}, "baselines.parquet": {"entry", *COLUMNS}}
TEXTS = [*ROOT.glob("data/runs/**/*.json"), *MODELS.glob("*/card.json")]


def test_tables_of_results_have_columns_of_results():
    files = list(ROOT.glob("data/runs/**/*.parquet"))
    assert {path.name for path in files} == set(COMPUTED)
    of_each_label = {f"validation_mae_{label}" for label in PROPERTIES}
    for path in files:
        assert set(pq.read_schema(path).names) - of_each_label == COMPUTED[path.name], path


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_no_ids(path):
    text = path.read_text()
    assert not re.findall(r"\b(?:mp|mvc|agm|demo)-\d+", text)


@pytest.mark.parametrize("folder", [ROOT / "data/runs", MODELS], ids=["runs", "models"])
def test_a_notice_names_sources_and_licences(folder):
    text = (folder / "NOTICE.md").read_text()
    for what in ("Materials Project", "CC BY 4.0", "MEGNet", "BSD-3-Clause", "phononDB", "RxnNet", "MIT"):
        assert what in text, what
    named = {path.parent.name for path in MODELS.glob("*/card.json")}
    assert folder != MODELS or all(f"`{name}`" in text for name in named)


def test_predictors_that_learn_nothing_keep_their_mean_error_alone():
    entries = json.loads((ROOT / "data/runs/real_data/baselines.json").read_text())["baselines"]
    kept = set(pq.read_table(ROOT / "data/runs/real_data/baselines.parquet")["entry"].to_pylist())
    learn = {i for i, entry in enumerate(entries) if entry["name"] not in ("mean", "median", "source label")}
    assert kept == learn < set(range(len(entries)))


def test_who_has_the_tables_can_join_them(shared):
    """And the errors are no label of theirs, in single precision, more often than by chance."""
    table = pq.read_table(shared / "data/mp/pbe.parquet", columns=["material_id", "formula", "volume_per_atom"])
    known = digests(table["material_id"].to_pylist(), table["formula"].to_pylist())
    errors = pq.read_table(ROOT / "data/runs/real_data/errors.parquet", columns=["crystal", "error"])
    share = np.isin(errors["crystal"].to_numpy(), known).mean()
    assert share > 0.9  # HSE and SCAN sets have crystals of their own
    labels = table["volume_per_atom"].to_numpy().astype(np.float32)
    assert np.isin(errors["error"].to_numpy(), labels).mean() < 1e-3
