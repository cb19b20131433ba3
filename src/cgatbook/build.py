"""From notebooks to the built book: execute with the profile's parameters, render, and only then replace.

The previous HTML stays in place until a complete new book exists. A build may be killed at any moment: what it had
executed is kept, and the next one starts from there.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from cgatbook import notebooks as source
from cgatbook.executing import execute, reusable
from cgatbook.notebooks import Notebook, Profile, Values, pages
from cgatbook.pages import code_text
from cgatlib import CgatError
from cgatlib.runs.provenance import code_version

Echo = Callable[[str], None]
_RENDERER = "from cgatlib.processes import end_with; end_with({}); from jupyter_book.cli.main import main; main()"


def build(
    root: Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    echo: Echo = lambda line: None,
    **options: Any,
) -> Path:
    """Build the book and return the path of its first page.

    Args:
        root, profile, overrides, echo, options: as of `staged`, whose errors are raised.
        out: folder of the HTML, ``_build/html`` by default; the previous one stays where anything fails.
    """
    html = (out or root / "_build" / "html").resolve()
    with staged(root, profile, overrides, echo=echo, **options) as stage:
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
    echo(f"The book is at {html / 'index.html'}")
    return html / "index.html"


@contextmanager
def staged(
    root: Path,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: Path | None = None,
    only: Collection[str] = (),
    force: bool = False,
    echo: Echo = lambda line: None,
) -> Iterator[Path]:
    """Execute what has to be executed; yield the folder of the book ready to render, while no other build runs.

    Args:
        root: folder with ``_config.yml``, ``_toc.yml`` and ``book/``.
        profile: a profile of ``book/parameters.yml``; ``demo``, or ``mp`` when a data folder is given.
        overrides: ``NOTEBOOK.PARAMETER=VALUE``, the value as YAML.
        data: folder with the tables of a profile that does not use the embedded ones.
        only: execute these notebooks; of the others, those that would be stale are shown as not executed.
        force: execute although nothing has changed.
        echo: receives one line of progress at a time.

    `CgatError` when something unknown was asked for, a cell failed, or another build of this book is running.
    """
    root = root.resolve()
    chosen = source.read_profile(root, profile or ("mp" if data else "demo"))
    notebooks = source.read_notebooks(root)
    values = source.effective_values(notebooks, _with_data(chosen, data), source.parse_overrides(overrides))
    wanted = {source.find_notebook(notebooks, name).name for name in only} or set(notebooks)
    echo(f"Profile {chosen.name}: {chosen.about}")
    with _only_build(root):
        executed = {}
        for number, (name, notebook) in enumerate(notebooks.items(), start=1):
            cached = root / "_build" / "executed" / chosen.name / f"{name}.ipynb"
            kept = None if force and name in wanted else reusable(root, notebook, values[name], cached)
            line = f"[{number}/{len(notebooks)}] {name} ..."
            if kept is None and name in wanted:
                kept = _executed(root, notebook, values[name], cached, line, echo)
            else:
                echo(f"{line} {'left out' if kept is None else 'unchanged'}")
            executed[name] = kept
        yield _stage(root, notebooks, executed, chosen)


@contextmanager
def _only_build(root: Path) -> Iterator[None]:
    """Keep other builds of this book out; `CgatError` where one is running."""
    (root / "_build").mkdir(exist_ok=True)
    try:
        lock = FileLock(root / "_build" / "lock").acquire(timeout=0)
    except Timeout as error:
        raise CgatError(f"another build of the book in {root} is running; wait for it to end") from error
    with lock:
        yield


def _executed(root: Path, notebook: Notebook, values: Values, cached: Path, line: str, echo: Echo) -> Any:
    """Execute a notebook, with a line before it and one that says how long it took."""
    echo(line)
    start = time.monotonic()
    done = execute(root, notebook, values, cached)
    echo(f"{line} {time.monotonic() - start:.0f} s")
    return done


def _with_data(profile: Profile, data: Path | None) -> Profile:
    """The profile with the parameter ``data`` set to the folder its tables are in."""
    if data is None:
        if profile.needs_data:
            raise CgatError(f"profile {profile.name} reads tables from a folder; name it with --data DIR")
        return profile
    if "data" not in profile.common:
        raise CgatError(f"profile {profile.name} uses the embedded tables; --data goes with profile mp")
    if not data.is_dir():
        raise CgatError(f"the data folder {data} does not exist")
    return replace(profile, common={**profile.common, "data": str(data.resolve())})


def _stage(root: Path, notebooks: Mapping[str, Notebook], executed: Mapping[str, Any], profile: Profile) -> Path:
    """Copy configuration, plain pages and executed notebooks to ``_build/stage``, ready to render."""
    stage = root / "_build" / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    downloads = stage / "book" / "assets" / "downloads"
    shutil.copytree(root / "book", stage / "book", ignore=shutil.ignore_patterns("*.ipynb", "*.yml"))
    downloads.mkdir(parents=True)
    shutil.copy2(root / "_toc.yml", stage)
    for name, notebook in notebooks.items():
        target = stage / notebook.path.relative_to(root)
        if executed[name] is not None:
            target.unlink()
            _write(executed[name], target.with_suffix(".ipynb"), downloads)
        else:
            title = next(line for line in notebook.path.read_text().splitlines() if line.startswith("# "))
            target.write_text(f"{title}\n\nThis page was not executed in this build.\n")
    config = yaml.safe_load((root / "_config.yml").read_text())
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    config.setdefault("html", {})["extra_footer"] = (
        f'<p class="built-with">Built with cgatlib {code_text(code_version())}, profile {escape(profile.name)}.</p>'
    )
    (stage / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return stage


def _write(node: Any, target: Path, downloads: Path) -> None:
    """Write a notebook; what its figures offer to download becomes files, once for page and notebook."""
    import nbformat

    def file(match: re.Match[str]) -> str:
        content = b64decode(match[2])
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{match[1]}"
        (downloads / name).write_bytes(content)
        return f'.{match[1]}\\" href=\\"../_static/downloads/{name}\\"'

    inside = r'\.(\w+)\\" href=\\"data:[^;"]*;base64,([\w+/=]*)\\"'  # as JSON writes it
    target.write_text(re.sub(inside, file, nbformat.writes(node)))


def render(stage: Path, builder: str, folder: Path) -> Path:
    """Render with a builder of Sphinx (``html``, ``singlehtml``) below `folder`; a `CgatError` tells its warnings."""
    program = [sys.executable, "-c", _RENDERER.format(os.getpid()), "build", str(stage)]
    options = ["--path-output", str(folder), "--builder", builder, "--all", "-W", "-n", "--keep-going"]
    done = subprocess.run(
        [*program, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    fresh = folder / "_build" / builder
    if done.returncode or not (fresh / "index.html").is_file():
        problems = [line for line in done.stdout.splitlines() if "WARNING" in line or "ERROR" in line]
        raise CgatError(f"the book did not render: {'; '.join(problems[:20]) or done.stdout[-2000:]}")
    return fresh
