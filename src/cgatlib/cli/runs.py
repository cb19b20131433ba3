"""``cgatlib runs``: look at finished runs."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cgatlib import CgatError

if TYPE_CHECKING:
    from cgatlib.runs.experiment import Experiment, Run

_PATH = click.Path(path_type=Path)
ROOT = click.option("--runs", "root", type=_PATH, default=Path("runs"), help="Folder of runs.")
ANY_ROOT = click.option(
    "--runs",
    "root",
    type=_PATH,
    default=Path("runs"),
    help="Folder of runs, an archive of runs, or a folder of archives.",
)


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
@ANY_ROOT
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_runs(root: Path, as_json: bool) -> None:
    """List the runs of a folder or archive with their test error.

    A run has not converged where its best step is in the last tenth of its budget.

    \b
    Example:
      cgatlib runs list --runs runs
      cgatlib runs list --runs data/runs
    """
    rows = []
    for key, run in _find(root).items():
        e = run.experiment
        rows.append(
            {
                "key": key,
                "functional": e.functional,
                "label": e.label,
                "mode": e.transfer.mode,
                "source": e.source.key if e.source else None,
                "seed": e.seed,
                **{name: run.metrics[name] for name in ("n_train", "test_mae")},
                "converged": run.converged,
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(
            f"{row['key']}  {row['functional']:7s} {row['label']:16s} {row['mode']:9s} seed {row['seed']}  "
            f"{row['n_train']:>8d} crystals  test MAE {row['test_mae']:.4g}"
            f"{'' if row['converged'] else '  not converged'}"
        )


@runs.command()
@click.argument("key")
@ANY_ROOT
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
@ANY_ROOT
def verify(root: Path) -> None:
    """Check that no file was changed and that each run's metrics follow from what is stored.

    Metrics follow from the predictions to nine digits in a run's folder, and from the errors to six in an archive.
    Baselines beside an archive and summaries of tables are checked, too. Ends with exit code 1 when something is wrong.

    \b
    Example:
      cgatlib runs verify --runs data/runs
    """
    from cgatlib.crystals.summary import summary_problems
    from cgatlib.evaluation.baselines import baseline_problems
    from cgatlib.runs.archive import RunArchive, find_archives, run_folders

    checked: dict[str, Run | RunArchive] = {run.path.name: run for run in run_folders(root)}
    checked |= {str(archive.path): archive for archive in find_archives(root)}
    count, bad = 0, 0
    for name, what in checked.items():
        try:
            problems = what.problems()
            if isinstance(what, RunArchive):
                count += len(what)
                problems += baseline_problems(what.path)
            else:
                count += 1
        except CgatError as error:
            problems = [str(error)]
        for problem in problems:
            click.echo(f"{name}: {problem}")
        bad += len(problems)
    for path, problem in summary_problems(root):
        click.echo(f"{path}: {problem}")
        bad += 1
    click.echo(f"{count} runs checked, {bad} problems")
    if bad:
        raise SystemExit(1)


@runs.command()
@ROOT
@click.option("--out", type=_PATH, required=True, help="Folder of the archive; one that exists is added to.")
@click.option("--plan", "plan_file", type=_PATH, help="Archive the runs of this plan only.")
@click.option("--data", type=_PATH, help="Folder of the plan's tables, if it does not state their fingerprints.")
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
    from cgatlib.runs.archive import RunArchive

    found = _find(root)
    wanted = {key: run.experiment for key, run in found.items()}
    if plan_file is not None:
        wanted = _planned(plan_file, data, root, found)
    archived = {key: run for key, run in found.items() if key in wanted}
    sources = {e.source.key for e in wanted.values() if e.source is not None} if weights else set()
    written = RunArchive.write(out, archived.values(), sources & archived.keys())
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    click.echo(f"{len(archived)} runs archived: {out} ({len(written)} runs, {size / 1e6:.2f} MB)")


def _planned(plan_file: Path, data: Path | None, root: Path, found: dict[str, "Run"]) -> dict[str, "Experiment"]:
    """The experiments of a plan by key; those that are not there are told."""
    from cgatlib.runs.plan import Plan, outlined
    from cgatlib.runs.store import Runs

    plan = Plan.read(plan_file)
    if data is not None:
        plan = plan.open(data, root / ".tables")
    wanted = {planned.experiment.key: planned for planned in outlined(plan, Runs(root, stored=found))}
    for key, planned in wanted.items():
        if key not in found:
            click.echo(f"not archived, as it is not in {root}: {planned}", err=True)
    return {key: planned.experiment for key, planned in wanted.items()}


@runs.command()
@click.argument("key")
@ROOT
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
