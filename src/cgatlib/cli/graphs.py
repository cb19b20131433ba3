"""``cgatlib graphs``: the graphs of a table, built once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cgatlib.cli.options import FUNCTIONAL, JSON, TABLE, WORKERS


@click.command()
@TABLE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option("--model", default="small", help="Graphs as the network of this size wants them.")
@click.option("--neighbours", type=int, help="Nearest neighbours per atom, instead of the model's.")
@click.option(
    "--ties",
    type=click.Choice(["whole_shells", "deterministic", "reference"]),
    help="Rule at the k-th neighbour.",
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
