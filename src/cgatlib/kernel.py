"""A support vector machine on frozen crystal embeddings, alone or beside a tuned network.

The machine is scikit-learn's; what it has learnt is kept as tensors, so that it is stored and read like any network,
and its members make an ensemble like any others. Of a *pair*, the crystal's value by a cheaper functional is one more
input, and the difference to it is learnt (Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015),
doi:10.1021/acs.jctc.5b00099).
"""

import copy
from collections.abc import Mapping
from itertools import product
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from cgatlib.model.cgat import CGAT, ModelConfig

Array = NDArray[np.float64]
Form = Literal["network", "kernel", "paired", "average"]
"""What a member of a model is: a network, a kernel on its embedding, one for pairs, or the mean of network and kernel.
"""


def form_of(mode: str) -> Form:
    """The form of what a transfer mode makes."""
    return cast(Form, mode) if mode in get_args(Form) else "network"


_WIDTHS = (0.1, 0.3)  # gamma times the number of inputs; the validation part chooses
_PENALTIES = (1.0, 3.0, 10.0, 30.0)  # C
_TUBE = 0.05  # epsilon, in standard deviations of the labels
_KNOWN_WEIGHTS = (3.0, 10.0, 30.0)  # of what is known beside an input of the embedding
_TRIED_ON, _TRAINED_ON = 1000, 10_000  # most crystals that a choice and the final machine are trained on
_ZERO = 1e-3  # in the unit of the known value
_SHARES = np.linspace(0, 1, 11)  # of the kernel in an average


class KernelHead(nn.Module):
    """sum_i a_i exp(-gamma |x - x_i|^2) + b of scaled inputs x, in the place of the output network."""

    center: Tensor
    scale: Tensor
    support: Tensor
    dual: Tensor
    gamma: Tensor
    shift: Tensor

    def __init__(self, supports: int, width: int) -> None:
        super().__init__()
        for name, shape in {"center": (width,), "scale": (width,), "support": (supports, width)}.items():
            self.register_buffer(name, torch.zeros(shape))
        for name, shape in {"dual": (supports,), "gamma": (), "shift": ()}.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(G, 2) from (G, width): value and, of which nothing is known, 0."""
        scaled = (x - self.center) / self.scale
        apart = torch.cdist(scaled, self.support, compute_mode="donot_use_mm_for_euclid_dist")  # whatever the batch
        value = torch.exp(-self.gamma * apart.square()) @ self.dual + self.shift
        return torch.stack([value, torch.zeros_like(value)], dim=1)


class KernelNetwork(nn.Module):
    """A frozen network whose output network is a `KernelHead`."""

    def __init__(self, trunk: CGAT, head: KernelHead, paired: bool = False) -> None:
        super().__init__()
        trunk.output = nn.Identity()  # type: ignore[assignment]
        self.trunk, self.head, self.paired = trunk.requires_grad_(False), head, paired

    def embed(self, batch: Batch) -> Tensor:
        """Crystal embedding (G, embedding_width)."""
        return self.trunk.embed(batch)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2) as `KernelHead` gives it; of pairs, with ``batch.known`` (G,), the value itself in its unit."""
        x = self.embed(batch)
        if not self.paired:
            return self.head(x)
        known = batch.known.to(x.dtype)
        return self.head(with_known(x, known)) + torch.column_stack([known, torch.zeros_like(known)])


def with_known(embedding: Tensor, known: Tensor) -> Tensor:
    """Inputs (G, width + 2): zero is a kind of its own, a metal or a compound on the hull, and not merely small."""
    return torch.column_stack([embedding, known, (known.abs() < _ZERO).to(known.dtype)])


class Average(nn.Module):
    """The mean of a tuned network and of a kernel on the embedding that it started from."""

    share: Tensor

    def __init__(self, full: CGAT, kernel: KernelNetwork, share: float = 0.5) -> None:
        super().__init__()
        self.full, self.kernel = full, kernel
        self.register_buffer("share", torch.tensor(share))

    def embed(self, batch: Batch) -> Tensor:
        """Crystal embedding (G, embedding_width) of the tuned network."""
        return self.full.embed(batch)

    def forward(self, batch: Batch) -> Tensor:
        """(G, 2)."""
        return torch.lerp(self.full(batch), self.kernel(batch), self.share)


Network: TypeAlias = CGAT | KernelNetwork | Average


def assembled(form: Form, config: ModelConfig, labels: int, weights: Mapping[str, Tensor]) -> Network:
    """A network of a form, for weights of which the number of support vectors is taken and nothing else."""
    if form == "network":
        return CGAT(config, labels)
    dual = weights.get("head.dual" if form != "average" else "kernel.head.dual", torch.empty(0))
    head = KernelHead(dual.numel(), config.embedding_width + 2 * (form == "paired"))
    kernel = KernelNetwork(CGAT(config), head, form == "paired")
    return Average(CGAT(config), kernel) if form == "average" else kernel


def kernel_network(
    source: CGAT, train: tuple[Array, Array], validation: tuple[Array, Array], paired: bool
) -> KernelNetwork:
    """A `KernelNetwork` on a copy of `source` from inputs (n, width) and what it is to give, (n,), of two parts.

    Of several scales and penalties those with the lowest validation error are taken; of more than 1,000 crystals a
    part decides on them.
    """
    order = np.random.default_rng(0).permutation(len(train[1]))
    weights = np.ones(train[0].shape[1])

    def machine(most: int, width: float, penalty: float, known: float) -> KernelHead:
        inputs = np.r_[weights[:-2], known, known] if paired else weights
        return _machine((train[0][order[:most]], train[1][order[:most]]), width, penalty, inputs)

    def error(choice: tuple[float, float, float]) -> float:
        given = machine(_TRIED_ON, *choice)(torch.from_numpy(validation[0]).float())[:, 0]
        return float(np.abs(given.double().numpy() - validation[1]).mean())

    best = min(product(_WIDTHS, _PENALTIES, _KNOWN_WEIGHTS if paired else (1.0,)), key=error)
    return KernelNetwork(copy.deepcopy(source), machine(_TRAINED_ON, *best), paired)


def _machine(data: tuple[Array, Array], width: float, penalty: float, weights: Array) -> KernelHead:
    """Trained on inputs (n, width) and what they give (n,); `weights` (width,): how much each scaled input counts."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    x, y = data
    scaler, unit = StandardScaler().fit(x), y.std() or 1.0
    scale = scaler.scale_ / weights
    machine = SVR(gamma=width / x.shape[1], C=penalty, epsilon=_TUBE)
    machine.fit((x - scaler.mean_) / scale, (y - y.mean()) / unit)
    learnt = {
        "center": scaler.mean_,
        "scale": scale,
        "support": machine.support_vectors_,
        "dual": unit * machine.dual_coef_[0],
        "gamma": machine.gamma,
        "shift": y.mean() + unit * machine.intercept_[0],
    }
    head = KernelHead(len(machine.support_), x.shape[1])
    head.load_state_dict({name: torch.as_tensor(value, dtype=torch.float32) for name, value in learnt.items()})
    return head


def best_share(full: Tensor, kernel: Tensor, target: Tensor) -> float:
    """Share of the kernel with which the mean of two predictions (n,) has the lowest error."""
    errors = [float((torch.lerp(full, kernel, share) - target).abs().mean()) for share in _SHARES]
    return float(_SHARES[int(np.argmin(errors))])
