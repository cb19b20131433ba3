"""From notebooks to the built book: execute with the profile's parameters, render, and only then replace.

The previous HTML stays in place until a complete new book exists. A build may be killed at any moment: what it had
executed is kept, and the next one starts from there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from cgatbook.executing import PAGES, execute, reusable
from cgatbook.notebooks import (
    Notebook,
    Profile,
    Values,
    effective_values,
    find_notebook,
    pages,
    parse_overrides,
    read_notebooks,
    read_profile,
)
from cgatlib import CgatError
from cgatlib.runs.provenance import code_version, source_digest

Echo = Callable[[str], None]
DEFAULT_PROFILE = "demo"
_RENDERER = "from cgatlib.processes import end_with; end_with({}); from jupyter_book.cli.main import main; main()"


def build(
    root: Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: Path | None = None,
    only: Collection[str] = (),
    force: bool = False,
    out: Path | None = None,
    echo: Echo = lambda line: None,
) -> Path:
    """Build the book and return the path of its first page.

    Args:
        root: folder with ``_config.yml``, ``_toc.yml`` and ``book/``.
        profile: a profile of ``book/parameters.yml``; ``demo``, or ``mp`` when a data folder is given.
        overrides: ``NOTEBOOK.PARAMETER=VALUE``, the value as YAML.
        data: folder with the tables of a profile that does not use the embedded ones.
        only: execute these notebooks; of the others, those that would be stale are shown as not executed.
        force: execute although nothing has changed.
        out: folder of the HTML, ``_build/html`` by default.
        echo: receives one line of progress at a time.

    Raises:
        CgatError: something unknown was asked for, a cell failed or a page did not render (the previous HTML
            stays), or another build of this book is running.
    """
    html = (out or root / "_build" / "html").resolve()
    with staged(root, profile, overrides, data, only, force, echo) as stage:
        start = time.monotonic()
        for left in html.parent.glob(f".{html.name}-*"):  # by a build that was killed
            shutil.rmtree(left)
        html.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{html.name}-", dir=html.parent) as folder:
            fresh = render(stage, "html", Path(folder))
            if html.exists():
                os.replace(html, Path(folder) / "previous")
            os.replace(fresh, html)
        echo(f"Rendered {len(pages(root))} pages in {time.monotonic() - start:.0f} s")
    first = html / "index.html"
    echo(f"The book is at {first}")
    return first


@contextmanager
def staged(
    root: Path,
    profile: str | None,
    overrides: Sequence[str],
    data: Path | None,
    only: Collection[str],
    force: bool,
    echo: Echo,
) -> Iterator[Path]:
    """Execute what has to be executed; yield the folder of the book ready to render, while no other build runs.

    Arguments and errors are those of `build`.
    """
    root = root.resolve()
    chosen = read_profile(root, profile or ("mp" if data else DEFAULT_PROFILE))
    notebooks = read_notebooks(root)
    values = effective_values(notebooks, _with_data(chosen, data), parse_overrides(overrides))
    wanted = {find_notebook(notebooks, name).name for name in only} or set(notebooks)
    echo(f"Profile {chosen.name}: {chosen.about}")
    (root / "_build").mkdir(exist_ok=True)
    lock = FileLock(root / "_build" / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CgatError(f"another build of the book in {root} is running; wait for it to end") from error
    try:
        yield _stage(root, _executed(root, chosen, notebooks, values, wanted, force, echo), chosen)
    finally:
        lock.release()


def _executed(
    root: Path,
    profile: Profile,
    notebooks: Mapping[str, Notebook],
    values: Mapping[str, Values],
    wanted: Collection[str],
    force: bool,
    echo: Echo,
) -> dict[str, Any]:
    """Every notebook with its outputs, executed now where that is needed; None for those that are left out."""
    executed: dict[str, Any] = {}
    for number, (name, notebook) in enumerate(notebooks.items(), start=1):
        line = f"[{number}/{len(notebooks)}] {name} ..."
        cached = root / "_build" / "executed" / profile.name / f"{name}.ipynb"
        again = force and name in wanted
        executed[name] = None if again else reusable(root, notebook, values[name], cached)
        if executed[name] is not None:
            echo(f"{line} unchanged")
        elif name not in wanted:
            echo(f"{line} left out")
        else:
            echo(line)
            start = time.monotonic()
            executed[name] = execute(root, notebook, values[name], cached)
            echo(f"{line} {time.monotonic() - start:.0f} s")
    return executed


def _with_data(profile: Profile, data: Path | None) -> Profile:
    """The profile with the parameter ``data`` set to the folder its tables are in."""
    if profile.needs_data and data is None:
        raise CgatError(f"profile {profile.name} reads tables from a folder; name it with --data DIR")
    if data is None:
        return profile
    if "data" not in profile.common:
        raise CgatError(f"profile {profile.name} uses the embedded tables; --data goes with profile mp")
    if not data.is_dir():
        raise CgatError(f"the data folder {data} does not exist")
    return replace(profile, common={**profile.common, "data": str(data.resolve())})


def _stage(root: Path, executed: Mapping[str, Any], profile: Profile) -> Path:
    """Copy configuration, plain pages and executed notebooks to ``_build/stage``, ready to render."""
    import nbformat

    stage = root / "_build" / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    assets = root / "book" / "assets"
    if assets.is_dir():
        shutil.copytree(assets, stage / "book" / "assets")
    for path in [root / "_toc.yml", *pages(root), *(root / "book").glob("*.bib")]:
        target = stage / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        node = executed.get(path.stem)
        if node is not None:
            nbformat.write(node, target.with_suffix(".ipynb"))
        elif path.stem in executed:
            title = next(line for line in path.read_text().splitlines() if line.startswith("# "))
            target.write_text(f"{title}\n\nThis page was not executed in this build.\n")
        else:
            shutil.copy2(path, target)
    config = yaml.safe_load((root / "_config.yml").read_text())
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    config.setdefault("html", {})["extra_footer"] = _site_footer(profile)
    (stage / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return stage


def _site_footer(profile: Profile) -> str:
    """One line below every page: which code and profile the book was built with."""
    code = code_version()
    commit = "outside version control" if code["commit"] is None else f"commit {code['commit']}"
    changes = " with uncommitted changes" if code["dirty"] else ""
    return (
        f'<p class="built-with">Built with cgatlib {code["version"]} ({commit}{changes}, '
        f"sources {code['sources']} and {source_digest(PAGES)}), profile {profile.name}.</p>"
    )


def render(stage: Path, builder: str, folder: Path) -> Path:
    """Render the stage below `folder`, warnings as errors, and return the folder of the result.

    Args:
        stage: the folder to render. builder: ``html``, or ``singlehtml`` for one long page.

    Raises:
        CgatError: a page did not render.
    """
    program = [sys.executable, "-c", _RENDERER.format(os.getpid()), "build", str(stage)]
    options = ["--path-output", str(folder), "--builder", builder, "--all", "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [*program, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    fresh = folder / "_build" / builder
    if done.returncode or not (fresh / "index.html").is_file():
        raise CgatError(f"the book did not render: {_problems(done.stdout)}")
    return fresh


def _problems(log: str) -> str:
    """Sphinx's warnings and errors, which name page and line; the end of the log when there are none."""
    lines = [line for line in log.splitlines() if "WARNING" in line or "ERROR" in line]
    return "; ".join(lines[:20]) if lines else log[-2000:]
