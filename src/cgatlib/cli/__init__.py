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
from cgatlib.processes import stoppable

_RESUMED = {"train", "transfer", "forecast", "sweep", "book", "data fetch"}
"""Commands that keep what they had finished when they are stopped."""


class _Sentences(click.Group):
    """A group that answers a `CgatError` with its sentence and exit code 2, a signal with a sentence too."""

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable(lambda: _stopped(click.get_current_context().command_path)):
            try:
                return super().invoke(ctx)
            except CgatError as error:
                raise click.UsageError(str(error)) from error


def _stopped(command: str) -> str:
    """What a user is told whose command, e.g. ``cgatlib data fetch``, was stopped."""
    words = command.split()[1:]
    if {" ".join(words[:1]), " ".join(words)} & _RESUMED:
        return "stopped; the same command goes on where this one was."
    return "stopped; the same command starts again, as nothing unfinished is kept."


@click.group(cls=_Sentences, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="cgatlib")
def main() -> None:
    """Transfer learning for crystal properties with crystal graph attention networks.

    \b
    Typical order of work:
      cgatlib data import my_files/ --out mine.parquet --functional HSE
      cgatlib transfer mine.parquet --from band-gap-pbe --label band_gap --out my-model
      cgatlib predict --model my-model *.cif

    \b
    Exit codes: 0 done, 1 a part failed (told which), 2 refused (told why), 130 Ctrl-C, 143 SIGTERM.
    """


for command in (data, graphs, train, transfer, forecast, predict, model, sweep, baselines, runs, checkpoint, book):
    main.add_command(command)
