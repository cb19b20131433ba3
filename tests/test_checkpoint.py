"""Checkpoints of the released code: used without being executed, whole or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import Ensemble
from cgatlib.predictor import Predictor, import_released


@pytest.fixture
def checkpoint(shared: Path) -> Path:
    return shared / "golden" / "released_checkpoint.ckpt"


def test_import_carries_sizes_and_scale(checkpoint, tmp_path, invoke):
    """The sizes come from the weights: the file's hyper-parameters state another edge width."""
    out = tmp_path / "model"
    invoke("checkpoint", "import", checkpoint, "--out", out, "--label", "e_form", "--functional", "PBE")
    card = Predictor.load(out).card
    assert (card.model.atom_width, card.model.edge_width, card.model.heads, card.model.steps) == (32, 128, 2, 2)
    assert (card.model.neighbours, card.graph.neighbours, card.graph.ties) == (12, 12, "reference")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    assert (card.statistics.mean, card.statistics.std) == (float(state["mean"]), float(state["std"]))
    assert (card.label, card.unit, card.functional) == ("e_form", "eV/atom", "PBE")


def test_imported_model_predicts_what_the_released_code_does(checkpoint, shared):
    """From cell to value, on the crystals whose lists the released code defines without ties, also those cut at 12."""
    golden = np.load(shared / "golden" / "inputs.npz")
    cut = golden["ranks"][:, 11] == golden["ranks"][:, 12]  # the network reads 12 neighbours of 24
    atoms = np.repeat(np.arange(len(golden["n_atoms"])), golden["n_atoms"])
    defined = golden["tie_free"] & ~np.isin(np.arange(len(golden["n_atoms"])), atoms[cut])
    assert defined.sum() == 15
    table = CrystalTable.read(shared / "data" / "mp" / "pbe.parquet", "PBE")
    row = {material_id: i for i, material_id in enumerate(table.ids)}
    crystals = [table.crystal(row[material_id]) for material_id in golden["material_id"][defined]]
    expected = np.load(shared / "golden" / "released_checkpoint_predictions.npz")["prediction"][defined]
    found = Ensemble((import_released(checkpoint, "e_form", "PBE"),)).predict(crystals)
    assert set(found["note"]) == {""}
    np.testing.assert_allclose(found["prediction"], expected, rtol=0, atol=1e-6)


class _Hostile:
    """Pickles to a call."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_hostile_file_is_refused_and_not_executed(tmp_path):
    trace = tmp_path / "executed"
    torch.save({"state_dict": {"mean": torch.zeros(1)}, "extra": _Hostile(trace)}, tmp_path / "hostile.ckpt")
    with pytest.raises(CgatError, match=r"hostile\.ckpt is refused"):
        import_released(tmp_path / "hostile.ckpt", "e_form", "PBE")
    assert not trace.exists()


SCALE = {"mean": 0.0, "std": 1.0}
NONE = "is not a checkpoint of the released code: "
EMPTY = {
    "model.embedding.weight": torch.zeros(0, 0),
    "model.nbr_embedding.weight": torch.zeros(13, 0),
    "model.graphs.0.Node.MH_A.fc_in.weight": torch.zeros(4, 1),
    "model.output_nn.fcs.0.weight": torch.zeros(1, 1),
}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is refused"),
        (b"no pickle", "is refused"),
        ({"weights": {}}, NONE + "'state_dict' is missing"),
        ({"state_dict": SCALE}, NONE + ".*embedding.weight"),
        ([], NONE + "list indices must be"),
        ({"state_dict": [1]}, NONE + "list indices must be"),
        ({"state_dict": SCALE | {"std": 0.0}}, NONE),
        ({"state_dict": SCALE | {"model.embedding.weight": "x"}}, NONE),
        ({"state_dict": SCALE | EMPTY}, NONE),
        (
            {"state_dict": SCALE | {"model.embedding.weight": torch.zeros(1).expand(10**6, 10**6)}},
            r"a weight of size \(1000000, 1000000\) is not stored in full",
        ),
    ],
)
def test_odd_checkpoints_are_refused_in_one_sentence(content, sentence, tmp_path):
    path = tmp_path / "odd.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CgatError, match=rf"odd\.ckpt.* {sentence}") as refusal:
        import_released(path, "e_form", "PBE")
    assert "\n" not in str(refusal.value)
    with pytest.raises(CgatError, match="unknown label 'energy'; known: e_form"):
        import_released(path, "energy", "PBE")
