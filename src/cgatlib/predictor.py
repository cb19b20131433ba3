"""A trained network with the scale of its output and what it was trained on, in one folder."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, SYMBOLS
from cgatlib.files import holds_only
from cgatlib.graphs.neighbours import GRAPHS, GraphConfig
from cgatlib.graphs.packing import PackedGraphs
from cgatlib.inputs import GraphInputs, TargetStatistics, embed_all, predict
from cgatlib.model.config import ModelConfig
from cgatlib.model.released import released_config, released_weights
from cgatlib.splits import Indices
from cgatlib.transfer import Form, Network, assembled
from cgatlib.values import from_plain

FILES = _WEIGHTS, _CARD = "weights.safetensors", "model.json"
"""What `Predictor.save` writes."""


@contextmanager
def reading_model(folder: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with the model in `folder`."""
    try:
        yield
    except FileNotFoundError as error:
        raise CgatError(f"{folder} holds no trained model: {Path(error.filename).name} is missing") from error
    except Exception as error:  # json, safetensors and torch each have their own way of refusing a broken file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CgatError(f"the model in {folder} cannot be read: {reason}") from error


def load_network(
    config: ModelConfig, weights: Path, sha256: str | None, labels: int = 1, form: Form = "network"
) -> Network:
    """`network_of` the weights in a safetensors file, whose `sha256` is checked where it is known."""
    content = weights.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise CgatError(f"{weights.name} is not the file that was written with it (its sha256 differs)")
    return network_of(config, load(content), weights.name, labels, form)


def network_of(
    config: ModelConfig, weights: Mapping[str, Tensor], where: str, labels: int = 1, form: Form = "network"
) -> Network:
    """The network with these weights, ready to predict; their sizes are checked before memory is asked for.

    Args:
        where: the weights come from, for messages. labels: how many it predicts. form: what it is made of.

    Raises:
        CgatError: a weight is missing, unknown, of another size or not finite.
    """
    with torch.device("meta"):
        empty = assembled(form, config, labels, weights)
        expected = {name: tuple(weight.shape) for name, weight in empty.state_dict().items()}
    given = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(expected.keys() | given.keys()):
        if expected.get(name) != given.get(name):
            sizes = f"{expected.get(name, 'no such weight')}, not {given.get(name, 'none')}"
            raise CgatError(f"the weight {name} of {where} does not fit: the network has {sizes}")
        if not torch.isfinite(weights[name]).all():
            raise CgatError(f"the weight {name} of {where} is not finite")
    network = assembled(form, config, labels, weights)
    network.load_state_dict(weights)
    return network.eval()


def save_network(network: Network, path: Path, half: bool = False) -> str:
    """Write the weights as safetensors, in half precision if wanted; returns the file's SHA-256."""
    content = save(_halved(network) if half else network.state_dict())
    path.write_bytes(content)  # safetensors' own writing does not say in Python's way that a disk is full
    return hashlib.sha256(content).hexdigest()


def _halved(network: Network) -> dict[str, Tensor]:
    return {name: weight.half() for name, weight in network.state_dict().items()}


@dataclass(frozen=True)
class ModelCard:
    """What is needed to use a network besides its weights.

    Args:
        label: property it predicts. unit: of the prediction. functional: that its training labels come from.
        statistics: scale of the output. model, graph: configurations.
        elements: atomic numbers that occur in its training sets, pre-training included.
        more_labels: properties that it predicts after `label`, each in the unit of `PROPERTIES`.
        form: what the network is made of.
    """

    label: str
    unit: str
    functional: str
    statistics: TargetStatistics
    model: ModelConfig
    graph: GraphConfig
    elements: tuple[int, ...]
    more_labels: tuple[str, ...] = ()
    form: Form = "network"

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"more_labels": (), "form": "network"})

    def __post_init__(self) -> None:
        if (found := len(self.statistics.each)) != len(self.labels):
            raise CgatError(f"there are {found} target statistics for the labels {', '.join(self.labels)}")

    @property
    def labels(self) -> tuple[str, ...]:
        """All properties that it predicts."""
        return (self.label, *self.more_labels)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network with its card."""

    network: Network
    card: ModelCard

    def save(self, folder: Path) -> None:
        """Write weights and card, the `FILES`, into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        digest = save_network(self.network, folder / _WEIGHTS)
        (folder / _CARD).write_text(json.dumps({**asdict(self.card), "sha256": digest}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Read what `save` wrote; nothing in the files is executed.

        Raises:
            CgatError: a file is missing, damaged or changed, or a weight is not finite.
        """
        folder = Path(folder)
        with reading_model(folder):
            values = json.loads((folder / _CARD).read_text())
            digest = values.pop("sha256", None)
            if digest is None and (folder / "provenance.json").exists():  # a run from before the digest stood there
                digest = json.loads((folder / "provenance.json").read_text())["files"][_WEIGHTS]
            card = from_plain(ModelCard, values, _CARD)
            return cls(load_network(card.model, folder / _WEIGHTS, digest, len(card.labels), card.form), card)

    def predict_graphs(
        self, graphs: PackedGraphs, rows: Indices | None = None, known: np.ndarray | None = None
    ) -> np.ndarray:
        """Predictions (G,), or (G, L) of several labels, in the card's units; of the graphs `rows` if given.

        Args:
            known: (G,) of these graphs, the values of a cheaper functional that a ``"paired"`` network needs.
        """
        return predict(self.network, _inputs(graphs, rows, known), self.card.statistics).numpy()

    def embed_graphs(self, graphs: PackedGraphs, rows: Indices | None = None) -> np.ndarray:
        """Crystal embeddings (G, embedding_width) of graphs, or of the `rows` of them."""
        data = _inputs(graphs, rows)
        if not len(data):
            return np.empty((0, self.card.model.embedding_width))
        return embed_all(self.network, data).double().numpy()

    def scale(self, label: str) -> float:
        """Standard deviation that normalises a label."""
        return float(self.card.statistics.each[self.card.labels.index(label)].std)  # type: ignore[arg-type]

    def in_half(self) -> "Predictor":
        """The same with its weights rounded to half precision, as `save_network` stores them."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(_halved(self.network))
        return replace(self, network=network)


def _inputs(graphs: PackedGraphs, rows: Indices | None, known: np.ndarray | None = None) -> GraphInputs:
    rows = np.arange(len(graphs)) if rows is None else rows
    return GraphInputs(graphs, rows, torch.zeros(len(rows)), None if known is None else torch.from_numpy(known))


def is_network(folder: Path) -> bool:
    """Whether a folder holds what `Predictor.save` writes, and nothing else."""
    return holds_only(folder, *FILES)


def import_released(path: Path, label: str, functional: str) -> Predictor:
    """A checkpoint of the authors' released code as a `Predictor`.

    Args:
        path: a Lightning checkpoint; only tensors and plain containers are unpickled.
        label: property it predicts, in the unit used here. functional: of its training labels.

    Raises:
        CgatError: the file holds anything else, is damaged or no such checkpoint, or the label is unknown.
    """
    if label not in PROPERTIES:
        raise CgatError(f"unknown label {label!r}; known: {', '.join(PROPERTIES)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage has an error of its own
        raise CgatError(f"{path} is refused: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    try:
        state = content["state_dict"]
        statistics = TargetStatistics(float(state["mean"]), float(state["std"]))
        weights = {name.removeprefix("model."): _stored(w) for name, w in state.items() if name.startswith("model.")}
        config = released_config(weights)
        network = network_of(config, released_weights(weights), path.name)
    except KeyError as error:
        raise CgatError(f"{path} is not a checkpoint of the released code: {error} is missing") from error
    except (AttributeError, ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CgatError(f"{path} is not a checkpoint of the released code: {reason}") from error
    graph = replace(GRAPHS["released"], neighbours=config.neighbours)
    elements = tuple(range(1, len(SYMBOLS) + 1))  # the file does not say which it has seen
    unit = PROPERTIES[label].unit
    return Predictor(network, ModelCard(label, unit, functional, statistics, config, graph, elements))


def _stored(weight: Tensor) -> Tensor:
    """The same, if the file holds all of it and does not repeat a few numbers to any size."""
    if weight.untyped_storage().nbytes() < weight.numel() * weight.element_size():
        raise CgatError(f"a weight of size {tuple(weight.shape)} is not stored in full")
    return weight
