"""``cgatlib predict``, ``model``, ``checkpoint``: use models, show them, make one of runs or of the released code."""

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError
from cgatlib.cli.options import FUNCTIONAL, JSON, PATH, known_column, unit_of
from cgatlib.files import refuse_same, replacing

if TYPE_CHECKING:
    import pandas as pd

    from cgatlib.cards import Accuracy, EnsembleCard, Member


@click.command()
@click.option("--model", required=True, help="Released model (`cgatlib model list`), or folder of a model or run.")
@click.argument("structures", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, help="CSV to write [default: print it].")
@click.option("--workers", type=click.IntRange(1), help="Processes that read structure files [default: one per core].")
@click.option(
    "--known", help="LABEL=COLUMN of the known values that a paired model asks for [default: as in training]."
)
@click.option("--json", "as_json", is_flag=True, help="With --out, print the counts as JSON; else the rows.")
def predict(
    model: str, structures: tuple[Path, ...], out: Path | None, workers: int | None, known: str | None, as_json: bool
) -> None:
    """Predict for STRUCTURES, parquet tables or structure files (id = file stem), in the order given.

    The uncertainty is such that two thirds of the errors are expected to be smaller. A crystal that cannot be judged
    keeps its row, with an empty prediction and the reason as its note; one unlike the training data is predicted and
    noted.

    \b
    Examples:
      cgatlib predict --model volume-pbesol candidate.cif
      cgatlib predict --model runs/3fa21c0d9e8b7a65 cifs/*.cif --out predictions.csv
    """
    from cgatlib.ensemble import load_model

    if out is not None and not out.parent.is_dir():
        raise CgatError(f"{out.parent} is not a folder: predictions cannot be written there")
    columns = dict([known_column(known)]) if known else None
    predicted = partial(load_model(model).predict_files, structures, workers or os.cpu_count() or 1, columns)
    if out is None:
        result = predicted()
        click.echo(result.to_json(orient="records") if as_json else _csv(result), nl=as_json)
        return
    refuse_same(out, *structures)
    with replacing(out, "a table of predictions", _is_predictions) as part:
        result = predicted()
        part.write_text(_csv(result), encoding="utf-8")
    judged = int(result.filter(like="prediction").notna().any(axis=1).sum())
    counts = {"crystals": len(result), "predicted": judged, "not_judged": len(result) - judged, "out": str(out)}
    click.echo(json.dumps(counts) if as_json else f"{judged} of {len(result)} crystals predicted: {out}")


def _csv(result: "pd.DataFrame") -> str:
    return str(result.to_csv(index=False, float_format="%.6g"))


def _is_predictions(path: Path) -> bool:
    """Whether a file was written by `cgatlib predict`, by its first line."""
    if not path.is_file():
        return False
    columns = rb"material_id(,prediction(_\w+)?,uncertainty(_\w+)?,unit(_\w+)?)+,note\r?\n"
    with path.open("rb") as file:
        return re.fullmatch(columns, file.readline(1000)) is not None


@click.group()
def model() -> None:
    """List and show released models, make a model of several runs."""


@model.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List the models that come with the package.

    \b
    Example:
      cgatlib model list
    """
    from cgatlib.ensemble import files_of, read_card, released_models

    cards = {name: read_card(folder) for name, folder in released_models().items()}
    if as_json:
        click.echo(json.dumps({name: json.loads(card.to_json()) for name, card in cards.items()}))
        return
    for name, card in cards.items():
        for label, accuracy in card.accuracy.items():
            members = card.of_label(label)
            size = sum((files_of(released_models()[name]) / member.file).stat().st_size for member in members)
            click.echo(
                f"{name:24s} {label:16s} {card.functional:7s} test MAE {accuracy.errors.mae:.3g} {unit_of(label)}, "
                f"{members[0].scores(label)['n_train']:,} training crystals, "
                f"{len(members)} {'members' if len(members) > 1 else 'member'}, {size / 1e6:.1f} MB"
            )


@model.command()
@click.argument("name")
@JSON
def show(name: str, as_json: bool) -> None:
    """Print the card of a model: its data, errors, uncertainty, and where it fails. NAME may be a folder.

    \b
    Example:
      cgatlib model show volume-pbesol
    """
    from cgatlib.ensemble import find_model, read_card
    from cgatlib.predictor import reading_model

    card = read_card(find_model(name))
    with reading_model(find_model(name)):  # whose metrics and experiments are shown as they are
        lines = [fill(line, 110, subsequent_indent="  ") for line in _lines(name, card)]
    click.echo(card.to_json() if as_json else "\n".join(lines), nl=not as_json)


def _lines(name: str, card: "EnsembleCard") -> Iterator[str]:
    first, units = card.members[0], ", ".join(dict.fromkeys(map(unit_of, card.accuracy)))
    m, split, transfer = first.metrics, first.experiment["split"], first.experiment["transfer"]
    yield f"{name}: {', '.join(card.accuracy)} ({card.functional}), {units}"
    yield from (f"{key}: {value}" for key, value in card.data.items())
    yield f"crystals: {m['n_train']:,} to train, {m['n_validation']:,} to validate, {m['n_test']:,} to test"
    seen = "; pre-training may have seen test crystals" if transfer["test_crystals"] == "seen" else ""
    yield f"split: by {split['groups']}, seed {split['seed']}{seen}"
    yield from map(_member, card.members)
    if transfer["mode"] == "paired":
        (label,) = card.accuracy
        yield f"needs, for every prediction, the {label} of the crystal by a cheaper functional: a calculation"
    if card.tried:
        tried = ", ".join(f"{name} {error:.4g}" for name, error in card.tried.items())
        yield f"validation MAE of what was tried, {units}: {tried}"
    weights, seconds = (sum(each.metrics[what] for each in card.members) for what in ("trained_parameters", "seconds"))
    precision = "half" if card.half else "single"
    yield f"trained: {weights:,} weights in {seconds:,.0f} seconds, stored in {precision} precision"
    for label, accuracy in card.accuracy.items():
        if len(card.accuracy) > 1:
            yield f"{label}:"
        yield from _accuracy(accuracy, unit_of(label))
    for what, (low, high) in card.domain.ranges.items():
        yield f"{what} in training: {low:.3g} to {high:.3g}"
    yield "elements (training crystals): " + ", ".join(f"{symbol} {n}" for symbol, n in card.domain.elements.items())
    yield f"trained with cgatlib {first.code['version']} ({first.code['commit'] or 'no commit'})"


def _member(member: "Member") -> str:
    """Its file, test errors and start."""
    errors = ", ".join(f"{member.scores(label)['test_mae']:.4g} {unit_of(label)}" for label in member.labels)
    source, start = member.experiment["source"], "random weights"
    if source:
        learnt = ", ".join((source["label"], *source.get("more_labels", ())))
        start = f"{learnt} {source['functional']}, seed {source['seed']}"
    of = f" of {', '.join(member.labels)}" if len(member.labels) > 1 else ""
    return f"member {member.file}: test MAE{of} {errors}; from {start}"


def _accuracy(accuracy: "Accuracy", unit: str) -> Iterator[str]:
    errors = accuracy.errors
    yield f"test MAE: {errors.mae:.4g} {unit}, RMSE {errors.rmse:.4g}, always the mean: {errors.mad:.4g}"
    if errors.baselines:
        names = {"boosting": "boosted trees on the composition", "zero": "always zero", "median": "always the median"}
        known = (f"{name} {errors.baselines[key]:.4g}" for key, name in names.items() if key in errors.baselines)
        yield f"without the structure, {unit}: {', '.join(known)}"
    if u := accuracy.uncertainty:
        once, twice = u.coverage
        rank = "" if u.rank_correlation is None else f"; rank correlation with the errors {u.rank_correlation:.2f}"
        yield f"uncertainty: from the errors of {u.n_validation:,} other crystals{rank}"
        yield f"test errors within it: {once:.1%}, within twice of it: {twice:.1%}"
        yield f"test MAE by quarter of uncertainty: {', '.join(f'{mae:.3g}' for mae in u.mae_by_quarter)} {unit}"
    if errors.spread:
        yield f"standard deviation of the members, on average: {errors.spread:.3g} {unit}"
    worst = ", ".join(f"{symbol} {mae:.3g} ({n})" for symbol, n, mae in errors.worst_elements)
    yield f"largest errors by element, {unit} (test crystals): {worst}"
    if errors.classes:
        kinds = ", ".join(f"{name} {mae:.3g} ({n})" for name, (n, mae) in errors.classes.items())
        yield f"errors by class, {unit} (test crystals): {kinds}"


@model.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--table", required=True, type=click.Path(path_type=Path, exists=True), help="Table of the runs (parquet)."
)
@FUNCTIONAL
@click.option("--about", type=click.File(), help="YAML with name and licence of the data, and more.")
@click.option("--half", is_flag=True, help="Store the weights in half precision, in half the space.")
@click.option("--out", type=PATH, required=True, help="Folder of the model.")
def release(runs: tuple[Path, ...], table: Path, functional: str | None, about: Any, half: bool, out: Path) -> None:
    """Make one model of RUNS: of those that differ in their seeds only, the mean is predicted.

    Where others have learnt the same property, it comes from those with the smallest validation error.

    \b
    Examples:
      cgatlib model release runs/3fa2... runs/81c0... runs/d77e... --table mine.parquet --out my-model
      cgatlib model release runs/JOINT... runs/E_FORM... --table pbe.parquet --half --out pbe
    """
    import yaml

    from cgatlib.crystals.table import CrystalTable
    from cgatlib.release import release as make
    from cgatlib.runs.experiment import Run
    from cgatlib.runs.store import Runs

    data = yaml.safe_load(about) if about else {}
    if not isinstance(data, dict):
        raise CgatError(f"{about.name} holds no names and values, e.g. licence: CC-BY-4.0")
    crystals = CrystalTable.read(table, functional)
    made = make([Run(path) for path in runs], crystals, out, Runs(runs[0].parent), data, half)
    assert made.card is not None
    for label, accuracy in made.card.accuracy.items():
        files = ", ".join(member.file for member in made.card.of_label(label))
        click.echo(f"{out}: {label}, MAE {accuracy.errors.mae:.4g} {unit_of(label)}, from {files}")


@click.group()
def checkpoint() -> None:
    """Use checkpoints of the authors' released code."""


@checkpoint.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=PATH, required=True, help="Folder of the model.")
@click.option("--label", required=True, help="Property it predicts: e_form, e_above_hull, volume_per_atom, band_gap.")
@click.option("--functional", required=True, help="Functional of its training labels.")
def import_(file: Path, out: Path, label: str, functional: str) -> None:
    """Turn FILE, a checkpoint of the released code, into a model that `cgatlib predict` takes.

    Nothing in the file is executed: one that holds more than tensors and plain containers is refused. Sizes are read
    off the weights. The file does not say which elements the network was trained on, so none is refused later.

    \b
    Example:
      cgatlib checkpoint import e_form.ckpt --out models/e_form --label e_form --functional PBE
    """
    from cgatlib.predictor import import_released, is_network

    refuse_same(out, file)
    with replacing(out, "an imported model", is_network) as part:
        predictor = import_released(file, label, functional)
        predictor.save(part)
    c = predictor.card.model
    click.echo(f"model: {out} (C {c.atom_width}, D {c.edge_width}, {c.heads} heads, {c.steps} steps, k {c.neighbours})")
