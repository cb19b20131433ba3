"""``cgatlib graphs``, ``train``, ``transfer``, ``predict``: a user's own data without the book."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.experiments.experiment import Experiment, Run

_MODELS = ("tiny", "small", "released", "paper")
_TABLE = click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
_FUNCTIONAL = click.option("--functional", help="Functional of the table, if the file does not state it.")
_WORKERS = click.option("--workers", type=click.IntRange(1), default=1, help="Processes.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order given."""

    def apply(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


@click.command()
@_TABLE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option("--model", type=click.Choice(_MODELS), default="small", help="Graphs as this model wants them.")
@click.option("--neighbours", type=int, help="Nearest neighbours per atom, instead of the model's.")
@click.option(
    "--ties",
    type=click.Choice(["whole_shells", "deterministic", "reference"]),
    help="Rule at the k-th neighbour.",
)
@click.option("--tolerance", type=float, help="Width of a shell, Å.")
@_FUNCTIONAL
@_WORKERS
@_JSON
def graphs(
    table: Path, out: Path, model: str, functional: str | None, workers: int, as_json: bool, **changes: Any
) -> None:
    """Build the graphs of TABLE (parquet) once; crystals without a graph go to OUT/rejects.csv with the reason.

    \b
    Example:
      cgatlib graphs mine.parquet --out mine.graphs --model small --workers 2
    """
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.graphs.neighbours import GRAPHS
    from cgatlib.graphs.store import build_store

    config = replace(GRAPHS[model], **{name: value for name, value in changes.items() if value is not None})
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


_TRAINING = _options(
    click.option("--label", required=True, help="Property to learn: e_form, e_above_hull, volume_per_atom, band_gap."),
    click.option("--train-size", type=int, help="Crystals of the training part to use [default: all]."),
    click.option("--seed", type=int, default=0, help="Of the initial weights, the order and the choice of crystals."),
    click.option("--steps", type=int, default=3000, help="Optimiser steps."),
    click.option("--batch-size", type=int, default=128, help="Crystals per step."),
    click.option("--learning-rate", type=float, default=1e-3, help="Highest rate of the cyclical schedule."),
    click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of runs."),
    click.option("--device", default="cpu", help="Accelerator as Lightning Fabric names it: cpu, cuda, mps."),
    _FUNCTIONAL,
    _WORKERS,
    _JSON,
)


@click.command()
@_TABLE
@click.option("--model", type=click.Choice(_MODELS), default="small", help="Size and variant of the network.")
@_TRAINING
def train(table: Path, model: str, **options: Any) -> None:
    """Train a network on TABLE (parquet) from random weights; a run that exists is not repeated.

    \b
    Example:
      cgatlib train pbe.parquet --label e_form --model small --steps 5000
    """
    from cgatlib.experiments.experiment import Experiment
    from cgatlib.graphs.neighbours import GRAPHS
    from cgatlib.model.cgat import MODELS

    crystals = _read(table, options)
    experiment = Experiment(
        crystals.fingerprint,
        crystals.functional,
        options["label"],
        options["train_size"],
        options["seed"],
        graph=GRAPHS[model],
        model=MODELS[model],
        training=_training(options),
    )
    _run(crystals, experiment, {}, options)


@click.command()
@_TABLE
@click.option("--from", "source", type=click.Path(path_type=Path), required=True, help="Folder of the pre-trained run.")
@click.option("--mode", type=click.Choice(["head", "full"]), default="full", help="Train the output network or all.")
@click.option(
    "--target-statistics",
    type=click.Choice(["target", "source"]),
    default="target",
    help="Normalise by the new labels or, as the released code, by the old ones.",
)
@click.option("--reinitialise-head", is_flag=True, help="Start the output network from random weights.")
@_TRAINING
def transfer(
    table: Path, source: Path, mode: Any, target_statistics: Any, reinitialise_head: bool, **options: Any
) -> None:
    """Continue a pre-trained run on TABLE (parquet): another functional, or another property.

    \b
    Example:
      cgatlib transfer r2scan.parquet --from runs/3fa21c0d9e8b7a65 --label e_form --mode full
    """
    from cgatlib.experiments.experiment import Experiment, Run
    from cgatlib.transfer import TransferConfig

    crystals = _read(table, options)
    pretrained = Run(source)
    parent = pretrained.experiment
    experiment = Experiment(
        crystals.fingerprint,
        crystals.functional,
        options["label"],
        options["train_size"],
        options["seed"],
        source=parent,
        transfer=TransferConfig(mode, target_statistics, reinitialise_head),
        graph=parent.graph,
        split=parent.split,
        model=parent.model,
        training=_training(options),
    )
    _run(crystals, experiment, {parent.key: pretrained}, options)


def _read(table: Path, options: dict[str, Any]) -> "CrystalTable":
    from cgatlib.crystals.table import CrystalTable

    crystals = CrystalTable.read(table, options["functional"])
    crystals.label(options["label"])  # refuse an unknown label before any work
    return crystals


def _training(options: dict[str, Any]) -> Any:
    from cgatlib.training import TrainingConfig

    steps = options["steps"]
    return TrainingConfig(steps, options["batch_size"], options["learning_rate"], evaluations=min(30, steps))


def _run(crystals: "CrystalTable", experiment: "Experiment", stored: dict[str, "Run"], options: dict[str, Any]) -> None:
    from cgatlib.experiments.runner import RunStore
    from cgatlib.graphs.store import graph_store

    cache = options["runs"] / ".graphs"
    graph_store(crystals, experiment.graph, cache, options["workers"])
    store = RunStore(options["runs"], cache=cache, stored=stored, accelerator=options["device"])
    run = store.get_all([experiment], options["workers"])[0]
    if options["as_json"]:
        click.echo(json.dumps({"run": str(run.path), **run.metrics}))
        return
    m = run.metrics
    click.echo(
        f"trained on {m['n_train']} crystals, tested on {m['n_test']}: MAE {m['test_mae']:.4g} ({experiment.label})"
    )
    click.echo(f"run: {run.path}")


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("structures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV to write.")
@_JSON
def predict(model: Path, structures: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Predict with MODEL (a run's folder) for STRUCTURES: parquet tables or structure files (id = file stem).

    A crystal that cannot be judged keeps its row in OUT, with an empty prediction and the reason.

    \b
    Example:
      cgatlib predict runs/3fa21c0d9e8b7a65 cifs/*.cif --out predictions.csv
    """
    from cgatlib.predictor import Predictor

    if not out.parent.is_dir():
        raise CgatError(f"{out.parent} is not a folder: predictions cannot be written there")
    predictor = Predictor.load(model)
    result = predictor.predict_files(structures)
    result.to_csv(out, index=False)
    judged = int(result["prediction"].notna().sum())
    counts = {
        "crystals": len(result),
        "predicted": judged,
        "not_judged": len(result) - judged,
        "out": str(out),
    }
    click.echo(json.dumps(counts) if as_json else f"{judged} of {len(result)} crystals predicted: {out}")
