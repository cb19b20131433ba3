"""A trained network as a tool: weights, the scale of its output, and what it was trained on, in one folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from cgatlib import CgatError
from cgatlib.crystals.checks import PROPERTIES, SYMBOLS, Crystal, check
from cgatlib.crystals.readers.folder import read_structure
from cgatlib.crystals.readers.rows import BadRow
from cgatlib.crystals.schema import to_core
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS, GraphConfig
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.inputs import GraphInputs, TargetStatistics, predict
from cgatlib.model.cgat import CGAT, ModelConfig
from cgatlib.model.released import released_config, released_weights

_CHUNK = 5000  # crystals read and packed at a time


@dataclass(frozen=True)
class ModelCard:
    """What is needed to use a network besides its weights.

    Args:
        label: property it predicts. unit: of the prediction. functional: that its training labels come from.
        statistics: scale of the output. model, graph: configurations.
        elements: atomic numbers that occur in its training sets, pre-training included.
    """

    label: str
    unit: str
    functional: str
    statistics: TargetStatistics
    model: ModelConfig
    graph: GraphConfig
    elements: tuple[int, ...]

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Inverse of ``json.dumps(asdict(card))``."""
        card = json.loads(text)
        return cls(
            label=card["label"],
            unit=card["unit"],
            functional=card["functional"],
            statistics=TargetStatistics(**card["statistics"]),
            model=ModelConfig(**card["model"]),
            graph=GraphConfig(**card["graph"]),
            elements=tuple(card["elements"]),
        )


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network with its card."""

    network: CGAT
    card: ModelCard

    def save(self, folder: Path) -> None:
        """Write ``weights.safetensors`` and ``model.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.network.state_dict(), folder / "weights.safetensors")
        (folder / "model.json").write_text(json.dumps(asdict(self.card), indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Read what `save` wrote; nothing in the files is executed.

        Raises:
            CgatError: a file is missing or does not fit.
        """
        folder = Path(folder)
        try:
            card = ModelCard.from_json((folder / "model.json").read_text())
            network = CGAT(card.model)
            network.load_state_dict(load_file(folder / "weights.safetensors"))
        except FileNotFoundError as error:
            name = Path(error.filename or "weights.safetensors").name  # safetensors does not say which
            raise CgatError(f"{folder} holds no trained model: {name} is missing") from error
        except Exception as error:  # json, safetensors and torch each have their own way of refusing a broken file
            raise CgatError(f"the model in {folder} cannot be read: {str(error).splitlines()[0]}") from error
        return cls(network.eval(), card)

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self.card.elements)

    def predict_graphs(self, graphs: PackedGraphs) -> np.ndarray:
        """Predictions (G,) in the card's unit."""
        data = GraphInputs(graphs, np.arange(len(graphs)), torch.zeros(len(graphs)))
        return predict(self.network, data, self.card.statistics).numpy() if len(graphs) else np.zeros(0)

    def predict_crystals(self, ids: Sequence[str], crystals: Sequence[Crystal | str]) -> pd.DataFrame:
        """One row per crystal: ``material_id``, ``prediction``, ``unit``, ``note``.

        A crystal that cannot be judged (an element the network has not seen, overlapping atoms, too few neighbours)
        keeps its row with an empty prediction and the reason as its note. A text in place of a crystal is the reason
        for which it could not be read.
        """
        notes = [crystal if isinstance(crystal, str) else self._objection(crystal) for crystal in crystals]
        fit = [i for i, crystal in enumerate(crystals) if not notes[i] and isinstance(crystal, Crystal)]
        cells = [(c.lattice, c.numbers, c.frac_coords) for i in fit if isinstance(c := crystals[i], Crystal)]
        graphs, rejected = pack(cells, self.card.graph)
        for place, reason in rejected.items():
            notes[fit[place]] = reason
        prediction = np.full(len(crystals), np.nan)
        prediction[[i for i, note in enumerate(notes) if not note]] = self.predict_graphs(graphs)
        return pd.DataFrame({"material_id": list(ids), "prediction": prediction, "unit": self.card.unit, "note": notes})

    def _objection(self, crystal: Crystal) -> str:
        if reason := check(crystal):
            return reason
        unseen = sorted(set(crystal.numbers.tolist()) - self._known)
        names = ", ".join(SYMBOLS[z - 1] for z in unseen)
        return f"element not in the training data: {names}" if unseen else ""

    def predict_files(self, paths: Sequence[Path]) -> pd.DataFrame:
        """Predictions for parquet tables and structure files (id = file stem), as `predict_crystals` gives them.

        Raises:
            CgatError: a table cannot be read, or there is nothing to predict.
        """
        parts = []
        files = [path for path in paths if path.suffix != ".parquet"]
        for path in (path for path in paths if path.suffix == ".parquet"):
            crystals = read_crystals(path)
            for start in range(0, len(crystals), _CHUNK):
                chunk = crystals[start : start + _CHUNK]
                parts.append(self.predict_crystals([c.material_id for c in chunk], chunk))
        if files:
            parts.append(self.predict_crystals([path.stem for path in files], [_read(path) for path in files]))
        if not parts or not sum(map(len, parts)):
            raise CgatError("there are no structures to predict")
        return pd.concat(parts, ignore_index=True)


def import_released(path: Path, label: str, functional: str) -> Predictor:
    """A checkpoint of the authors' released code as a `Predictor`.

    Args:
        path: a Lightning checkpoint; only tensors and plain containers are unpickled.
        label: property it predicts, in the unit used here. functional: of its training labels.

    Raises:
        CgatError: the file holds anything else, is no such checkpoint, or the label is unknown.
    """
    if label not in PROPERTIES:
        raise CgatError(f"unknown label {label!r}; known: {', '.join(PROPERTIES)}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        statistics = TargetStatistics(float(state["mean"]), float(state["std"]))
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise CgatError(f"{path} is refused: {str(error).splitlines()[0]}") from error
    except (KeyError, TypeError) as error:
        raise CgatError(f"{path} is not a checkpoint of the released code: {error} is missing") from error
    weights = {name.removeprefix("model."): w for name, w in state.items() if name.startswith("model.")}
    config = released_config(weights)
    network = CGAT(config)
    network.load_state_dict(released_weights(weights))
    graph = replace(GRAPHS["released"], neighbours=config.neighbours)
    elements = tuple(range(1, len(SYMBOLS) + 1))  # the file does not say which it has seen
    unit = PROPERTIES[label].unit
    return Predictor(network.eval(), ModelCard(label, unit, functional, statistics, config, graph, elements))


def read_crystals(path: Path) -> list[Crystal]:
    """Crystals of a parquet table; its functional and labels do not matter here.

    Raises:
        CgatError: not a crystal table.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CgatError(f"cannot read {path} as a parquet table: {error}") from error
    return list(CrystalTable(to_core(path, table), functional=""))


def _read(path: Path) -> Crystal | str:
    try:
        geometry = read_structure(path)
    except BadRow as reason:
        return str(reason)
    return Crystal(path.stem, *geometry, labels={})
