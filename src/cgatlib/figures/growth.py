"""The figure of time and memory against the number of crystals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cgatlib import CgatError
from cgatlib.figures.style import MUTED, LineStyle, NotebookFigure, panel_titles, require_columns, size_axis, style

# One look for each part of the work, from light to dark as it takes longer.
_LOOKS = {
    "random batches": ("#D9A441", "^"),
    "building graphs": ("#4F8A8B", "s"),
    "training steps": ("#1B3A57", "o"),
}
_COLUMNS = ("crystals", "task", "microseconds", "own_mb", "resident_mb", "disk_mb")
_DASHES: LineStyle = (0, (4, 2))  # of what may be taken back


def read_growth(path: Path) -> pd.DataFrame:
    """What ``python -m benchmarks.growth`` measured: [crystals, task, microseconds, own_mb, resident_mb, disk_mb].

    Microseconds of processor time per crystal; the highest memory of a process that did the task alone, its own and
    with the pages of the files that it maps; table and graphs on disk. MB are 10^6 bytes. ``attrs`` has sentences for
    a caption, ``crystals`` and ``machine``.

    Raises:
        CgatError: the file is not there or not such a file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
        machine = content["provenance"]["machine"]
        data = pd.DataFrame(
            {
                "crystals": row["crystals"],
                "task": row["task"],
                "microseconds": 1e6 * row["seconds_per_crystal"],
                "own_mb": row["own"] / 1e6,
                "resident_mb": row["resident"] / 1e6,
                "disk_mb": row["disk"] / 1e6,
            }
            for row in content["rows"]
        )
        data.attrs["crystals"] = content["crystals"]
        data.attrs["machine"] = f"One core of {machine['processor']}; batches of {content['batch']}."
    except FileNotFoundError as error:
        raise CgatError(f"{path} does not exist; python -m benchmarks.growth writes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CgatError(f"{path} is not what python -m benchmarks.growth writes: {error}") from error
    return data


def growth(data: pd.DataFrame) -> Figure:
    """Time per crystal and memory of each task against the number of crystals.

    Args:
        data: table of `read_growth`.

    Raises:
        CgatError: a column is missing, or a task is unknown.
    """
    require_columns(data, _COLUMNS, "growth")
    if unknown := set(data["task"]) - _LOOKS.keys():
        raise CgatError(f"growth: unknown task {min(unknown)!r}; known: {', '.join(_LOOKS)}")
    with style():
        fig = NotebookFigure(figsize=(8.2, 3.5), layout="constrained")
        times, memory = fig.subplots(1, 2)
        panel_titles((times, memory), ("Processor time per crystal", "Highest memory"))
        _draw(times, data, "microseconds")
        _draw(memory, data, "own_mb")
        for task, rows in data.sort_values("crystals").groupby("task"):
            memory.plot(rows["crystals"], rows["resident_mb"], color=_LOOKS[task][0], linestyle=_DASHES, linewidth=1.1)
        _times_axis(times)
        _memory_axis(memory, data)
        for ax in (times, memory):
            size_axis(ax, data["crystals"])
            ax.set_xlabel("Crystals")
        handles = [*times.get_legend_handles_labels()[0], Line2D([], [], color=MUTED, linestyle=_DASHES, linewidth=1.1)]
        labels = [*times.get_legend_handles_labels()[1], "with the pages of mapped files"]
        fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def _draw(ax: Axes, data: pd.DataFrame, column: str) -> None:
    for task, (colour, marker) in reversed(_LOOKS.items()):
        rows = data[data["task"] == task].sort_values("crystals")
        ax.plot(rows["crystals"], rows[column], color=colour, marker=marker, markersize=6, markeredgecolor="white",
                label=task)  # fmt: skip
    low, high = data["crystals"].min(), data["crystals"].max()
    ax.set_xlim(low / 1.6, high * 1.6)


def _times_axis(ax: Axes) -> None:
    """Whole decades around the data, so that what is flat looks flat."""
    ax.set_yscale("log")
    low, high = ax.dataLim.intervaly
    ax.set_ylim(low / 3, high * 5)
    ax.yaxis.set_major_locator(LogLocator(10))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(_duration))


def _duration(microseconds: float, _: int) -> str:
    for factor, unit in ((1e6, "s"), (1e3, "ms"), (1.0, "µs")):
        if microseconds >= factor:
            return f"{microseconds / factor:g} {unit}"
    return f"{1e3 * microseconds:g} ns"


def _memory_axis(ax: Axes, data: pd.DataFrame) -> None:
    """From zero; next to what is in memory what lies on disk, as it grows."""
    disk = data.groupby("crystals")["disk_mb"].min()
    sizes = np.geomspace(disk.index[0], disk.index[-1], 100)  # straight between sizes, which is bent on this axis
    ax.plot(sizes, np.interp(sizes, disk.index, disk), color=MUTED, linestyle=(0, (1, 1.5)), gid="disk")
    ax.annotate("on disk: table and graphs", (sizes[-12], np.interp(sizes[-12], disk.index, disk)), (-8, 4),
                textcoords="offset points", ha="right", va="center", color=MUTED, fontsize=9.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    ax.set_ylim(0, 1.12 * max(data["resident_mb"].max(), disk.max()))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} MB" if value else "0"))
