"""The ``cgatlib`` command. Imports that take long happen inside the commands, so that ``--help`` is quick."""

import os
from typing import TYPE_CHECKING, Any

import click

from cgatlib import CgatError, __version__
from cgatlib.cli.data import data
from cgatlib.cli.models import checkpoint, model, predict
from cgatlib.cli.plans import baselines, sweep
from cgatlib.cli.runs import runs
from cgatlib.cli.training import forecast, graphs, train, transfer
from cgatlib.processes import stoppable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

# On a machine that does other work as well, threads that wait by counting keep those they wait for from running. OpenMP
# reads this when torch is loaded. Training with two threads on an idle machine becomes a little slower by it.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_RESUMED = {"train", "transfer", "forecast", "sweep", "book", "data fetch"}
"""Commands that keep what they had finished when they are stopped."""


class _Main(click.Group):
    """This package's commands and those that others register as entry points of the group ``cgatlib.commands``.

    A `CgatError` is answered with its sentence and exit code 2, a signal with a sentence too.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *_registered().names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in (others := _registered()).names:
            command: click.Command = others[cmd_name].load()
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        with stoppable(lambda: _stopped(click.get_current_context().command_path)):
            try:
                return super().invoke(ctx)
            except CgatError as error:
                raise click.UsageError(str(error)) from error


def _registered() -> "EntryPoints":
    """Commands that other packages register."""
    from importlib.metadata import entry_points

    return entry_points(group="cgatlib.commands")


def _stopped(command: str) -> str:
    """What a user is told whose command, e.g. ``cgatlib data fetch``, was stopped."""
    words = command.split()[1:]
    if {" ".join(words[:1]), " ".join(words)} & _RESUMED:
        return "stopped; the same command goes on where this one was."
    return "stopped; the same command starts again, as nothing unfinished is kept."


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="cgatlib")
def main() -> None:
    """Transfer learning for crystal properties with crystal graph attention networks.

    \b
    Typical order of work:
      cgatlib data import my_files/ --out mine.parquet --functional HSE
      cgatlib transfer mine.parquet --from pbe --label band_gap --out my-model
      cgatlib predict --model my-model *.cif

    \b
    Exit codes: 0 done, 1 a part failed (told which), 2 refused (told why), 130 Ctrl-C, 143 SIGTERM.
    """


for command in (data, graphs, train, transfer, forecast, predict, model, sweep, baselines, runs, checkpoint):
    main.add_command(command)
