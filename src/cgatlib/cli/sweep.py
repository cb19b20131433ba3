"""``cgatlib sweep``: all runs of a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError

if TYPE_CHECKING:
    from cgatlib.runs.plan import Ended, Plan, Summary
    from cgatlib.runs.schedule import Pool
    from cgatlib.runs.store import Runs

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=_PATH, help="Folder of the plan's tables; not needed for graphs that are there already.")
@click.option("--runs", "root", type=_PATH, default=Path("runs"), help="Folder of runs.")
@click.option(
    "--stored",
    type=_PATH,
    multiple=True,
    help="Finished runs to use as they are, whatever code made them, and to start from where they have weights: a "
    "folder of runs, an archive, or a folder of archives. May be given again.",
)
@click.option("--workers", type=click.IntRange(1), default=1, help="Processes, with --executor local.")
@click.option(
    "--executor",
    type=click.Choice(["local", "slurm", "submitit-local", "submitit-debug"]),
    default="local",
    help="Where runs are trained: on this machine, or as jobs of SLURM; the last two try jobs out without SLURM.",
)
@click.option(
    "--slurm",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE[,...]",
    help="Parameters of a job: partition, timeout_min (5 if absent), gpus_per_node, mem_gb, cpus_per_task, ...",
)
@click.option("--device", default="cpu", help="Accelerator as Lightning Fabric names it: cpu, cuda, mps.")
@click.option("--devices", type=click.IntRange(1), default=1, help="Devices that train one run together.")
@click.option("--dry-run", is_flag=True, help="List what would be trained, and train nothing.")
def sweep(
    plan_file: Path,
    data: Path | None,
    root: Path,
    stored: tuple[Path, ...],
    workers: int,
    executor: str,
    parameters: tuple[str, ...],
    device: str,
    devices: int,
    dry_run: bool,
) -> None:
    """Train the runs of PLAN (YAML) that are missing: learning rates by trial first, sources before transfers.

    A run that fails does not stop the others. After an interruption, the same command goes on where it was; jobs that
    were submitted to SLURM go on by themselves. In the end, entries are named whose runs have not converged, or whose
    learning rate was best at the edge of those tried. Ends with exit code 1 when a run has failed.

    \b
    Examples:
      cgatlib sweep plan.yaml --data tables --dry-run
      cgatlib sweep plan.yaml --data tables --workers 2
      cgatlib sweep plan.yaml --data tables --executor slurm --device cuda \\
          --slurm partition=gpu,gpus_per_node=1,timeout_min=240
    """
    from cgatlib.runs.archive import find_runs
    from cgatlib.runs.plan import Plan, doubts
    from cgatlib.runs.store import Runs

    root = root.resolve()  # jobs may start elsewhere
    plan = Plan.read(plan_file)
    if data is not None:
        plan = plan.open(data, root / ".tables")
        for name, source in plan.sources.items():
            click.echo(f"table {name}: {len(source.table)} crystals, fingerprint {source.table.fingerprint}")
    known = find_runs(*(folder.resolve() for folder in stored))
    store = Runs(root, plan.opened, stored=known, accelerator=device, devices=devices)
    pool = _pool(executor, workers, parameters, root)
    if dry_run:
        _list(plan, store)
        return
    summary = _run(plan, store, pool, workers)
    for doubt in doubts(plan, store):
        click.echo(doubt)
    _tell(summary)
    if summary.failed:
        raise SystemExit(1)


def _pool(executor: str, workers: int, parameters: tuple[str, ...], root: Path) -> "Pool":
    from cgatlib.runs.schedule import cluster_pool, local_pool

    if executor != "local":
        return cluster_pool(executor, root / ".jobs", _parameters(parameters))
    if parameters:
        raise CgatError("--slurm goes with --executor slurm")
    return local_pool(workers)


def _parameters(texts: tuple[str, ...]) -> dict[str, Any]:
    """Read ``name=value,name=value``; a value of digits is a number."""
    found: dict[str, Any] = {}
    for part in ",".join(texts).split(",") if texts else ():
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise CgatError(f"--slurm {part!r} is not NAME=VALUE")
        found[name] = int(value) if value.isdecimal() else value
    return found


def _list(plan: "Plan", store: "Runs") -> None:
    from cgatlib.runs.plan import outlined
    from cgatlib.transfer import STEPLESS

    runs = outlined(plan, store)
    missing = store.missing([planned.experiment for planned in runs])
    steps = sum(e.training.steps for e in missing.values() if e.transfer.mode not in STEPLESS)
    for planned in runs:
        if planned.experiment.key in missing:
            click.echo(str(planned))
    click.echo(f"{len(missing)} of {len(runs)} runs would be trained, {steps} steps in all")


def _run(plan: "Plan", store: "Runs", pool: "Pool", workers: int) -> "Summary":
    from tqdm import tqdm

    from cgatlib.runs.plan import outlined, run_plan

    missing = store.missing([planned.experiment for planned in outlined(plan, store)])
    with tqdm(total=len(missing), unit=" runs", desc="sweep", disable=None) as bar:

        def report(ended: "Ended") -> None:
            bar.update()
            tqdm.write(_line(ended))

        return run_plan(plan, store, pool, workers, report)


def _line(ended: "Ended") -> str:
    if ended.run is None:
        return f"{ended.planned}: failed: {ended.reason}"
    m = ended.run.metrics
    return (
        f"{ended.planned}: test MAE {m['test_mae']:.4g}, validation MAE {m['validation_mae']:.4g}, {m['seconds']:.0f} s"
    )


def _tell(summary: "Summary") -> None:
    for entry, counts in summary.counts().items():
        click.echo(f"{entry}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    for planned, reason in summary.failed.items():
        click.echo(f"failed: {planned}: {reason}")
    for entry, reason in summary.undecided.items():
        click.echo(f"not run: {entry}: {reason}")
    click.echo(f"{len(summary.done)} runs done, {len(summary.reused)} reused, {len(summary.failed)} failed")
