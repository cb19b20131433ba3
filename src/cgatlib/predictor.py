"""A trained network with the scale of its output and what it was trained on, in one folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from errno import ENOENT
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from cgatlib import CgatError
from cgatlib.crystals.checks import PROPERTIES, SYMBOLS
from cgatlib.graphs.neighbours import GRAPHS, GraphConfig
from cgatlib.graphs.packing import PackedGraphs
from cgatlib.inputs import GraphInputs, TargetStatistics, predict
from cgatlib.model.cgat import CGAT, ModelConfig
from cgatlib.model.released import released_config, released_weights
from cgatlib.splits import Indices


@contextmanager
def reading_model(folder: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with the model in `folder`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CgatError(f"{folder} holds no trained model: {Path(error.filename).name} is missing") from error
    except Exception as error:  # json, safetensors and torch each have their own way of refusing a broken file
        raise CgatError(f"the model in {folder} cannot be read: {str(error).splitlines()[0]}") from error


def load_network(config: ModelConfig, weights: Path) -> CGAT:
    """The network with the weights of a safetensors file, ready to predict."""
    if not weights.exists():
        raise FileNotFoundError(ENOENT, "", str(weights))  # safetensors does not say which file
    state = load_file(weights)
    network = CGAT(config, labels=len(state["output.last.bias"]) // 2)
    network.load_state_dict(state)
    return network.eval()


@dataclass(frozen=True)
class ModelCard:
    """What is needed to use a network besides its weights.

    Args:
        label: property it predicts. unit: of the prediction. functional: that its training labels come from.
        statistics: scale of the output. model, graph: configurations.
        elements: atomic numbers that occur in its training sets, pre-training included.
        more_labels: properties that it predicts after `label`, each in the unit of `PROPERTIES`.
    """

    label: str
    unit: str
    functional: str
    statistics: TargetStatistics
    model: ModelConfig
    graph: GraphConfig
    elements: tuple[int, ...]
    more_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """All properties that it predicts."""
        return (self.label, *self.more_labels)

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
            more_labels=tuple(card.get("more_labels", ())),
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
        with reading_model(folder):
            card = ModelCard.from_json((folder / "model.json").read_text())
            return cls(load_network(card.model, folder / "weights.safetensors"), card)

    def predict_graphs(self, graphs: PackedGraphs, rows: Indices | None = None) -> np.ndarray:
        """Predictions (G,), or (G, L) of several labels, in the card's units; of the graphs `rows` if given."""
        rows = np.arange(len(graphs)) if rows is None else rows
        data = GraphInputs(graphs, rows, torch.zeros(len(rows)))
        return predict(self.network, data, self.card.statistics).numpy()


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
