"""The paper's studies as lists of experiments, and their results as one tidy table.

Notebooks declare what they need with a `Study`; because equal experiments have equal keys, pages share runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from cgatlib import CgatError
from cgatlib.experiments.experiment import Experiment, Run
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.cgat import MODELS
from cgatlib.training import TrainingConfig
from cgatlib.transfer import TransferConfig, TransferMode

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable


@dataclass(frozen=True)
class Study:
    """What the runs of the book have in common.

    Args:
        model: name of a model configuration; the graph configuration of the same name goes with it.
        steps: optimiser steps on the target set, from scratch or after transfer.
        pretraining_steps: optimiser steps on the pre-training set.
        batch_size, learning_rate, cycles, evaluations: as in `TrainingConfig`.
        seeds: of the runs on the target set.
        pretraining_seeds: of the pre-trained networks; the run with the i-th seed starts from the network with
            the i-th of these, counted round.
    """

    model: str
    steps: int
    pretraining_steps: int
    batch_size: int
    learning_rate: float
    cycles: int
    evaluations: int
    seeds: tuple[int, ...]
    pretraining_seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise CgatError(f"unknown model {self.model!r}; known: {', '.join(MODELS)}")
        for name in ("seeds", "pretraining_seeds"):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name)))
            if not getattr(self, name):
                raise CgatError(f"a study needs at least one of its {name}")

    def pretrained(self, table: "CrystalTable", label: str, seed: int, size: int | None = None) -> Experiment:
        """Training on the pre-training table, for the `seed` of a run on the target table."""
        place = self.seeds.index(seed) % len(self.pretraining_seeds)
        return self._run(table, label, self.pretraining_seeds[place], size, self.pretraining_steps)

    def trained(self, table: "CrystalTable", label: str, seed: int, size: int | None = None) -> Experiment:
        """Training on the target table from random weights."""
        return self._run(table, label, seed, size, self.steps)

    def transferred(
        self,
        table: "CrystalTable",
        label: str,
        seed: int,
        source: Experiment,
        mode: TransferMode = "full",
        size: int | None = None,
        rate: float = 1.0,
    ) -> Experiment:
        """Training on the target table from `source`; `rate` multiplies the learning rate."""
        run = self.trained(table, label, seed, size)
        training = replace(run.training, learning_rate=self.learning_rate * rate)
        return replace(run, source=source, transfer=TransferConfig(mode), training=training)

    def modes(
        self, source: "CrystalTable", target: "CrystalTable", label: str, source_label: str | None = None
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
        source: "CrystalTable",
        target: "CrystalTable",
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

    def _run(self, table: "CrystalTable", label: str, seed: int, size: int | None, steps: int) -> Experiment:
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
                learning_rate=self.learning_rate,
                cycles=self.cycles,
                evaluations=self.evaluations,
            ),
        )


def _whole_numbers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """The values as a tuple; papermill's ``-p`` hands a list over as text, one character at a time otherwise."""
    if isinstance(values, str) or not all(isinstance(value, int) for value in values):
        raise CgatError(f"{name} must be a list of whole numbers, not {values!r}; papermill takes lists with -y")
    return tuple(values)


def results(runs: Iterable[Run], sources: Iterable[Run] = ()) -> pd.DataFrame:
    """One row per run.

    Args:
        runs: the runs to tabulate.
        sources: the runs they start from, where `pretrain_size` is wanted.

    Returns:
        Columns ``key``, ``functional``, ``label``, ``mode``, ``train_size``, ``source_functional``,
        ``source_label``, ``pretrain_size`` (0 without transfer), ``learning_rate``, ``seed``, ``test_mae``,
        ``validation_mae`` (unit of the label), ``best_step`` and ``seconds``.
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
            }
        )
    return pd.DataFrame(rows)


def sources_of(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The pre-training runs that `experiments` start from, each once."""
    return list(dict.fromkeys(e.source for e in experiments if e.source is not None))


def learning_curves(runs: Iterable[Run]) -> pd.DataFrame:
    """The runs' ``curve`` one below the other, with ``functional``, ``label``, ``mode``, ``seed``, ``peak_rate``."""
    frames = []
    for run in runs:
        e = run.experiment
        known = {"functional": e.functional, "label": e.label, "mode": e.transfer.mode, "seed": e.seed}
        frames.append(run.curve.assign(**known, peak_rate=e.training.learning_rate))
    return pd.concat(frames, ignore_index=True)
