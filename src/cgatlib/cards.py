"""The card of a model: what it was trained on, how good it is, for which crystals it is not meant.

Nothing of the training loop is imported, so that predicting starts quickly.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, field, replace
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cgatlib import CgatError
from cgatlib.crystals.crystal import ATOMIC_NUMBERS, PROPERTIES, SYMBOLS, Crystal
from cgatlib.graphs.neighbours import GraphConfig, pairs_within
from cgatlib.inputs import TargetStatistics

T = TypeVar("T")
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""Nothing passes for another type but whole numbers for floats; what is unknown or not finite is refused."""
_FEW = 5  # training crystals with an element; where there are fewer, it is said
_NEAREST = GraphConfig(neighbours=1)
_FILE = re.compile(r"[\w-]+\.safetensors")  # in the folder itself, whatever the card says
_WORDS = {
    "atoms": "{:g} atoms per cell",
    "volume_per_atom": "{:.4g} Å³/atom",
    "nearest_distance": "atoms {:.3g} Å apart",
}


@dataclass(frozen=True, config=STRICT)
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
        counts, measured = Counter(dict.fromkeys(sorted(known), 0)), []
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
        """In which respects a crystal lies outside the domain, in words; empty where it does not."""
        counts = [(symbol, self.elements[symbol]) for symbol in (SYMBOLS[z - 1] for z in sorted(set(crystal.numbers)))]
        found = [f"{symbol} in {n or 'no'} training crystals" for symbol, n in counts if n < _FEW]
        for name, value in _measure(crystal).items():
            low, high = self.ranges[name]
            if not low <= value <= high:
                limits = f"at least {low:.3g}" if value < low else f"at most {high:.3g}"
                found.append(f"outside the training data: {_WORDS[name].format(value)} ({limits} there)")
        return "; ".join(found)


def _measure(crystal: Crystal) -> dict[str, float]:
    pairs = pairs_within(crystal.lattice, crystal.numbers, crystal.frac_coords, _NEAREST)
    nearest = float("inf") if isinstance(pairs, str) else float(pairs[2].min())
    return {"atoms": len(crystal.numbers), "volume_per_atom": crystal.volume_per_atom, "nearest_distance": nearest}


@dataclass(frozen=True, config=STRICT)
class Uncertainty:
    """How far a prediction is off: 68 % of the errors on the validation set are smaller.

    Args:
        factor: of the estimate of `cgatlib.uncertainty`; in cards without one, of the members' standard deviation.
        n_validation: crystals it was chosen on.
        coverage: share of the *test* errors below once and twice the uncertainty.
        mae_by_quarter: test MAE of the quarter of crystals with the smallest uncertainty, of the next, and so on.
        rank_correlation: Spearman's, of test errors and uncertainties; None where it was not computed.
    """

    factor: float
    n_validation: int
    coverage: tuple[float, float]
    mae_by_quarter: tuple[float, ...]
    rank_correlation: float | None = None


@dataclass(frozen=True, config=STRICT)
class Errors:
    """Test errors of the mean of the members, in the label's unit.

    Args:
        n_test: crystals of the test set. mae, rmse: of the mean of the members.
        mad: MAE of predicting the mean of the training labels. spread: mean standard deviation over the members.
        worst_elements: (symbol, test crystals, MAE) of the elements with the largest errors, the worst first.
        baselines: test MAE of what knows no structure: constants (``mean``, ``median``, ``zero``), and boosted trees
            on the composition (``boosting``), with the training crystals of the members.
        classes: (test crystals, MAE) of kinds of crystals, by what they are called.
    """

    n_test: int
    mae: float
    rmse: float
    mad: float
    spread: float
    worst_elements: tuple[tuple[str, int, float], ...]
    baselines: dict[str, float] = field(default_factory=dict)
    classes: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class Accuracy:
    """How well one label is predicted: its errors on the test set; ``uncertainty`` is None where none is known."""

    errors: Errors
    uncertainty: Uncertainty | None


@dataclass(frozen=True, config=STRICT)
class Member:
    """One network of a model.

    Args:
        file, sha256: of its weights.
        labels: what is taken from it; members of the same labels, a trunk, differ in their seeds alone.
        statistics: scale of the output, of all labels that it has learnt.
        experiment, metrics: of the run it comes from. code: version of the code that trained it.
    """

    file: str
    sha256: str
    labels: tuple[str, ...]
    statistics: TargetStatistics
    experiment: dict[str, Any]
    metrics: dict[str, Any]
    code: dict[str, Any]

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file):
            raise CgatError(f"a member of a model lies in a file such as e_form-0.safetensors, not {self.file!r}")
        if not self.labels or not set(self.labels) <= set(self.learnt) <= PROPERTIES.keys():
            taken, learnt = (", ".join(labels) or "nothing" for labels in (self.labels, self.learnt))
            raise CgatError(f"{self.file}: {taken} cannot be taken from a network that has learnt {learnt}")
        if (found := len(self.statistics.each)) != len(self.learnt):
            raise CgatError(f"{self.file}: there are {found} target statistics for {', '.join(self.learnt)}")

    @property
    def learnt(self) -> tuple[str, ...]:
        """All labels that the network has an output for."""
        return (self.experiment["label"], *self.experiment.get("more_labels", ()))

    def scores(self, label: str) -> dict[str, Any]:
        """The metrics of one label."""
        return self.metrics.get("labels", {label: self.metrics})[label]


@dataclass(frozen=True, config=STRICT)
class EnsembleCard:
    """Everything about a model besides its weights.

    Args:
        functional: that the labels come from. data: ``name`` and ``licence`` of the training data, and more.
        domain: what the training crystals span. accuracy: how well each label is predicted, by one trunk each.
        members: the networks, of one graph and split configuration. half: whether they are stored in half precision.
        estimates: SHA-256 of the file that the uncertainties are estimated from, where there is one.
    """

    functional: str
    data: dict[str, str]
    domain: Domain
    accuracy: dict[str, Accuracy]
    members: tuple[Member, ...]
    estimates: str | None = None
    half: bool = False

    def __post_init__(self) -> None:
        if not self.members:
            raise CgatError("a model has at least one member")
        if sorted(label for labels in self.trunks for label in labels) != sorted(self.accuracy):
            raise CgatError(f"the members of the model do not predict {', '.join(self.accuracy)} once each")
        if len({member.file for member in self.members}) < len(self.members):
            raise CgatError("two members of the model lie in one file")

    @property
    def tried(self) -> dict[str, float]:
        """Validation errors of all that was tried to tune a model of one trunk, by name: means over the members."""
        each = [member.metrics.get("tried", {}) for member in self.members] if len(self.trunks) == 1 else [{}]
        return {name: sum(errors[name] for errors in each) / len(each) for name in each[0]}

    @property
    def trunks(self) -> dict[tuple[str, ...], tuple[Member, ...]]:
        """The members by what they predict."""
        return {m.labels: tuple(n for n in self.members if n.labels == m.labels) for m in self.members}

    def of_label(self, label: str) -> tuple[Member, ...]:
        """The members that predict a label."""
        return next(members for labels, members in self.trunks.items() if label in labels)

    def view(self, label: str) -> "EnsembleCard":
        """Of the same model as one that predicts a single label; `CgatError` where it does not predict it."""
        if label not in self.accuracy:
            raise CgatError(f"the model predicts {', '.join(self.accuracy)}, not {label}")
        members = tuple(replace(member, labels=(label,)) for member in self.of_label(label))
        return replace(self, accuracy={label: self.accuracy[label]}, members=members)

    def to_json(self) -> str:
        """Text of ``card.json``."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "EnsembleCard":
        """Inverse of `to_json`, of earlier cards too; `CgatError` where a value is missing or of another type."""
        values = json.loads(text)
        return checked(cls, json.dumps(_renewed(values)) if "label" in values else text, "card.json")


@dataclass(frozen=True, config=STRICT)
class View:
    """One property of a released model as a model of its own, in ``view.json``."""

    model: str
    label: str


def checked(kind: type[T], text: str, where: str) -> T:
    """A dataclass from json text; `CgatError` names the first value of `where` that is missing, unknown or wrong."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first.get("ctx", {}).get("error") or first["msg"]
        raise CgatError(": ".join(map(str, (where, *first["loc"], reason)))) from error


def _renewed(values: dict[str, Any]) -> dict[str, Any]:
    """A card of the first form, with one main label and members that all predict the same, in the present form."""
    first, more = values["label"], values.get("more_labels", {})
    kept = {name: values[name] for name in ("functional", "data", "domain")}
    accuracy = {first: {name: values[name] for name in ("errors", "uncertainty")}, **more}
    members = [
        {"file": f"{member['experiment']['seed']}.safetensors", "labels": tuple(accuracy), **member}
        for member in values["members"]
    ]
    return {**kept, "accuracy": accuracy, "members": members}
