"""``cgatlib baselines``: what the networks of a plan have to beat."""

from pathlib import Path

import click


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the plan's tables.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for results and predictions.")
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
