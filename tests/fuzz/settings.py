"""Targets that read what is no crystal: plans, checkpoints, models and runs."""

import io
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml

from cgatlib.cli.models import _lines
from cgatlib.crystals.crystal import Crystal
from cgatlib.ensemble import load_model, released_models
from cgatlib.inputs import EmbeddingInputs, TargetStatistics
from cgatlib.model.cgat import CGAT, OutputNetwork
from cgatlib.model.config import MODELS
from cgatlib.predictor import Predictor, import_released, reading_model
from cgatlib.runs.plan import Plan
from cgatlib.runs.store import Runs
from cgatlib.training import TrainingConfig, fit
from fuzz.harness import Target

PLAN = {
    "about": "A study of two tables",
    "tables": {
        "pbe": {"file": "pbe.parquet", "functional": "PBE", "fingerprint": "a" * 16, "labels": {"e_form": "e"}},
        "hse": {"file": "x.parquet", "functional": "HSE", "fingerprint": "b" * 16, "agree": {"e_form": ["f", 0.1]}},
    },
    "defaults": {"model": "tiny", "label": "e_form", "steps": 50, "cycles": 1, "evaluations": 5, "seeds": [0, 1]},
    "runs": {
        "base": {"table": "pbe", "steps": 100, "learning_rate": 0.003, "network": {"heads": 2}},
        "none": {"table": "hse", "learning_rate": [0.001, 0.002], "sizes": [20, None], "network": {"heads": 2}},
        "full": {
            "table": "hse",
            "from": "base",
            "mode": "full",
            "learning_rate": {"of": "none"},
            "network": {"heads": 2},
        },
    },
}
BOMB = "about: x\nruns: {}\ntables:\n  a: &a {b: [1, 2, 3]}\n  c: &c [*a, *a, *a, *a]\n  d: [*c, *c, *c, *c, *c]\n"
QUICK = TrainingConfig(steps=4, batch_size=8, cycles=1, evaluations=2)
CRYSTAL = Crystal("x", 2.8 * (1 - np.eye(3)), np.array([11, 17]), np.array([[0.0] * 3, [0.5] * 3]), {})


def settings_targets() -> list[Target]:
    """One target per kind of file, each with a sound one as its seed."""
    texts = [json.dumps(PLAN), yaml.safe_dump(PLAN, sort_keys=False), BOMB]
    targets = [
        Target("plan", [text.encode() for text in texts], plan),
        Target("checkpoint of a run", [sound := _checkpoint()], partial(checkpoint, sound)),
        Target("checkpoint import", _checkpoints(), checkpoint_import),
    ]
    folder = Path(next(iter(released_models().values())))
    targets.append(
        Target("model card.json", [(folder / "card.json").read_bytes()], partial(model, folder, "card.json"))
    )
    run = _run()
    for name in ("model.json", "weights.safetensors"):
        targets.append(Target(f"run {name}", [run[name]], partial(model_of_a_run, run, name)))
    return targets


def plan(data: bytes, folder: Path) -> str:
    """Read a plan and list its runs."""
    path = folder / "plan.yaml"
    path.write_bytes(data)
    found = Plan.read(path)
    if any("fingerprint" not in table for table in found.tables.values()):
        return "read, to be opened"
    keys = {planned.experiment.key for planned in found.outline(Runs(folder / "runs"))}
    assert {path.name for path in folder.iterdir()} == {"plan.yaml"}, "a plan that writes"
    return "read and outlined" if keys else "without runs"


def checkpoint(sound: bytes, data: bytes, folder: Path) -> str:
    """Go on from a checkpoint; a changed one is refused, so that it is used as it was written or not at all."""
    path = folder / "checkpoint.pt"
    path.write_bytes(data)
    _fit(path)
    assert data == sound, "a changed checkpoint was used"
    return "gone on from"


def checkpoint_import(data: bytes, folder: Path) -> str:
    """Import a checkpoint of the released code."""
    path = folder / "released.ckpt"
    path.write_bytes(data)
    import_released(path, "e_form", "PBE").save(folder / "model")
    Predictor.load(folder / "model")
    return "imported"


def model(sound: Path, name: str, data: bytes, folder: Path) -> str:
    """Load a model of several members, show it, predict."""
    for path in sound.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / name).unlink()
    (folder / name).write_bytes(data)
    found = load_model(folder)
    assert found.card is not None
    with reading_model(folder):
        assert list(_lines("model", found.card))
    return _predicted(found.predict([CRYSTAL]))


def model_of_a_run(run: dict[str, bytes], name: str, data: bytes, folder: Path) -> str:
    """Load the network of a run and predict."""
    for other, content in (run | {name: data}).items():
        (folder / other).write_bytes(content)
    return _predicted(load_model(folder).predict([CRYSTAL]))


def _predicted(table: object) -> str:
    (note,), (value,) = table["note"], table["prediction"]  # type: ignore[index]
    assert note or np.isfinite(value), "no prediction and no reason"
    return "predicted" if np.isfinite(value) else "predicts nothing, and says why"


def _run() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.rmtree(folder)
        model = load_model(next(iter(released_models())))
        model.members[0].save(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _fit(path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    inputs = EmbeddingInputs(x, x[:, 0] + 3)
    network = OutputNetwork((4, 8))
    fit(network, inputs, inputs, TargetStatistics.of(inputs.targets), QUICK, 0, path)


def _checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        _fit(Path(folder) / "checkpoint.pt")
        return (Path(folder) / "checkpoint.pt").read_bytes()


def _checkpoints() -> list[bytes]:
    """In the layout of the released code as far as its sizes are read off, and what is none."""
    state = {f"model.{name}": weight for name, weight in CGAT(MODELS["tiny"]).state_dict().items()}
    sized = {
        "embedding.weight": torch.zeros(16, 200),
        "nbr_embedding.weight": torch.zeros(13, 16),
        "graphs.0.Node.MH_A.fc_in.weight": torch.zeros(64, 48, 1),
        "output_nn.fcs.0.weight": torch.zeros(64, 32),
    }
    contents = [
        {"state_dict": state | {"mean": torch.tensor(0.0), "std": torch.tensor(1.0)}},
        {"state_dict": {f"model.{k}": v for k, v in sized.items()} | {"mean": 0.0, "std": 1.0}},
        {"state_dict": [1, 2]},
        {"state_dict": {"mean": 0.0, "std": 1.0, "model.embedding.weight": torch.zeros(1).expand(10**5, 10**5)}},
        [],
    ]
    return [_saved(content) for content in contents]


def _saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
