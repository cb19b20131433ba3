"""The ``cgatlib`` command. Imports that take long happen inside the commands, so that ``--help`` is quick."""

from typing import Any

import click

from cgatlib import CgatError, __version__
from cgatlib.cli.baselines import baselines
from cgatlib.cli.book import book
from cgatlib.cli.checkpoint import checkpoint
from cgatlib.cli.data import data
from cgatlib.cli.ensemble import model, predict
from cgatlib.cli.graphs import graphs
from cgatlib.cli.models import forecast, train, transfer
from cgatlib.cli.runs import runs
from cgatlib.cli.sweep import sweep


class _Sentences(click.Group):
    """A group that answers a `CgatError` with its sentence and exit code 2 instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CgatError as error:
            raise click.UsageError(str(error)) from error


@click.group(cls=_Sentences, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="cgatlib")
def main() -> None:
    """Transfer learning for crystal properties with crystal graph attention networks.

    \b
    Typical order of work:
      cgatlib data import my_files/ --out mine.parquet --functional HSE
      cgatlib transfer mine.parquet --from band-gap-pbe --label band_gap --out my-model
      cgatlib predict --model my-model *.cif
    """


for command in (data, graphs, train, transfer, forecast, predict, model, sweep, baselines, runs, checkpoint, book):
    main.add_command(command)
