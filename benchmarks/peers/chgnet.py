"""CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3): frozen embedding, SVR."""

from functools import cache

import numpy as np
import torch
from chgnet.model import CHGNet
from pymatgen.core import Structure

from benchmarks.peers.tasks import Method

METHOD = Method(
    "CHGNet embedding, support-vector machine",
    "10.1038/s42256-023-00716-3",
    "BSD-3-Clause",
    ("chgnet", "torch", "pymatgen", "scikit-learn"),
    pretraining="energies, forces, stresses and magnetic moments of PBE(+U) relaxations of Materials Project crystals "
    "(MPtrj), most likely with our test crystals",
)


@cache
def _network() -> CHGNet:
    return CHGNet.load(use_device="cpu", verbose=False)


@torch.no_grad()
def embed(structures: list[Structure]) -> np.ndarray:
    """Mean features of the atoms, (n, 64), NaN where no graph can be made."""
    network = _network()
    graphs = [network.graph_converter(structure) for structure in structures]
    known = [place for place, graph in enumerate(graphs) if graph is not None]
    found = np.full((len(structures), 64), np.nan)
    for start in range(0, len(known), 16):
        some = known[start : start + 16]
        sums = network([graphs[place] for place in some], task="e", return_crystal_feas=True)["crystal_fea"]
        found[some] = sums.numpy() / [[len(structures[place])] for place in some]
    return found
