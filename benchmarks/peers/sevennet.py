"""SevenNet-0 (Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190): embedding, SVR."""

from functools import cache
from typing import Any

import numpy as np
import torch
from pymatgen.core import Structure
from sevenn.atom_graph_data import AtomGraphData
from sevenn.train.dataload import unlabeled_atoms_to_graph
from sevenn.util import model_from_checkpoint

from benchmarks.peers.tasks import Method

METHOD = Method(
    "SevenNet-0 embedding, support-vector machine",
    "10.1021/acs.jctc.4c00190",
    "MIT",
    ("sevenn", "torch", "e3nn", "scikit-learn"),
    pretraining="energies, forces and stresses of PBE(+U) relaxations of Materials Project crystals (MPtrj), most "
    "likely with our test crystals",
)


@cache
def _network() -> tuple[Any, dict]:
    """The network without its forces, and its configuration."""
    network, config = model_from_checkpoint("7net-0")
    network.delete_module_by_key("force_output")
    network.set_is_batch_data(False)
    return network.eval(), config


@torch.no_grad()
def embed(structures: list[Structure]) -> np.ndarray:
    """Mean features of the atoms before the readout, (n, d), NaN where the network does not know an element."""
    network, config = _network()
    seen: list[torch.Tensor] = []
    hook = network._modules["reduce_input_to_hidden"].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]["x"].mean(dim=0))
    )
    rows = []
    for structure in structures:
        if all(number in config["_type_map"] for number in structure.atomic_numbers):
            atoms = structure.to_ase_atoms()
            network(AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(atoms, config["cutoff"])))
            rows.append(seen.pop().numpy())
        else:
            rows.append(None)
    hook.remove()
    width = next(len(row) for row in rows if row is not None)
    return np.array([np.full(width, np.nan) if row is None else row for row in rows])
