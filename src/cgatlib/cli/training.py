"""``cgatlib graphs``, ``train``, ``transfer``, ``forecast``: from a table to graphs, runs and a model of them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError
from cgatlib.cli.options import FUNCTIONAL, JSON, PATH, TABLE, WORKERS, known_column, several, unit_of, whole_numbers

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.runs.experiment import Experiment, Run
    from cgatlib.runs.store import Runs

_SETTINGS: dict[str, tuple[Any, str]] = {
    "steps": (int, "Optimiser steps [3000]."),
    "batch_size": (int, "Crystals per step [128]."),
    "learning_rate": (float, "Highest rate of the cyclical schedule [0.001]."),
    "cycles": (int, "Rises and falls of the learning rate; three in the paper [1]."),
    "lowest": (float, "Rate at the end of a cycle, as a share of the highest [0.1]."),
    "schedule": (
        click.Choice(["triangular", "one-cycle", "cosine"]),
        "Shape of a cycle [triangular, as in the paper].",
    ),
    "averaging": (float, "Share of a step in the mean of the weights, e.g. 0.002 [1: no mean]."),
    "clip": (float, "Largest norm of the gradient [any]."),
    "patience": (float, "Stop when this share of the steps brought nothing better, e.g. 0.2."),
    "precision": (click.Choice(["32-true", "bf16-mixed"]), "bf16-mixed: GPUs are faster [32-true]."),
}
"""Fields of `TrainingConfig` that are options; what is left out is as `Runs.train` has it, or a recipe."""
_TRAINING = several(
    click.option(
        "--label",
        "labels",
        required=True,
        multiple=True,
        help="Property to learn, e.g. e_form; band_gap=COLUMN names its column. Of several, one network learns all.",
    ),
    *(click.option(f"--{name.replace('_', '-')}", type=kind, help=text) for name, (kind, text) in _SETTINGS.items()),
    click.option("--runs", type=PATH, default=Path("runs"), help="Folder of runs."),
    click.option("--device", default="cpu", help="Accelerator as Lightning Fabric names it: cpu, cuda, mps."),
    click.option("--devices", type=click.IntRange(1), default=1, help="Devices that train one run together."),
    FUNCTIONAL,
    WORKERS,
    JSON,
)
_SEEDS = click.option(
    "--seeds",
    callback=whole_numbers,
    help="One run for each, e.g. 0,1,2: of the initial weights, the order and the choice of crystals "
    "[default: 0, or those of the model to start from].",
)
_ENSEMBLE = several(
    _SEEDS,
    click.option("--train-size", type=int, help="Crystals of the training part to use [default: all]."),
    click.option("--out", type=PATH, help="Folder for the runs as one model: mean, uncertainty, card."),
)
_SOURCE = click.option(
    "--from", "source", required=True, help="Released model, or folder of a model or run, to start from."
)
_MODE = partial(click.option, "--mode", type=click.Choice(["head", "full"]))


@click.command()
@TABLE
@click.option("--out", type=PATH, required=True, help="Folder of the store.")
@click.option("--model", default="small", help="Graphs as the network of this size wants them.")
@click.option("--neighbours", type=int, help="Nearest neighbours per atom, instead of the model's.")
@click.option(
    "--ties", type=click.Choice(["whole_shells", "deterministic", "reference"]), help="Rule at the k-th neighbour."
)
@click.option("--tolerance", type=float, help="Width of a shell, Å.")
@FUNCTIONAL
@WORKERS
@JSON
def graphs(
    table: Path, out: Path, model: str, functional: str | None, workers: int, as_json: bool, **changes: Any
) -> None:
    """Build the graphs of TABLE (parquet) once; crystals without a graph go to OUT/rejects.csv with the reason.

    \b
    Example:
      cgatlib graphs mine.parquet --out mine.graphs --model small --workers 2
    """
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.graphs.store import build_store
    from cgatlib.runs.store import size_of

    config = replace(size_of(model)["graph"], **{name: value for name, value in changes.items() if value is not None})
    crystals = CrystalTable.read(table, functional)
    store = build_store(crystals, out, config, workers)
    report = {
        "crystals": len(crystals),
        "graphs": len(store),
        "rejected": len(crystals) - len(store),
        "nodes": len(store.graphs.numbers),
        "edges": len(store.graphs.rank),
        "fingerprint": store.fingerprint,
    }
    click.echo(json.dumps(report) if as_json else "\n".join(f"{name}: {value}" for name, value in report.items()))


@click.command()
@TABLE
@click.option("--model", default="small", help="Size and variant of the network.")
@_ENSEMBLE
@_TRAINING
def train(table: Path, model: str, **options: Any) -> None:
    """Train a network on TABLE (parquet) from random weights; a run that exists is not repeated.

    \b
    Example:
      cgatlib train pbe.parquet --label e_form --model small --steps 5000
    """
    order = _Order.of(table, options)
    _report(order, order.experiments(model=model))


@click.command()
@TABLE
@_SOURCE
@click.option(
    "--recipe",
    type=click.Choice(["average", "full", "head", "kernel"]),
    help="average: of full and kernel. full: train all weights. head: the output network. kernel: a machine on frozen "
    "embeddings, in seconds [default: full, of fewer than 20 crystals kernel].",
)
@click.option("--fast", is_flag=True, help="--recipe kernel.")
@click.option("--known", help="LABEL=COLUMN with values of a cheaper functional: the difference to them is learnt.")
@_MODE(help="Train the output network or all, with the settings in brackets and no recipe.")
@click.option(
    "--target-statistics",
    type=click.Choice(["target", "source", "fitted"]),
    help="Normalise by the new labels; as the released code, by the old ones; or by the line that fits at the start.",
)
@click.option("--source-label", help="Output to start from where the model has several, but not this label; or fresh.")
@click.option("--trunk-rate", type=float, help="Rate below the output network, as a share of its rate [1].")
@click.option("--reinitialise-head", is_flag=True, help="Start the output network from random weights.")
@_ENSEMBLE
@_TRAINING
def transfer(
    table: Path, source: str, recipe: str | None, fast: bool, known: str | None, mode: Any, **options: Any
) -> None:
    """Continue every member of a pre-trained model on TABLE (parquet): another functional, or another property.

    Without further options, by the best recipe known. The split of the pre-training is kept, so that no member has seen
    a formula that it is tested on.

    \b
    Examples:
      cgatlib transfer mine.parquet --from pbe --label band_gap --out my-model
      cgatlib transfer mine.parquet --from pbe --label band_gap --known band_gap=gap_pbe --out my-model
      cgatlib transfer r2scan.parquet --from runs/3fa21c0d9e8b7a65 --label e_form --mode head
    """
    if sum((recipe is not None, fast, mode is not None, known is not None)) > 1:
        raise CgatError("--recipe, --fast, --mode and --known exclude each other")
    order = _Order.of(table, options, known)
    names = ("target_statistics", "reinitialise_head", "source_label")
    taken = {name: value for name in names if (value := options[name])}
    starts = order.starts(source)
    if click.get_current_context().get_parameter_source("workers") is click.core.ParameterSource.DEFAULT:
        options["workers"] = min(len(options["seeds"] or starts), os.cpu_count() or 1)
    if mode is not None or len(order.labels) > 1:
        _report(order, order.experiments(starts, mode=mode or "full", **taken))
    else:
        _report(order, order.by_recipe(starts, "kernel" if fast else recipe, taken))


@click.command()
@TABLE
@_SOURCE
@_MODE(default="full", help="Train the output network or all.")
@click.option("--more", type=click.IntRange(1), help="Crystals to be added [default: as many as there are].")
@click.option("--sizes", callback=whole_numbers, help="Training sizes below all [default: 1/2, 1/4 and 1/8 of it].")
@_SEEDS
@_TRAINING
def forecast(table: Path, source: str, mode: Any, more: int | None, sizes: list[int], **options: Any) -> None:
    """Forecast what more crystals would buy, from runs on nested parts of TABLE that start from a model.

    The error falls as a power of the number of crystals; the law is fitted to all runs, and its 95 % interval comes
    from resampling seeds and test crystals. The runs on the whole table are those of `cgatlib transfer --mode`.

    \b
    Example:
      cgatlib forecast mine.parquet --from volume-pbe --label volume_per_atom --more 1000
    """
    from cgatlib.evaluation.forecast import Forecast, forecast_text, halved_sizes
    from cgatlib.runs.trainer import parts_of

    if len(options["labels"]) > 1:
        raise CgatError("a forecast is made for one --label")
    order = _Order.of(table, options)
    whole = order.experiments(order.starts(source), mode=mode)
    graphs = order.runs.graphs(order.crystals.fingerprint, whole[0].graph, options["workers"])
    sizes = sizes or halved_sizes(len(parts_of(whole[0], graphs).train))
    experiments = [replace(experiment, train_size=size) for size in [*sizes, None] for experiment in whole]
    found = order.runs.get_all(experiments, options["workers"])
    report = Forecast.of(found).report(more or len(order.crystals))
    click.echo(json.dumps(report) if options["as_json"] else forecast_text(report))


@dataclass(frozen=True)
class _Order:
    """What is to be learnt from a table, and how, as the options say."""

    crystals: "CrystalTable"
    labels: list[str]
    about: dict[str, str]  # the data, for the card
    options: dict[str, Any]
    runs: "Runs"

    @classmethod
    def of(cls, table: Path, options: dict[str, Any], known: str | None = None) -> "_Order":
        """Read the table, whose labels may be in columns of other names; what cannot end well is refused at once."""
        import numpy as np

        from cgatlib.crystals.crystal import KNOWN
        from cgatlib.crystals.table import CrystalTable
        from cgatlib.files import refuse_other
        from cgatlib.release import is_model
        from cgatlib.runs.store import Runs

        if options.get("out"):
            refuse_other(options["out"], "a model", is_model)
        named = [text.partition("=") for text in options["labels"]]
        labels, about = [label for label, _, _ in named], {}
        columns = {label: column for label, _, column in named if column}
        if known is not None:
            label, column = known_column(known)
            if labels != [label]:
                raise CgatError(f"--known is for the one label that is learnt, {', '.join(labels)}, not {label}")
            columns[label + KNOWN] = about["known values"] = column
        crystals = CrystalTable.read(table, options["functional"], columns or None)
        for label in dict.fromkeys([*labels, *columns]):
            if np.isnan(crystals.label(label)).all():
                raise CgatError(f"{table}: {columns.get(label, label)} has a value in none of the {len(crystals)} rows")
        runs = Runs(options["runs"], accelerator=options["device"], devices=options["devices"])
        return cls(crystals, labels, about, options, runs)

    def starts(self, source: str) -> list["Run"]:
        """The runs to start from."""
        from cgatlib.ensemble import starting_points

        return starting_points(source, self.runs.root / ".sources", self.labels, self.options.get("source_label"))

    def experiments(self, starts: Sequence["Run | None"] = (None,), **settings: Any) -> list["Experiment"]:
        """One run for each seed, from random weights, or from the members of a model in turn."""
        seeds = self.options["seeds"] or [run.experiment.seed if run else 0 for run in starts]
        settings |= {"train_size": self.options.get("train_size"), **self._training}
        return [
            self.runs.declare(self.crystals, self.labels, source=run, seed=seed, **settings)
            for seed, run in zip(seeds, cycle(starts))
        ]

    def by_recipe(self, starts: Sequence["Run"], recipe: str | None, transfer: dict[str, Any]) -> list["Experiment"]:
        """The runs of a recipe."""
        from cgatlib.recipes import Plan

        self.runs.add(self.crystals, *starts)
        (label,), seeds, size = self.labels, self.options["seeds"], self.options["train_size"]
        plan = Plan(label, recipe, bool(self.about), seeds, size, transfer, self._training)
        return plan.experiments(self.crystals, starts)

    @property
    def _training(self) -> dict[str, Any]:
        """Fields of `TrainingConfig` that an option states."""
        return {name: value for name in (*_SETTINGS, "trunk_rate") if (value := self.options.get(name)) is not None}


def _report(order: _Order, experiments: Sequence["Experiment"]) -> None:
    """Train what is missing, print what came out, and make one model of the runs where that is wanted."""
    options, runs = order.options, order.runs.get_all(experiments, order.options["workers"])
    report: dict[str, Any] = {"runs": [{"run": str(run.path), **run.metrics} for run in runs]}
    lines = []
    for run in runs:
        m, maes = run.metrics, {label: run.scores(label)["test_mae"] for label in order.labels}
        counts = f"trained on {m['n_train']} crystals, tested on {m['n_test']}"
        lines.append(f"seed {run.experiment.seed}: {counts}: {_in_words(maes)}, run: {run.path}")
    if tried := [run.metrics["tried"] for run in runs if "tried" in run.metrics]:
        report["tried"] = {name: sum(errors[name] for errors in tried) / len(tried) for name in tried[0]}
        lines.append(f"validation MAE, {unit_of(order.labels[0])}:")
        lines += [f"  {name:28s} {mae:.4g}" for name, mae in report["tried"].items()]
    if out := options["out"]:
        from cgatlib.ensemble import released_models
        from cgatlib.release import release

        card = release(runs, order.crystals, out, order.runs, order.about).card
        assert card is not None
        errors = {label: accuracy.errors.mae for label, accuracy in card.accuracy.items()}
        report |= {"model": str(out), "test_mae": errors[order.labels[0]]}
        place = f"./{out}" if str(out) in released_models() else out  # the name means the released one
        lines.append(f"model: {out}, {_in_words(errors)}; use it with `cgatlib predict --model {place}`")
    click.echo(json.dumps(report) if options["as_json"] else "\n".join(lines))


def _in_words(maes: Mapping[str, float]) -> str:
    """The MAE, of several labels of each."""
    errors = {label: f"{mae:.4g} {unit_of(label)}" for label, mae in maes.items()}
    return f"MAE {', '.join(errors.values() if len(errors) == 1 else map(' '.join, errors.items()))}"
