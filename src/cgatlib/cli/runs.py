"""``cgatlib runs``: look at finished runs."""

import json
import shutil
from pathlib import Path

import click

from cgatlib import CgatError

ROOT = click.option("--runs", "root", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of runs.")


@click.group()
def runs() -> None:
    """List, show, verify and remove finished runs."""


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise CgatError(f"{root} is not a folder of runs")
    return sorted(path.parent for path in root.glob("*/provenance.json"))


def _folder(root: Path, key: str) -> Path:
    found = [path for path in _folders(root) if path.name.startswith(key)]
    if len(found) != 1:
        known = ", ".join(path.name for path in found or _folders(root)) or "none"
        raise CgatError(f"{key!r} names {len(found)} runs in {root}; {'candidates' if found else 'known'}: {known}")
    return found[0]


@runs.command("list")
@ROOT
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_runs(root: Path, as_json: bool) -> None:
    """List the runs of a folder with their test error.

    \b
    Example:
      cgatlib runs list --runs runs
    """
    from cgatlib.experiments.experiment import Run

    rows = []
    for folder in _folders(root):
        run = Run(folder)
        e = run.experiment
        rows.append(
            {
                "key": folder.name,
                "functional": e.functional,
                "label": e.label,
                "mode": e.transfer.mode,
                "source": e.source.key if e.source else None,
                "seed": e.seed,
                **{name: run.metrics[name] for name in ("n_train", "test_mae")},
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(
            f"{row['key']}  {row['functional']:7s} {row['label']:16s} {row['mode']:4s} seed {row['seed']}  "
            f"{row['n_train']:>8d} crystals  test MAE {row['test_mae']:.4g}"
        )


@runs.command()
@click.argument("key")
@ROOT
def show(key: str, root: Path) -> None:
    """Print one run's experiment, metrics and provenance as JSON; KEY may be abbreviated.

    \b
    Example:
      cgatlib runs show 3fa2
    """
    from cgatlib.experiments.experiment import Run

    run = Run(_folder(root, key))
    parts = {"experiment": run.experiment.to_dict(), "metrics": run.metrics, "provenance": run.provenance}
    click.echo(json.dumps(parts, indent=1))


@runs.command()
@ROOT
def verify(root: Path) -> None:
    """Check that no file was changed and that each run's metrics follow from its predictions.

    Ends with exit code 1 when a run has a problem.

    \b
    Example:
      cgatlib runs verify --runs data/runs
    """
    from cgatlib.experiments.experiment import Run

    folders = _folders(root)
    bad = 0
    for folder in folders:
        try:
            problems = Run(folder).problems()
        except CgatError as error:
            problems = [str(error)]
        for problem in problems:
            click.echo(f"{folder.name}: {problem}")
        bad += len(problems)
    click.echo(f"{len(folders)} runs checked, {bad} problems")
    if bad:
        raise SystemExit(1)


@runs.command()
@click.argument("key")
@ROOT
def remove(key: str, root: Path) -> None:
    """Delete one run's folder.

    \b
    Example:
      cgatlib runs remove 3fa21c0d9e8b7a65
    """
    folder = _folder(root, key)
    shutil.rmtree(folder)
    click.echo(f"removed {folder}")
