"""What the book's notebooks share: figures, comparison tables and footer.

Everything shown is HTML without scripts or outside resources. Numbers for the prose go through `say` (glue).
"""

import base64
import re
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
from cgatlib.runs.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cgatlib.runs.experiment import Run

ORIGINS = ("surrogate", "dft")
"""Where labels come from, a machine-learned potential or DFT; a page shows no numbers without saying which."""

FIGURES = (
    "answer",
    "crystals",
    *("labels", "elements", "elements_published"),
    "curves",
    *("training_sizes", "training_sizes_gap", "pretraining_sizes", "published_sizes"),
    *("budget", "published_budget"),
    *("between", "between_sizes"),
    "noise",
    *("howto_learning_curve", "growth"),
)
"""Figures in the order of the book: the number of each is its place here."""


BADGES = {"paper": "paper", "dft": "DFT", "surrogate": "surrogate"}


def badge(*origins: str) -> str:
    """Where numbers come from (keys of `BADGES`), as coloured badges (HTML)."""
    return " ".join(f'<span class="badge-{origin}">{BADGES[origin]}</span>' for origin in origins)


NOTHING_TRAINED = "This profile trains nothing. Name a folder of tables with --data to run the demonstration on them."


def number_of(figure: str) -> int:
    """Number of a figure in the book."""
    return FIGURES.index(figure) + 1


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
        svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", paths["svg"].read_text(), count=2)
    width = round(110 * figure.get_figwidth())  # px: text of the same size in all figures
    named = f'<svg role="img" aria-label="{escape(alt)}" width="{width}" style="--width: {width}px; '
    links = "".join(
        f'<a download="{escape(name)}.{kind}" href="{uri}">{kind.upper()}</a>' for kind, uri in files.items()
    )
    title = f"<b>Figure {number_of(name)}.</b> " if name in FIGURES else ""
    return HTML(
        f'<figure class="cgat-figure" id="figure-{escape(name)}">'
        + svg.replace('<svg style="', named, 1)
        + f"<figcaption>{title}{typeset(caption)}</figcaption>"
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
    head = "".join(f'<th scope="col">{words(name)}</th>' for name in frame.columns)
    corner = f'<th scope="col">{words(frame.index.name)}</th>' if frame.index.name else "<td></td>"
    rows = []
    for i, (label, row) in enumerate(frame.iterrows()):
        inner = "".join(_cell(cell, (i, j) in bold) for j, cell in enumerate(row))
        rows.append(f'<tr><th scope="row">{words(label)}</th>{inner}</tr>')
    return HTML(
        '<div class="cgat-table" tabindex="0">'  # what may scroll must be reachable by keyboard
        f"<table><caption>{typeset(caption)}</caption><thead><tr>{corner}{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def words(value: Any) -> str:
    """A value as HTML, typeset; the name of an origin becomes its badge."""
    origin = next((key for key, name in BADGES.items() if name == value), None)
    return badge(origin) if origin else typeset(escape(str(value)))


def typeset(text: str) -> str:
    """HTML with symbols for energies and sizes, a true minus, and % that stays with its number."""
    text = re.sub(r"(?<![\w.,/^_)-])-(?=\d)", "\N{MINUS SIGN}", text)
    text = re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", text)
    return re.sub(r"\b([EN])_(hull|form|equiv|cross)\b", r"<i>\1</i><sub>\2</sub>", text)


def _cell(cell: Any, bold: bool) -> str:
    text = "–" if pd.isna(cell) else words(cell)
    side = ' class="words"' if text[:1].isalpha() or text[:1] == "<" else ""  # words to the left, numbers to the right
    return f"<td{side}><strong>{text}</strong></td>" if bold else f"<td{side}>{text}</td>"


def listed(sentences: Iterable[str]) -> HTML:
    """Sentences (HTML) that code had to write, as a list."""
    return HTML("<ul>" + "".join(f"<li>{typeset(sentence)}</li>" for sentence in sentences) + "</ul>")


def folded(title: str, parts: Iterable[HTML], profile: str, *origins: str) -> HTML:
    """What a reader may open: figures, tables and sentences below a line with badges, and the profile if any."""
    body = "".join(part.data for part in parts)
    head = f"{badge(*origins)} {escape(title)}" + (f" (profile {escape(profile)})" if profile else "")
    return HTML(f'<details class="cgat-live"><summary>{head}</summary>{body}</details>')


def provenance_box(runs: Sequence["Run"], data: Mapping[str, tuple[str, str]], started: float) -> HTML:
    """Where numbers come from, folded behind one line: code, libraries, machine, data, seeds and time.

    Args:
        runs: the runs used; their own provenance says which code made them. data: fingerprint and functional by table.
        started: ``time.perf_counter()`` at the top of the page.
    """
    here = provenance()
    hours = sum(float(run.metrics["seconds"]) for run in runs) / 3600
    machines = {m["processor"] or m["device"] for m in (run.provenance["machine"] for run in runs)}
    title = f"Provenance: {len(runs)} runs, {hours:.1f} h of training"
    rows = {
        "Trained by": ", ".join(sorted({code_text(run.provenance["code"]) for run in runs})) or code_text(here["code"]),
        "On": "; ".join(sorted(machines)) or here["machine"]["processor"],
        "Seeds": ", ".join(str(seed) for seed in sorted({run.experiment.seed for run in runs})) or "none",
        "Data": "; ".join(f"{name} {fingerprint} ({functional})" for name, (fingerprint, functional) in data.items()),
        "Page": f"executed in {time.perf_counter() - started:.0f} s, sources {here['code']['sources']}",
        "Versions": ", ".join([f"python {here['python']}", *(f"{k} {v}" for k, v in here["libraries"].items())]),
    }
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
    return HTML(f'<details class="cgat-footer"><summary>{title}</summary><dl>{items}</dl></details>')


def code_text(version: Mapping[str, Any]) -> str:
    """Version and commit of the code."""
    commit = version["commit"] or "no commit"
    return f"{version['version']} ({commit}{', modified' if version['dirty'] else ''})"


def note(text: str) -> HTML:
    """A sentence that code had to write, because it depends on the data."""
    return HTML(f"<p>{words(text)}</p>")
