"""The measurements as tables in Markdown, which are also what is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

Columns = Mapping[str, str]  # heading -> format of the value, named by its key

STEPS: Columns = {
    "": "{form}",
    "structures/s": "{structures_per_s:.3g}",
    "ratio": "{ratio:.1f}",
    "edges/structure": "{edges_per_structure:.0f}",
    "GFLOP/atom": "{gflop_per_atom:.3g}",
    "share of peak": "{share_of_peak:.0%}",
    "peak memory, MB": "{memory_mb:.0f}",
    "before the step": "{memory_before_step_mb:.0f}",
    "memory, share": "{memory_ratio:.2f}",
}
CONSTRUCTION: Columns = {
    "": "{form}",
    "structures/s": "{structures_per_s:.3g}",
    "atoms/s": "{atoms_per_s:.3g}",
    "ratio": "{ratio:.0f}",
    "equal": "{equal}",
}
BATCHES: Columns = {"": "{form}", "batch": "{batch}", "graphs/s": "{graphs_per_s:.3g}", "ratio": "{ratio:.1f}"}


def table(columns: Columns, rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; a value that does not exist is a dash."""
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    for row in rows:
        known = {key: value for key, value in row.items() if value is not None}
        lines.append("| " + " | ".join(_cell(form, known) for form in columns.values()) + " |")
    return "\n".join(lines)


def _cell(form: str, row: Mapping[str, Any]) -> str:
    try:
        return form.format(**row)
    except KeyError:
        return "–"


def render(results: Mapping[str, Any]) -> str:
    """All tables of one run, with where and how they were measured."""
    machine, libraries, code = (results["provenance"][part] for part in ("machine", "libraries", "code"))
    versions = ", ".join(f"{name} {libraries[name]}" for name in ("torch", "torch_geometric", "numpy", "pymatgen"))
    changes = " with changes" if code["dirty"] else ""
    parts = [
        "# Speed against the released form",
        f"{machine['processor']}, {machine['cores']} cores, {results['threads']} threads; fastest single-precision "
        f"matrix product {results['peak_gflop_per_s']:.0f} GFLOP/s. {versions}. "
        f"Code {code['commit'] or code['sources']}{changes}. "
        "Medians of interleaved repeats; ratios are medians of the ratios within a repeat. "
        "Sizes are C (atom width), D (edge width), heads, steps, neighbours.",
    ]
    for data in results["data"]:
        parts.append(f"## {data['name']}: {data['crystals']:,} crystals, {data['atoms_per_crystal']:.1f} atoms each")
        for size in data["steps"]:
            parts.append(f"### Forward and backward, {size['name']} ({size['widths']}), batch {size['batch']}")
            parts.append(table(STEPS, size["rows"]))
            parts.append(_equality(size["rows"]) + " " + _head(size["head"]))
        parts += [f"### Graph construction, one core ({data['constructed']} crystals, 24 neighbours)"]
        parts += [table(CONSTRUCTION, data["construction"])]
        parts += ["### Batches", table(BATCHES, data["batches"])]
    return "\n\n".join(parts) + "\n"


def _equality(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"Outputs of the first three agree to {rows[1]['difference_float64']:.0e} in double precision."


def _head(head: Mapping[str, Any]) -> str:
    ratios = ", ".join(f"{ratio:,.0f} times the full step of “{name}”" for name, ratio in head["ratio_to"].items())
    return f"The {head['form']} (batch {head['batch']}): {head['structures_per_s']:,.0f} structures/s, {ratios}."
