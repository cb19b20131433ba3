"""Execute a notebook of the book, or reuse its last execution while nothing it depends on has changed."""

import hashlib
import json
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from cgatbook.notebooks import Notebook, Values
from cgatlib import CgatError
from cgatlib.files import file_digest
from cgatlib.runs.provenance import LIBRARIES, PACKAGE, library_versions, source_digest

PAGES = Path(__file__).parent
"""Folder of this package's sources."""

_QUIET = "import warnings; warnings.filterwarnings('ignore', message='IProgress not found')"
_KERNEL = [f"--IPKernelApp.exec_lines={_QUIET}", "--IPKernelApp.log_level=ERROR"]  # no warnings about local sockets


def reusable(root: Path, notebook: Notebook, values: Values, cached: Path) -> Any | None:
    """The page with the outputs of the last execution, kept in the file `cached`, if its code would do the same now.

    The prose is the notebook's own: a changed sentence needs no execution.
    """
    import nbformat

    try:
        node = nbformat.read(cached, as_version=4)
    except (FileNotFoundError, ValueError):  # or no JSON
        return None
    same = node.metadata.get("cgatlib_key") == _key(root, notebook, values)
    return _page(root, notebook, values, node) if same else None


def execute(root: Path, notebook: Notebook, values: Values, cached: Path) -> Any:
    """Execute a notebook, keep the result in the file `cached`, return the page; `CgatError` names a failed cell."""
    import nbformat

    key = _key(root, notebook, values)  # before: what is edited during the execution counts as changed
    node = _execute(root, notebook, values)
    node.metadata["cgatlib_key"] = key
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(".part")
    nbformat.write(node, partial)
    os.replace(partial, cached)
    return _page(root, notebook, values, node)


def _key(root: Path, notebook: Notebook, values: Values) -> str:
    """Fingerprint of all an execution depends on: code, parameters, package, libraries, data."""
    code = [cell for cell in notebook.node.cells if cell.cell_type == "code"]
    parts = {
        "code": [[cell.source, cell.metadata.get("tags", [])] for cell in code],
        "values": values,
        "sources": [source_digest(PACKAGE), source_digest(PAGES)],
        "libraries": library_versions((*LIBRARIES, "papermill", "jupyter-book")),
        "data": {str(path): file_digest(path) for path in _data_files(root, values)},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _data_files(root: Path, values: Values) -> list[Path]:
    """Every file the page may read, those that exist.

    Published numbers and released models; the tables of the plan ``demonstration`` in the folder ``data``, which may
    hold far more; and what any other text parameter names relative to the book: a file, or all files of a folder.
    """
    folder = root / values.get("data", "")
    plan = root / values.get("demonstration", "")
    declared = yaml.safe_load(plan.read_text())["tables"] if plan.is_file() else {}
    tables = [folder / table["file"] for table in declared.values() if "file" in table]
    texts = [text for name, text in values.items() if isinstance(text, str) and text and name != "data"]
    named = [path for text in texts for path in (root / text, *(root / text).rglob("*"))]
    given = [*(root / "data" / "published").glob("*"), *(PACKAGE / "released_models").rglob("*")]
    return sorted({path for path in [*tables, *named, *given] if path.is_file()})


def _execute(root: Path, notebook: Notebook, values: Values) -> Any:
    """Run a notebook in its own kernel with `values`; its progress goes to the terminal."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    log = root / "_build" / "failed" / f"{notebook.name}.ipynb"
    log.parent.mkdir(parents=True, exist_ok=True)
    options = {"kernel_name": "python3", "extra_arguments": _KERNEL, "progress_bar": False, "stderr_file": sys.stderr}
    try:
        done = papermill.execute_notebook(_source(notebook, values), log, cwd=root, **options)
    except PapermillExecutionError as error:
        first = next((line for line in error.source.splitlines() if line.strip()), "")
        raise CgatError(
            f"notebook {notebook.name} failed in code cell {error.exec_count} ({first.strip()!r}): "
            f"{error.ename}: {error.evalue} (the whole notebook with its traceback: {log})"
        ) from error
    except DeadKernelError as error:
        raise CgatError(f"the kernel of notebook {notebook.name} died; is there enough memory?") from error
    log.unlink()
    return done


def _source(notebook: Notebook, values: Values) -> Any:
    """A copy of the notebook whose parameters cell sets `values`; the page ends with a table of them instead."""
    import nbformat

    node = deepcopy(notebook.node)
    code, rows = [], ["| parameter | this build | default | meaning |", "| :--- | :--- | :--- | :--- |"]
    for name, p in notebook.parameters.items():
        code.append(f"{name}: {p.kind} = {values[name]!r}  # {p.meaning}")
        used = f"`{values[name]!r}`" if values[name] == p.default else f"**`{values[name]!r}`**"
        rows.append(f"| `{name}` | {used} | `{p.default!r}` | {p.meaning} |")
    changed = sum(values[name] != p.default for name, p in notebook.parameters.items())
    title = f"Parameters of this page ({changed} of {len(values)} differ from the defaults)"
    text = "\n".join([f":::{{dropdown}} {title}", *rows, ":::"])
    place = next(i for i, cell in enumerate(node.cells) if "parameters" in cell.metadata.get("tags", []))
    node.cells[place].source = "\n".join(code)
    node.cells[place].metadata.tags.append("remove-cell")
    node.cells.append(nbformat.v4.new_markdown_cell(text))
    return node


def _page(root: Path, notebook: Notebook, values: Values, executed: Any) -> Any:
    """The notebook with the outputs of `executed`, without progress bars and without paths of this machine."""
    import nbformat

    page, ran = _source(notebook, values), (cell for cell in executed.cells if cell.cell_type == "code")
    for cell in page.cells:
        if cell.cell_type == "code":
            done = next(ran)
            cell.execution_count = done.execution_count
            cell.outputs = [output for output in done.outputs if output.get("name") != "stderr"]
    names = {str(root): "."}
    if os.path.isabs(values.get("data", "")):
        names = {values["data"]: "path/to/tables", **names}
    text = nbformat.writes(page)
    for path, name in names.items():
        text = text.replace(json.dumps(path)[1:-1], name)
    return nbformat.reads(text, as_version=4)
