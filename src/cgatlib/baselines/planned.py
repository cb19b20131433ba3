"""The baselines of a plan: for every target that a network learns from random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from cgatlib import CgatError
from cgatlib.baselines.models import Task
from cgatlib.baselines.records import Baseline, all_baselines
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.store import Runs


def planned_baselines(plan: Plan, data: Path) -> Iterator[Baseline]:
    """All baselines of a plan's targets, on each of its splits; the seed of a network is nothing to them.

    A target is a label of a table that some run of the plan is transferred to, with the whole training part; ``pairs``
    of a table names the columns that hold the same crystal's labels under the functional transferred from.

    Args:
        plan: opened. data: folder of its files.

    Raises:
        CgatError: a column of pairs does not exist.
    """
    store = Runs(Path())  # which learning rate a network got is nothing to them either
    every = (e for name in plan.entries for e in plan.outline(name, store))
    whole = [e for e in every if e.train_size is None and e.source is not None]
    targets = {(e.data, e.label, e.split): e for e in whole}
    names = {source.table.fingerprint: name for name, source in plan.sources.items()}
    for experiment in targets.values():
        yield from all_baselines(_task(plan, names[experiment.data], experiment, data))


def _task(plan: Plan, table: str, experiment: Experiment, data: Path) -> Task:
    declared = plan.tables[table]
    column = declared.get("pairs", {}).get(experiment.label)
    if column is None:
        return Task.of(experiment, plan.sources[table].table)
    file = data / declared["file"]
    if column not in pq.read_schema(file).names:
        raise CgatError(f"table {table}: {file} has no column {column!r}, which its pairs name")
    rows = pq.read_table(file, columns=["material_id", column])
    values = dict(zip(rows["material_id"].to_pylist(), rows[column].to_pylist(), strict=True))
    return Task.of(experiment, plan.sources[table].table, {i: v for i, v in values.items() if v is not None})
