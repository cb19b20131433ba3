"""Recipes: how a pre-trained model is tuned to a user's crystals, by name, with configurations that were compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cgatlib.ensemble import Ensemble
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig


@dataclass(frozen=True)
class Recipe:
    """A way to tune a model: what is taken over, and how long and how fast it is trained.

    Args:
        about: what it does, in words.
        transfer, training: configurations of each member's run.
    """

    about: str
    transfer: TransferConfig
    training: TrainingConfig


_TRAINING = TrainingConfig(
    steps=2000,
    batch_size=64,
    learning_rate=5e-4,
    weight_decay=1e-4,
    cycles=1,
    lowest=0.01,
    schedule="one-cycle",
    averaging=0.002,
    clip=5.0,
)
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "full": Recipe("all weights are trained", TransferConfig("full", "fitted"), _TRAINING),
        "head": Recipe("the output network is trained", TransferConfig("head", "fitted"), _TRAINING),
    }
)
BEST, FAST = "full", "full"


def tune(
    model: Ensemble,
    structures: Any,
    values: Sequence[float],
    label: str,
    recipe: str = BEST,
    *,
    functional: str = "not stated",
    known: Sequence[float] | None = None,
    seeds: Sequence[int] = (),
    workers: int = 1,
    **training: Any,
) -> Ensemble:
    """Tune a pre-trained model to crystals in memory; nothing is left on disk.

    Args:
        model: whose card says how its members were trained: of `load_model` or of `tune`.
        structures: pymatgen Structures, ASE Atoms or `Crystal` objects. values: (n,) of the label, in its unit.
        label: property to learn. recipe: a name of `RECIPES`. functional: that the values come from.
        known: (n,) values of the same property by a cheaper functional; the difference to them is learnt, and
            predictions then ask for them (``predict(structures, known=...)``).
        seeds: one member for each; by default those of the members that are started from. workers: processes.
        training: fields of `TrainingConfig` that differ from the recipe's, e.g. ``steps=500``.

    Returns:
        A model with a card: validation errors of what was tried (``card.members[0].metrics["tried"]``), test errors,
        domain, uncertainty.

    Raises:
        CgatError: the recipe or label is unknown, the values are not enough, or something is no structure.
    """
    raise NotImplementedError
