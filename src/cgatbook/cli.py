"""``cgatlib book``: build the book, print it, list its parameters, summarise its tables."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from cgatbook.notebooks import find_root
from cgatlib import CgatError

EXTRA = ("IPython", "ipykernel", "jupyter_book", "jupytext", "myst_nb", "nbclient", "nbformat", "papermill")

ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    callback=lambda _ctx, _option, folder: (folder or find_root(Path.cwd())).resolve(),
    help="Folder of the book (with _toc.yml); by default the nearest one upwards from here.",
)
PATH = click.Path(path_type=Path)
OVERRIDE = "Set one parameter; the value is YAML. 'common' as notebook sets it wherever it exists."


def _executing(command: Callable[..., None]) -> Callable[..., None]:
    """The options of what executes notebooks: the arguments of `cgatbook.build.staged`."""
    options = (
        click.option("--profile", help="Profile of book/parameters.yml [default: demo; mp with --data]."),
        click.option("-p", "overrides", multiple=True, metavar="NOTEBOOK.PARAMETER=VALUE", help=OVERRIDE),
        click.option(
            "--data", type=PATH, help="Folder of the tables of a profile that does not use the embedded ones."
        ),
    )
    for option in reversed((ROOT, *options)):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.pass_context
def book(ctx: click.Context) -> None:
    """Build the book from its notebooks."""
    absent = [name for name in EXTRA if find_spec(name) is None]
    if absent:
        raise CgatError(f"the book needs {', '.join(absent)}; install it with: pip install '.[book]'")
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@book.command()
@_executing
@click.option("--only", multiple=True, metavar="NOTEBOOK", help="Execute this notebook only (repeatable).")
@click.option("--force", is_flag=True, help="Execute notebooks although nothing has changed.")
@click.option("--out", type=PATH, help="Folder of the HTML [default: _build/html].")
def build(out: Path | None, **options: Any) -> None:
    """Execute the notebooks and render the book.

    Notebooks that nothing has changed for are not executed again, and finished training runs are reused. When
    anything fails, the previous book stays as it was.

    \b
    Example:
      cgatlib book build --profile ci
      cgatlib book build -p 04_compute_budget.cost_ratio=10 --only 04
      cgatlib book build --data path/to/tables
    """
    from cgatbook.build import build as build_book

    build_book(out=out, echo=click.echo, **options)


@book.command()
@_executing
@click.option("--browser", metavar="PROGRAM", help="Chromium or Chrome [default: the first one on the PATH].")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The PDF [default: _build/book.pdf].")
def pdf(**options: Any) -> None:
    """Write the whole book as one PDF, each chapter on a new page.

    Notebooks are executed as `build` does, and only where something has changed. Chromium or Chrome prints; folded
    code stays out.

    \b
    Example:
      cgatlib book pdf --profile ci
    """
    from cgatbook.printing import print_book

    print_book(echo=click.echo, **options)


@book.command()
@ROOT
@click.option("--profile", help="Show this profile's values instead of the defaults.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def parameters(root: Path, profile: str | None, as_json: bool) -> None:
    """List the parameters of every notebook with type, value and meaning.

    \b
    Example:
      cgatlib book parameters --profile ci
    """
    from cgatbook.notebooks import Profile, effective_values, read_notebooks, read_profile

    notebooks = read_notebooks(root)
    values = effective_values(notebooks, read_profile(root, profile) if profile else Profile(name="", about=""), {})
    if as_json:
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    for name, notebook in notebooks.items():
        click.echo(name)
        for parameter in notebook.parameters.values():
            value = values[name][parameter.name]
            click.echo(f"  {parameter.name}: {parameter.kind} = {value!r}\n      {parameter.meaning}")


@book.command()
@ROOT
@click.option("--profile", default="mp", show_default=True, help="Profile of book/parameters.yml.")
@click.option("--data", type=PATH, required=True, help="Folder with the tables of the profile.")
def summarise(root: Path, profile: str, data: Path) -> None:
    """Write what pages show of a profile's tables to small files, with which they are built where the tables are not.

    A file holds counts, moments and histograms, and no label of a single crystal.

    \b
    Example:
      cgatlib book summarise --profile mp --data path/to/tables
    """
    from cgatbook.notebooks import effective_values, read_notebooks, read_profile
    from cgatlib.evaluation.summaries import summarise as summarise_tables
    from cgatlib.runs.plan import Plan

    values = effective_values(read_notebooks(root), read_profile(root, profile), {}).values()
    page = next((v for v in values if v.get("demonstration")), None)
    if page is None:
        raise CgatError(f"profile {profile} names no plan that summaries of its tables could go with")
    plan = Plan.read(root / page["demonstration"]).open(data, root / ".cgatlib" / "tables")
    for table in summarise_tables(plan.sources, next(iter(plan.sources))).values():
        click.echo(table.write(root / page["stored"]))
