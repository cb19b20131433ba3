"""What a released model says of itself: what it was trained on, how good it is, where it ends.

Nothing of the training loop is imported, so that predicting starts quickly.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from cgatlib import CgatError
from cgatlib.crystals.checks import ATOMIC_NUMBERS, SYMBOLS, Crystal
from cgatlib.graphs.neighbours import GraphConfig, pairs_within
from cgatlib.inputs import TargetStatistics
from cgatlib.values import from_plain

_FEW = 5  # training crystals with an element; where there are fewer, it is said
_NEAREST = GraphConfig(neighbours=1)
_WORDS = {
    "atoms": "{:g} atoms per cell",
    "volume_per_atom": "{:.4g} Å³/atom",
    "nearest_distance": "atoms {:.3g} Å apart",
}


@dataclass(frozen=True)
class Domain:
    """What the training crystals span.

    Args:
        elements: training crystals that contain each element, by symbol; 0 where only the pre-training set has it.
        ranges: smallest and largest ``atoms`` per cell, ``volume_per_atom`` (Å³) and ``nearest_distance`` (Å, the
            shortest of a crystal). Lengths do not enter the network; they tell a crystal unlike any that was relaxed.
    """

    elements: dict[str, int]
    ranges: dict[str, tuple[float, float]]

    def __post_init__(self) -> None:
        if self.ranges.keys() != _WORDS.keys():
            raise CgatError(f"the ranges of a domain are {', '.join(_WORDS)}, not {', '.join(self.ranges) or 'none'}")
        if unknown := self.elements.keys() - ATOMIC_NUMBERS.keys():
            raise CgatError(f"unknown elements: {', '.join(sorted(unknown))}")

    @classmethod
    def of(cls, crystals: Iterable[Crystal], known: AbstractSet[int]) -> "Domain":
        """Domain of training crystals; `known` are the atomic numbers that occur there or in the pre-training."""
        counts: Counter[int] = Counter(dict.fromkeys(sorted(known), 0))
        measured = []
        for crystal in crystals:
            counts.update(known & set(crystal.numbers.tolist()))
            measured.append(_measure(crystal))
        ranges = {name: (min(m[name] for m in measured), max(m[name] for m in measured)) for name in _WORDS}
        return cls({SYMBOLS[z - 1]: n for z, n in counts.items()}, ranges)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the elements."""
        return tuple(ATOMIC_NUMBERS[symbol] for symbol in self.elements)

    def warnings(self, crystal: Crystal) -> str:
        """In which respects a crystal lies outside, in words; empty where it does not."""
        counts = [(symbol, self.elements[symbol]) for symbol in (SYMBOLS[z - 1] for z in sorted(set(crystal.numbers)))]
        found = [f"{symbol} in {n or 'no'} training crystals" for symbol, n in counts if n < _FEW]
        for name, value in _measure(crystal).items():
            low, high = self.ranges[name]
            if not low <= value <= high:
                words = _WORDS[name]
                limits = f"at least {low:.3g}" if value < low else f"at most {high:.3g}"
                found.append(f"outside the training data: {words.format(value)} ({limits} there)")
        return "; ".join(found)


def _measure(crystal: Crystal) -> dict[str, float]:
    pairs = pairs_within(crystal.lattice, crystal.numbers, crystal.frac_coords, _NEAREST)
    nearest = float("inf") if isinstance(pairs, str) else float(pairs[2].min())
    return {
        "atoms": len(crystal.numbers),
        "volume_per_atom": crystal.volume_per_atom,
        "nearest_distance": nearest,
    }


@dataclass(frozen=True)
class Uncertainty:
    """From the spread of the members to an uncertainty.

    Args:
        factor: uncertainty over standard deviation of the members: chosen so that 68 % of the errors on the
            validation set are smaller than the uncertainty.
        n_validation: crystals it was chosen on.
        coverage: share of the *test* errors below once and twice the uncertainty.
        mae_by_quarter: test MAE of the quarter of crystals with the smallest uncertainty, of the next, and so on.
    """

    factor: float
    n_validation: int
    coverage: tuple[float, float]
    mae_by_quarter: tuple[float, ...]


@dataclass(frozen=True)
class Errors:
    """Test errors of the mean of the members, in the label's unit.

    Args:
        n_test: crystals of the test set. mae, rmse: of the mean of the members.
        mad: MAE of predicting the mean of the training labels. spread: mean standard deviation over the members.
        worst_elements: (symbol, test crystals, MAE) of the elements with the largest errors, the worst first.
    """

    n_test: int
    mae: float
    rmse: float
    mad: float
    spread: float
    worst_elements: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True)
class Accuracy:
    """How well one label is predicted: its errors on the test set; ``uncertainty`` is None for a single member."""

    errors: Errors
    uncertainty: Uncertainty | None


@dataclass(frozen=True)
class Member:
    """One network of an ensemble, in ``<seed>.safetensors``.

    Args:
        sha256: of the file. statistics: scale of the output.
        experiment: `Experiment.to_dict` of the run it comes from. metrics: of that run.
        code: version of the code that trained it.
    """

    sha256: str
    statistics: TargetStatistics
    experiment: dict[str, Any]
    metrics: dict[str, Any]
    code: dict[str, Any]

    def __post_init__(self) -> None:
        if type(self.experiment.get("seed")) is not int:
            raise CgatError(f"the seed of a member is a whole number, not {self.experiment.get('seed')!r}")

    @property
    def file(self) -> str:
        """Name of the file with the weights."""
        return f"{self.experiment['seed']}.safetensors"


@dataclass(frozen=True)
class EnsembleCard:
    """Everything about a released model besides its weights.

    Args:
        label, unit, functional: what it predicts. data: ``name`` and ``licence`` of the training data, and more.
        domain: what the training crystals span. errors, uncertainty: as `Accuracy`.
        members: the networks, of one model, graph and split configuration.
        more_labels: what else it predicts, and how well.
    """

    label: str
    unit: str
    functional: str
    data: dict[str, str]
    domain: Domain
    errors: Errors
    uncertainty: Uncertainty | None
    members: tuple[Member, ...]
    more_labels: dict[str, Accuracy] = field(default_factory=dict)

    EARLIER: ClassVar[Mapping[str, Any]] = MappingProxyType({"more_labels": {}})

    @property
    def accuracy(self) -> dict[str, Accuracy]:
        """How well each label is predicted, in order."""
        return {self.label: Accuracy(self.errors, self.uncertainty), **self.more_labels}

    @property
    def tried(self) -> dict[str, float]:
        """Validation errors of all that was tried when the model was tuned, by name: means over the members."""
        each = [member.metrics.get("tried", {}) for member in self.members]
        return {name: sum(errors[name] for errors in each) / len(each) for name in each[0]}

    def __post_init__(self) -> None:
        if not self.members:
            raise CgatError("a model has at least one member")

    def to_json(self) -> str:
        """Text of ``card.json``."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "EnsembleCard":
        """Inverse of `to_json`; `CgatError` where a value is missing or of another type."""
        return from_plain(cls, json.loads(text), "card.json")
