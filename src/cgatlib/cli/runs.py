"""``cgatlib runs``: look at finished runs."""

import json
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cgatlib import CgatError
from cgatlib.cli.options import PATH

if TYPE_CHECKING:
    from cgatlib.runs.experiment import Experiment, Run

_RUNS = partial(click.option, "--runs", "root", type=PATH, default=Path("runs"))
_FOLDER = _RUNS(help="Folder of runs.")
_ANY = _RUNS(help="Folder of runs, an archive of runs, or a folder of archives.")


@click.group()
def runs() -> None:
    """List, show, verify, archive and remove finished runs."""


def _find(root: Path) -> dict[str, "Run"]:
    from cgatlib.runs.archive import find_runs

    return dict(sorted(find_runs(root).items()))


def _key(root: Path, known: Iterable[str], start: str) -> str:
    """The only key that begins so, or that is just this."""
    known = list(known)
    found = [key for key in known if key == start] or [key for key in known if key.startswith(start)]
    if len(found) != 1:
        names = ", ".join(found or known) or "none"
        raise CgatError(f"{start!r} names {len(found)} runs in {root}; {'candidates' if found else 'known'}: {names}")
    return found[0]


@runs.command("list")
@_ANY
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_runs(root: Path, as_json: bool) -> None:
    """List the runs of a folder or archive with their test error.

    A run has not converged where its best step is in the last tenth of its budget.

    \b
    Example:
      cgatlib runs list --runs runs
      cgatlib runs list --runs data/runs
    """
    rows = [
        {
            "key": key,
            "functional": run.experiment.functional,
            "label": run.experiment.label,
            "mode": run.experiment.transfer.mode,
            "source": run.experiment.source.key if run.experiment.source else None,
            "seed": run.experiment.seed,
            **{name: run.metrics[name] for name in ("n_train", "test_mae")},
            "converged": run.converged,
        }
        for key, run in _find(root).items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    line = "{key}  {functional:7s} {label:16s} {mode:9s} seed {seed}  {n_train:>8d} crystals  test MAE {test_mae:.4g}"
    for row in rows:
        click.echo(line.format(**row) + ("" if row["converged"] else "  not converged"))


@runs.command()
@click.argument("key")
@_ANY
def show(key: str, root: Path) -> None:
    """Print one run's experiment, metrics and provenance as JSON; KEY may be abbreviated.

    \b
    Example:
      cgatlib runs show 3fa2
    """
    known = _find(root)
    run = known[_key(root, known, key)]
    parts = {"experiment": run.experiment.to_dict(), "metrics": run.metrics, "provenance": run.provenance}
    click.echo(json.dumps(parts, indent=1))


@runs.command()
@_ANY
def verify(root: Path) -> None:
    """Check that no file was changed and that each run's metrics follow from what is stored.

    Metrics follow from the predictions to nine digits in a run's folder, and from the errors to six in an archive.
    Baselines beside an archive and summaries of tables are checked, too. Ends with exit code 1 when something is wrong.

    \b
    Example:
      cgatlib runs verify --runs data/runs
    """
    from cgatlib.evaluation.baselines import baseline_problems
    from cgatlib.evaluation.summaries import summary_problems
    from cgatlib.runs.archive import RunArchive, find_archives, run_folders

    count, bad = 0, [f"{path}: {problem}" for path, problem in summary_problems(root)]
    places: list[Run | RunArchive] = [*run_folders(root), *find_archives(root)]
    for place in places:
        try:
            problems = place.problems()
            if isinstance(place, RunArchive):
                problems += baseline_problems(place.path)
            count += len(place) if isinstance(place, RunArchive) else 1
        except CgatError as error:
            problems = [str(error)]
        name = place.path if isinstance(place, RunArchive) else place.path.name
        bad += [f"{name}: {problem}" for problem in problems]
    click.echo("\n".join([*bad, f"{count} runs checked, {len(bad)} problems"]))
    if bad:
        raise SystemExit(1)


@runs.command()
@_FOLDER
@click.option("--out", type=PATH, required=True, help="Folder of the archive; one that exists is added to.")
@click.option("--plan", "plan_file", type=PATH, help="Archive the runs of this plan only.")
@click.option("--data", type=PATH, help="Folder of the plan's tables, if it does not state their fingerprints.")
@click.option("--weights", is_flag=True, help="Keep the networks that other runs (of the plan) start from, too.")
def archive(root: Path, out: Path, plan_file: Path | None, data: Path | None, weights: bool) -> None:
    """Keep experiments, metrics, learning curves, test errors and provenance of many runs in four files.

    Weights stay behind, and so do ids, formulas and labels of the tables: a test crystal is known by a digest. Errors
    are kept in single precision, so metrics follow from them to six digits. Runs of an archive that is already there
    stay; the same runs always give the same bytes. With --weights, a sweep with --stored OUT goes on from here on
    another machine without training again what its runs start from.

    \b
    Example:
      cgatlib runs archive --runs runs --out data/runs/functionals --plan plan.yaml --weights
    """
    from cgatlib.runs.archive import RunArchive, find_runs

    found = _find(root)
    wanted = {key: run.experiment for key, run in found.items()}
    if plan_file is not None:
        # the archive may hold the runs that chose the rates
        known = find_runs(root, out) if (out / "archive.json").is_file() else found
        wanted = _planned(plan_file, data, root, known)
    archived = {key: run for key, run in found.items() if key in wanted}
    sources = {e.source.key for e in wanted.values() if e.source is not None} if weights else set()
    written = RunArchive.write(out, archived.values(), sources & archived.keys())
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{len(archived)} runs archived: {out} ({len(written)} runs, {size / 1e6:.2f} MB)")


def _planned(plan_file: Path, data: Path | None, root: Path, known: dict[str, "Run"]) -> dict[str, "Experiment"]:
    """The experiments of a plan by key, with rates that `known` decides; those that are not in it are told."""
    from cgatlib.runs.plan import Plan
    from cgatlib.runs.store import Runs

    plan = Plan.read(plan_file)
    if data is not None:
        plan = plan.open(data, root / ".tables")
    wanted = {planned.experiment.key: planned for planned in plan.outline(Runs(root, stored=known))}
    for key, planned in wanted.items():
        if key not in known:
            click.echo(f"not archived, as it is not in {root} and was not before: {planned}", err=True)
    return {key: planned.experiment for key, planned in wanted.items()}


@runs.command()
@click.argument("key")
@_FOLDER
def remove(key: str, root: Path) -> None:
    """Delete one run's folder; KEY may be abbreviated, KEY-CODE is one that other code has made.

    \b
    Example:
      cgatlib runs remove 3fa21c0d9e8b7a65
    """
    from cgatlib.runs.archive import run_folders

    known = {run.path.name: run for run in run_folders(root)}
    folder = known[_key(root, known, key)].path
    shutil.rmtree(folder)
    click.echo(f"removed {folder}")
