"""Execute a notebook of the book, or reuse its last execution while nothing it depends on has changed.

Training runs are kept by the run store on their own terms, so that executing a page again is cheap.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from cgatbook.notebooks import Notebook, Values
from cgatlib import CgatError
from cgatlib.runs.provenance import LIBRARIES, PACKAGE, library_versions, source_digest

PAGES = Path(__file__).parent
"""Folder of this package's sources."""

KERNEL_ARGUMENTS = [
    "--IPKernelApp.log_level=ERROR",  # not a warning about local sockets for every notebook
    "--IPKernelApp.exec_lines=import warnings; warnings.filterwarnings('ignore', message='IProgress not found')",
]


def reusable(root: Path, notebook: Notebook, values: Values, cached: Path) -> Any | None:
    """The last execution, kept in the file `cached`, if its code would do the same now; None otherwise.

    The prose is the notebook's own: a changed sentence needs no execution.
    """
    import nbformat

    if not cached.is_file():
        return None
    try:
        node = nbformat.read(cached, as_version=4)
    except ValueError:  # no JSON
        return None
    if node.metadata.pop("cgatlib_key", None) != _key(root, notebook, values):
        return None
    return _without_machine_paths(_with_prose(node, _with_parameter_table(notebook, values)), root, values)


def execute(root: Path, notebook: Notebook, values: Values, cached: Path) -> Any:
    """Execute a notebook with `values` and keep the result in the file `cached`.

    Raises:
        CgatError: a cell failed (notebook and cell are named), or the kernel died.
    """
    import nbformat

    key = _key(root, notebook, values)  # before: what is edited during the execution counts as changed
    node = _without_machine_paths(_execute(root, notebook, values), root, values)
    node.metadata["cgatlib_key"] = key
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(".part")
    nbformat.write(node, partial)
    os.replace(partial, cached)
    del node.metadata["cgatlib_key"]
    return node


def _key(root: Path, notebook: Notebook, values: Values) -> str:
    """Fingerprint of all an execution depends on: code, parameters, package, libraries, data."""
    code = [cell for cell in notebook.node.cells if cell.cell_type == "code"]
    parts = {
        "code": [[cell.source, cell.metadata.get("tags", [])] for cell in code],
        "values": values,
        "sources": [source_digest(PACKAGE), source_digest(PAGES)],
        "libraries": library_versions((*LIBRARIES, "papermill", "jupyter-book")),
        "data": {str(path): _file_digest(path) for path in _data_files(root, values)},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _data_files(root: Path, values: Values) -> list[Path]:
    """Every file the page may read, those that exist.

    Published numbers and released models; the tables named by the parameters ``data`` and ``sources`` (nothing else
    of the folder ``data``, which may hold far more); and what any other text parameter names relative to the book: a
    file, or all files of a folder.
    """
    folder = root / values.get("data", "")
    tables = [folder / source["file"] for source in values.get("sources", {}).values() if "file" in source]
    texts = [text for name, text in values.items() if isinstance(text, str) and text and name != "data"]
    named = [path for text in texts for path in (root / text, *(root / text).rglob("*"))]
    given = [*(root / "data" / "published").glob("*"), *(PACKAGE / "released_models").rglob("*")]
    return sorted({path for path in [*tables, *named, *given] if path.is_file()})


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _execute(root: Path, notebook: Notebook, values: Values) -> Any:
    """Run a notebook in its own kernel with `values`; its progress goes to the terminal."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    node = _with_parameter_table(notebook, values)
    log = root / "_build" / "failed" / f"{notebook.name}.ipynb"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = papermill.execute_notebook(
            node,
            log,
            values,
            kernel_name="python3",
            cwd=root,
            progress_bar=False,
            stderr_file=sys.stderr,
            extra_arguments=KERNEL_ARGUMENTS,
        )
    except PapermillExecutionError as error:
        first = next((line for line in error.source.splitlines() if line.strip()), "")
        raise CgatError(
            f"notebook {notebook.name} failed in code cell {error.exec_count} ({first.strip()!r}): "
            f"{error.ename}: {error.evalue} (the whole notebook with its traceback: {log})"
        ) from error
    except DeadKernelError as error:
        raise CgatError(f"the kernel of notebook {notebook.name} died; is there enough memory?") from error
    log.unlink()
    return _cleaned(done)


def _with_parameter_table(notebook: Notebook, values: Values) -> Any:
    """A copy of the notebook with the effective parameters spelled out below its parameters cell."""
    import nbformat

    node = nbformat.from_dict(json.loads(nbformat.writes(notebook.node)))
    rows = ["| parameter | this build | default | meaning |", "| :--- | :--- | :--- | :--- |"]
    for name, parameter in notebook.parameters.items():
        used = f"`{values[name]!r}`" if values[name] == parameter.default else f"**`{values[name]!r}`**"
        rows.append(f"| `{name}` | {used} | `{parameter.default!r}` | {parameter.meaning} |")
    changed = sum(values[name] != parameter.default for name, parameter in notebook.parameters.items())
    title = f"Parameters of this page ({changed} of {len(values)} differ from the defaults)"
    text = "\n".join([f":::{{dropdown}} {title}", *rows, ":::"])
    tagged = (i for i, cell in enumerate(node.cells) if "parameters" in cell.metadata.get("tags", []))
    position = next(tagged)
    node.cells[position].metadata.tags.append("remove-cell")  # the table says the same, and what was overridden
    node.cells.insert(position + 1, nbformat.v4.new_markdown_cell(text))
    return node


def _cleaned(node: Any) -> Any:
    """Without timings and progress bars; the injected cell is folded."""
    node.metadata.pop("papermill", None)
    for cell in node.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("hide-input")
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return node


def _with_prose(executed: Any, source: Any) -> Any:
    """The code cells of `executed`, outputs included, between the markdown cells of `source`."""
    code: list[list[Any]] = []
    for cell in executed.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            code[-1].append(cell)
        elif cell.cell_type == "code":
            code.append([cell])
    cells = iter(code)
    executed.cells = [part for cell in source.cells for part in (next(cells) if cell.cell_type == "code" else [cell])]
    return executed


def _without_machine_paths(node: Any, root: Path, values: Values) -> Any:
    """As others may read it: where the data and the book lie on this machine is nobody's business."""
    import nbformat

    names = {str(root): "."}
    if os.path.isabs(values.get("data", "")):
        names = {values["data"]: "path/to/tables", **names}
    text = nbformat.writes(node)
    for path, name in names.items():
        text = text.replace(json.dumps(path)[1:-1], name)
    return nbformat.reads(text, as_version=4)
