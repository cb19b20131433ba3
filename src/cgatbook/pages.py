"""What the book's notebooks share: banner, figures, comparison tables and footer.

Everything shown is HTML without scripts or outside resources. Numbers for the prose go through `say` (glue).
"""

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from IPython.display import HTML

from cgatbook.notebooks import find_root
from cgatbook.tables import ORIGINS, BookTable
from cgatlib.crystals.summary import TableSummary
from cgatlib.runs.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cgatlib.crystals.declared import Source
    from cgatlib.runs.experiment import Run

NOT_HERE = (
    "<strong>Stored results:</strong> the tables are not here; what this page shows comes from runs that are kept with "
    "the repository and from summaries of their tables, and nothing was trained for it."
)
"""What a page says that was made without its tables."""


def build_label(tables: Iterable[BookTable]) -> str:
    """Heading of our own numbers, which says whether their labels are surrogates or DFT, and what was not done here."""
    known = list(tables)
    labels = "surrogate labels" if "surrogate" in {t.table.origin for t in known} else "DFT labels"
    return f"{labels}, stored runs" if any(t.path is None for t in known) else f"this build ({labels})"


def banner(profile: str, tables: Mapping[str, BookTable]) -> HTML:
    """What the reader must know first: profile, data sets, what their labels are, and whether they are here."""
    sets = "; ".join(
        f"{escape(name)}: {len(t.table):,} crystals, {escape(t.table.functional)} level, {ORIGINS[t.table.origin]}"
        for name, t in tables.items()
    )
    absent = "" if all(t.path for t in tables.values()) else f" {NOT_HERE}"
    return banner_box(profile, f"{sets}.{absent}")


def banner_box(profile: str, content: str) -> HTML:
    """The box at the top of a page: the profile of the build, then `content` (HTML), what the numbers come from."""
    return HTML(f'<div class="cgat-banner" role="note"><strong>Profile {escape(profile)}.</strong> {content}</div>')


def published(name: str) -> Any:
    """The paper's numbers: a csv file of ``data/published`` as data frame, a yml file as it is."""
    path = find_root(Path.cwd()) / "data" / "published" / name
    return pd.read_csv(path, dtype={"printed": str}) if path.suffix == ".csv" else yaml.safe_load(path.read_text())


def say(**numbers: float | int | str) -> None:
    """Make numbers available to the prose of this page as ``{glue:text}`name:.1f` ``."""
    from myst_nb import glue

    for name, value in numbers.items():
        glue(name, value.item() if isinstance(value, np.generic) else value, display=False)


def show_figure(figure: "Figure", name: str, caption: str, alt: str, data: pd.DataFrame) -> HTML:
    """A figure with caption, text alternative, and downloads (SVG, PNG, data as CSV) inside the page."""
    from cgatlib.figures.style import save_figure

    types = {"svg": "image/svg+xml", "png": "image/png", "csv": "text/csv"}
    with TemporaryDirectory() as folder:
        paths = save_figure(figure, data, Path(folder), name)
        files = {kind: _data_uri(paths[kind].read_bytes(), mime) for kind, mime in types.items()}
    links = "".join(
        f'<a download="{escape(name)}.{kind}" href="{uri}">{kind.upper()}</a>' for kind, uri in files.items()
    )
    width = round(110 * figure.get_figwidth())  # px: text of the same size in all figures
    return HTML(
        f'<figure class="cgat-figure"><img width="{width}" style="--width: {width}px" src="{files["svg"]}" '
        f'alt="{escape(alt)}">'
        f"<figcaption>{caption}</figcaption>"
        f'<div class="cgat-downloads">Download: {links}</div></figure>'
    )


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def show_table(frame: pd.DataFrame, caption: str, bold: Sequence[tuple[int, int]] = ()) -> HTML:
    """A table with header cells marked as such; the index gives the row headers.

    Args:
        frame: cells are shown as they are (format them first); missing cells as a dash.
        caption: says what is compared, with units.
        bold: (row, column) positions to emphasise.
    """
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in frame.columns)
    corner = f'<th scope="col">{escape(str(frame.index.name))}</th>' if frame.index.name else "<td></td>"
    rows = []
    for i, (label, row) in enumerate(frame.iterrows()):
        inner = "".join(_cell(cell, (i, j) in bold) for j, cell in enumerate(row))
        rows.append(f'<tr><th scope="row">{escape(str(label))}</th>{inner}</tr>')
    return HTML(
        '<div class="cgat-table" tabindex="0">'  # what may scroll must be reachable by keyboard
        f"<table><caption>{caption}</caption><thead><tr>{corner}{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(cell: Any, bold: bool) -> str:
    text = "–" if pd.isna(cell) else escape(str(cell))
    words = ' class="words"' if text[:1].isalpha() else ""  # words to the left, numbers to the right
    return f"<td{words}><strong>{text}</strong></td>" if bold else f"<td{words}>{text}</td>"


def footer(tables: "Mapping[str, BookTable | Source]", runs: Sequence["Run"], started: float) -> HTML:
    """Where the page's numbers come from: code, libraries, machine, data, seeds and time.

    Args:
        tables: the data used.
        runs: the runs used; their own provenance says which code made them, and when they were stored.
        started: ``time.perf_counter()`` at the top of the page.
    """
    here = provenance()
    seconds = sum(float(run.metrics["seconds"]) for run in runs)
    made_by = sorted({code_text(run.provenance["code"]) for run in runs}) or [code_text(here["code"])]
    devices = sorted({run.provenance["machine"]["device"] for run in runs}) or [here["machine"]["device"]]
    rows = {
        "Runs": f"{len(runs)}, {seconds / 60:.1f} min of training (stored runs are not trained again)",
        "Trained by": ", ".join(made_by),
        "Device": ", ".join(devices),
        "Seeds": ", ".join(str(seed) for seed in sorted({run.experiment.seed for run in runs})) or "none",
        "Data": "; ".join(f"{name} {s.table.fingerprint} ({s.table.functional})" for name, s in tables.items()),
        "Page": f"executed in {time.perf_counter() - started:.0f} s, sources {here['code']['sources']}",
        "Machine": f"{here['machine']['processor']}, {here['machine']['cores']} cores",
        "Versions": ", ".join([f"python {here['python']}", *(f"{k} {v}" for k, v in here["libraries"].items())]),
    }
    return provenance_box(rows)


def provenance_box(rows: Mapping[str, str]) -> HTML:
    """The box at the end of a page that says where its numbers come from."""
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
    return HTML(f'<div class="cgat-footer"><strong>Provenance</strong><dl>{items}</dl></div>')


def code_text(version: Mapping[str, Any]) -> str:
    """Version and commit of the code."""
    commit = version["commit"] or "no commit"
    return f"{version['version']} ({commit}{', modified' if version['dirty'] else ''})"


def note(text: str) -> HTML:
    """A sentence that code had to write, because it depends on the data of this build."""
    return HTML(f"<p>{escape(text)}</p>")


def element_counts(table: TableSummary) -> pd.Series:
    """Number of crystals that contain each element, by symbol, in the order of the atomic number."""
    return pd.Series(table.elements)
