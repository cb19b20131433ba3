"""The paper's studies as lists of experiments, and their results as one tidy table.

Notebooks declare what they need with a `Study`; because equal experiments have equal keys, pages share runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.cgat import MODELS
from cgatlib.runs.experiment import Experiment, Run
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig, TransferMode

if TYPE_CHECKING:
    from cgatlib.crystals.summary import TableSummary


PROCEDURES = ("none", "head", "full")
"""What is compared on a target set."""

Rates = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Learning rate by functional, label and procedure."""


@dataclass(frozen=True)
class Study:
    """What the runs of the book have in common.

    Args:
        model: name of a model configuration; the graph configuration of the same name goes with it.
        steps, learning_rate, cycles: as in `TrainingConfig`, on the target set, from scratch or after transfer.
        pretraining_steps, pretraining_rate, pretraining_cycles: the same on the pre-training set.
        batch_size, lowest, evaluations: as in `TrainingConfig`, everywhere.
        seeds: of the runs on the target set.
        pretraining_seeds: of the pre-trained networks; the run with the i-th seed starts from the network with
            the i-th of these, counted round.
        rates: learning rates that take the place of `learning_rate`, by functional, label and procedure (``none``,
            ``head``, ``full``) of the run on the target set.
    """

    model: str
    steps: int
    pretraining_steps: int
    batch_size: int
    learning_rate: float
    pretraining_rate: float
    lowest: float
    cycles: int
    pretraining_cycles: int
    evaluations: int
    seeds: tuple[int, ...]
    pretraining_seeds: tuple[int, ...]
    rates: Rates = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise CgatError(f"unknown model {self.model!r}; known: {', '.join(MODELS)}")
        for name in ("seeds", "pretraining_seeds"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
            if not getattr(self, name):
                raise CgatError(f"a study needs at least one of its {name}")
        _check_rates(self.rates)

    def rate(self, table: "TableSummary", label: str, mode: str) -> float:
        """Highest learning rate of a run on the target table."""
        return self.rates.get(table.functional, {}).get(label, {}).get(mode, self.learning_rate)

    def pretrained(self, table: "TableSummary", label: str, seed: int, size: int | None = None) -> Experiment:
        """Training on the pre-training table, for the `seed` of a run on the target table."""
        place = self.seeds.index(seed) % len(self.pretraining_seeds)
        length = {"steps": self.pretraining_steps, "cycles": self.pretraining_cycles}
        return self._run(table, label, self.pretraining_seeds[place], size, self.pretraining_rate, **length)

    def trained(self, table: "TableSummary", label: str, seed: int, size: int | None = None) -> Experiment:
        """Training on the target table from random weights."""
        rate = self.rate(table, label, "none")
        return self._run(table, label, seed, size, rate, steps=self.steps, cycles=self.cycles)

    def transferred(
        self,
        table: "TableSummary",
        label: str,
        seed: int,
        source: Experiment,
        mode: TransferMode = "full",
        size: int | None = None,
        factor: float = 1.0,
    ) -> Experiment:
        """Training on the target table from `source`; `factor` multiplies the learning rate."""
        run = self.trained(table, label, seed, size)
        rate = float(f"{self.rate(table, label, mode) * factor:.6g}")  # as it is written: 0.1 of 0.006 is 0.0006
        training = replace(run.training, learning_rate=rate)
        return replace(run, source=source, transfer=TransferConfig(mode), training=training)

    def modes(
        self, source: "TableSummary", target: "TableSummary", label: str, source_label: str | None = None
    ) -> list[Experiment]:
        """Pre-trained networks and the three procedures on the whole target set (Table 1, Fig. 1)."""
        found: list[Experiment] = []
        for seed in self.seeds:
            parent = self.pretrained(source, source_label or label, seed)
            found += [parent, self.trained(target, label, seed)]
            found += [self.transferred(target, label, seed, parent, mode) for mode in ("head", "full")]
        return list(dict.fromkeys(found))

    def sizes(
        self,
        source: "TableSummary",
        target: "TableSummary",
        label: str,
        sizes: Sequence[int],
        pretraining_sizes: Sequence[int] = (),
        source_label: str | None = None,
    ) -> list[Experiment]:
        """Error against set sizes (Figs. 3, 4, 8).

        Every training size and the whole training part, from scratch and by full transfer from every
        pre-training size and from the whole pre-training set, all seeds.
        """
        found: list[Experiment] = []
        sizes = _whole_numbers("sizes", sizes)
        pretraining_sizes = _whole_numbers("pretraining_sizes", pretraining_sizes)
        for seed in self.seeds:
            parents = [self.pretrained(source, source_label or label, seed, n) for n in [*pretraining_sizes, None]]
            for n in [*sizes, None]:
                found.append(self.trained(target, label, seed, n))
                found += [self.transferred(target, label, seed, parent, "full", n) for parent in parents]
        return list(dict.fromkeys(found))

    def _run(
        self, table: "TableSummary", label: str, seed: int, size: int | None, rate: float, *, steps: int, cycles: int
    ) -> Experiment:
        return Experiment(
            data=table.fingerprint,
            functional=table.functional,
            label=label,
            train_size=size,
            seed=seed,
            graph=GRAPHS[self.model],
            model=MODELS[self.model],
            training=TrainingConfig(
                steps=steps,
                batch_size=self.batch_size,
                learning_rate=rate,
                cycles=cycles,
                lowest=self.lowest,
                evaluations=self.evaluations,
            ),
        )


def _whole_numbers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """The values as a tuple; papermill's ``-p`` hands a list over as text, one character at a time otherwise."""
    if isinstance(values, str) or not all(isinstance(value, int) for value in values):
        raise CgatError(f"{name} must be a list of whole numbers, not {values!r}; papermill takes lists with -y")
    return tuple(values)


def _check_rates(rates: Rates) -> None:
    for functional, labels in rates.items():
        if not isinstance(labels, dict) or not all(isinstance(modes, dict) for modes in labels.values()):
            raise CgatError(f"rates of {functional} must go by property, then by procedure: {labels!r}")
        for label, modes in labels.items():
            place = f"rates of {functional} {label}"
            for mode, rate in modes.items():
                if label not in PROPERTIES:
                    raise CgatError(f"{place}: unknown property; known: {', '.join(PROPERTIES)}")
                if mode not in PROCEDURES:
                    raise CgatError(f"{place}: unknown procedure {mode!r}; known: {', '.join(PROCEDURES)}")
                if not isinstance(rate, float):  # YAML takes 2e-3 for text
                    raise CgatError(f"{place}: the rate of {mode} is no number such as 2.0e-3: {rate!r}")


def results(runs: Iterable[Run], sources: Iterable[Run] = ()) -> pd.DataFrame:
    """One row per run.

    Args:
        runs: the runs to tabulate.
        sources: the runs they start from, where `pretrain_size` is wanted.

    Returns:
        Columns ``key``, ``functional``, ``label``, ``mode``, ``train_size``, ``source_functional``,
        ``source_label``, ``pretrain_size`` (0 without transfer), ``learning_rate``, ``seed``, ``test_mae``,
        ``validation_mae`` (unit of the label), ``best_step``, ``seconds`` and ``errors``, a series of the absolute
        errors by the test crystal's digest and the number of its formula, in the order of the runs (unit of the label).
    """
    runs = list(runs)
    sizes = {run.experiment.key: int(run.metrics["n_train"]) for run in [*runs, *sources]}
    rows = []
    for run in runs:
        e, m = run.experiment, run.metrics
        source = e.source
        rows.append(
            {
                "key": e.key,
                "functional": e.functional,
                "label": e.label,
                "mode": e.transfer.mode,
                "train_size": int(m["n_train"]),
                "source_functional": source.functional if source else "",
                "source_label": source.label if source else "",
                "pretrain_size": sizes[source.key] if source else 0,
                "learning_rate": e.training.learning_rate,
                "seed": e.seed,
                "test_mae": float(m["test_mae"]),
                "validation_mae": float(m["validation_mae"]),
                "best_step": int(m["best_step"]),
                "seconds": float(m["seconds"]),
                "errors": run.errors.set_index(["crystal", "group"])["error"].astype(float).abs(),
            }
        )
    return pd.DataFrame(rows)


def sources_of(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The pre-training runs that `experiments` start from, each once."""
    return list(dict.fromkeys(e.source for e in experiments if e.source is not None))


def learning_curves(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs' ``curve`` one below the other, with ``key``, ``functional``, ``label``, ``mode`` and ``seed``."""
    frames = []
    for run in runs:
        e = run.experiment
        known = {"key": e.key, "functional": e.functional, "label": e.label, "mode": e.transfer.mode, "seed": e.seed}
        frames.append(run.curve.assign(**known))
    return pd.concat(frames, ignore_index=True)
