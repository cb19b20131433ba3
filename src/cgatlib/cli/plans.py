"""``cgatlib sweep``, ``baselines``: all runs of a plan, and what they have to beat."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError
from cgatlib.cli.options import PATH

if TYPE_CHECKING:
    from cgatlib.runs.experiment import Run
    from cgatlib.runs.plan import Plan, Planned, Summary
    from cgatlib.runs.schedule import Pool
    from cgatlib.runs.store import Runs

_PLAN = click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.command()
@_PLAN
@click.option("--data", type=PATH, help="Folder of the plan's tables; not needed for graphs that are there already.")
@click.option(
    "--only",
    multiple=True,
    metavar="ENTRY[,ENTRY...]",
    help="Only these entries of the plan, and those that they start from or take a learning rate from. May be given "
    "again.",
)
@click.option("--runs", "root", type=PATH, default=Path("runs"), help="Folder of runs.")
@click.option(
    "--stored",
    type=PATH,
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
    plan_file: Path, data: Path | None, only: tuple[str, ...], root: Path, stored: tuple[Path, ...], **options: Any
) -> None:
    """Train the runs of PLAN (YAML) that are missing: learning rates by trial first, sources before transfers.

    A run that fails does not stop the others. After an interruption, the same command goes on where it was; jobs that
    were submitted to SLURM go on by themselves. In the end, entries are named whose runs have not converged, or whose
    learning rate was best at the edge of those tried. Ends with exit code 1 when a run has failed.

    \b
    Examples:
      cgatlib sweep plan.yaml --data tables --dry-run
      cgatlib sweep plan.yaml --data tables --workers 2 --only base,transfer
      cgatlib sweep plan.yaml --data tables --executor slurm --device cuda \\
          --slurm partition=gpu,gpus_per_node=1,timeout_min=240
    """
    from cgatlib.runs.archive import find_runs
    from cgatlib.runs.plan import Plan
    from cgatlib.runs.store import Runs

    root = root.resolve()  # jobs may start elsewhere
    plan = Plan.read(plan_file)
    if only:
        plan = plan.only(name.strip() for name in ",".join(only).split(","))
    if data is not None:
        plan = plan.open(data, root / ".tables")
        for name, source in plan.sources.items():
            click.echo(f"table {name}: {len(source.table)} crystals, fingerprint {source.table.fingerprint}")
    known = find_runs(*(folder.resolve() for folder in stored))
    store = Runs(root, plan.opened, stored=known, accelerator=options["device"], devices=options["devices"])
    pool = _pool(options["executor"], options["workers"], options["parameters"], root)
    if options["dry_run"]:
        _list(plan, store)
    else:
        _run(plan, store, pool, options["workers"])


def _pool(executor: str, workers: int, parameters: tuple[str, ...], root: Path) -> "Pool":
    from cgatlib.runs.schedule import cluster_pool, local_pool

    if executor == "local":
        if parameters:
            raise CgatError("--slurm goes with --executor slurm")
        return local_pool(workers)
    named: dict[str, Any] = {}
    for part in ",".join(parameters).split(",") if parameters else ():
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise CgatError(f"--slurm {part!r} is not NAME=VALUE")
        named[name] = int(value) if value.isdecimal() else value
    return cluster_pool(executor, root / ".jobs", named)


def _list(plan: "Plan", store: "Runs") -> None:
    from cgatlib.transfer import STEPLESS

    runs = plan.outline(store)
    missing = store.missing([planned.experiment for planned in runs])
    steps = sum(e.training.steps for e in missing.values() if e.transfer.mode not in STEPLESS)
    for planned in runs:
        if planned.experiment.key in missing:
            click.echo(str(planned))
    click.echo(f"{len(missing)} of {len(runs)} runs would be trained, {steps} steps in all")


def _run(plan: "Plan", store: "Runs", pool: "Pool", workers: int) -> None:
    from tqdm import tqdm

    from cgatlib.runs.plan import doubts, run_plan

    missing = store.missing([planned.experiment for planned in plan.outline(store)])
    with tqdm(total=len(missing), unit=" runs", desc="sweep", disable=None) as bar:

        def report(planned: "Planned", outcome: "Run | str") -> None:
            bar.update()
            tqdm.write(f"{planned}: {f'failed: {outcome}' if isinstance(outcome, str) else _errors(outcome)}")

        summary = run_plan(plan, store, pool, workers, report)
    for doubt in doubts(plan, store):
        click.echo(doubt)
    _tell(summary)
    if summary.failed:
        raise SystemExit(1)


def _errors(run: "Run") -> str:
    m = run.metrics
    return f"test MAE {m['test_mae']:.4g}, validation MAE {m['validation_mae']:.4g}, {m['seconds']:.0f} s"


def _tell(summary: "Summary") -> None:
    for entry, counts in summary.counts().items():
        click.echo(f"{entry}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    for planned, reason in summary.failed.items():
        click.echo(f"failed: {planned}: {reason}")
    for entry, reason in summary.undecided.items():
        click.echo(f"not run: {entry}: {reason}")
    click.echo(f"{len(summary.done)} runs done, {len(summary.reused)} reused, {len(summary.failed)} failed")


@click.command()
@_PLAN
@click.option("--data", type=PATH, required=True, help="Folder of the plan's tables.")
@click.option("--out", type=PATH, required=True, help="Folder for results and predictions.")
def baselines(plan_file: Path, data: Path, out: Path) -> None:
    """Fit simple predictors to every target of PLAN, on the splits of its runs.

    \b
    Example:
      cgatlib baselines plan.yaml --data tables --out data/runs/study
    """
    from cgatlib.evaluation.baselines import planned_baselines, write_baselines
    from cgatlib.runs.plan import Plan

    found = []
    for item in planned_baselines(Plan.read(plan_file).open(data, out / ".tables"), data):
        split = f"split {item.split['seed']}"
        click.echo(f"{item.functional:7s} {item.label:16s} {split}  {item.name:24s} MAE {item.mae:.4g}")
        found.append(item)
    write_baselines(out, found)
    click.echo(f"{len(found)} results: {out}")
