"""The results as a table in Markdown, beside what others have published."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import results
from benchmarks.report import table

_TARGETS = {
    "hse-gap": "HSE gap, eV",
    "scan-gap": "SCAN gap, eV",
    "r2scan-e_form": "r²SCAN E_form, eV/atom",
    "pbesol-volume": "PBEsol volume, Å³/atom",
    "r2scan-volume": "r²SCAN volume, Å³/atom",
}
PUBLISHED = (
    {"method": "MEGNet, two fidelities (published)", "hse-gap": "0.364", "scan-gap": "0.520"},
    {"method": "MEGNet, four fidelities (published)", "hse-gap": "0.308", "scan-gap": "0.452"},
)
_ABOUT = """# Other methods on our splits

Test MAE, the mean over splits ± their standard deviation where there are several (in brackets: splits). Splits are by
formula and the same for all; hyperparameters are chosen on the validation part; tested once. Peers learn from 4,000
crystals at most, our own runs from all that the heading names. Of volumes, peers that measure distances are given the
crystal scaled by a rule without its volume (see the README). MEGNet's figures are published ones: Chen et al., Nat.
Comput. Sci. 1, 46 (2021), doi:10.1038/s43588-020-00002-x, on random splits, so that a test crystal's PBE gap may have
been in training.
"""
_SECONDS = """## Seconds

Of one core for embedding 1,000 crystals, and for one fit with all its trials. Of our own runs, of one training on the
wall, without the pre-training they start from.
"""


def write(path: Path) -> None:
    """Write ``results.md`` beside the file of results."""
    content = results.read(path)
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for entry in content["results"]:
        groups[entry["method"]][entry["target"]].append(entry)
    names = {target: _heading(target, content["results"]) for target in _TARGETS}
    columns = {"": "{method}", **{names[target]: f"{{{target}}}" for target in _TARGETS}}
    rows = [{"method": m, **{t: _error(e) for t, e in found.items()}} for m, found in groups.items()]
    seconds = [{"method": m, **{t: _seconds(e) for t, e in found.items()}} for m, found in groups.items()]
    parts = [_ABOUT, table(columns, [*rows, *PUBLISHED]), "", _SECONDS, table(columns, seconds), ""]
    if content["unavailable"]:
        parts += ["## Not to be had", ""]
        parts += [f"- {one['method']}: {one['reason']}" for one in content["unavailable"]] + [""]
    parts += ["## Packages", "", *_versions(groups), ""]
    path.with_suffix(".md").write_text("\n".join(parts))


def _heading(target: str, entries: list[dict[str, Any]]) -> str:
    sizes = sorted({entry["n_train"] for entry in entries if entry["target"] == target})
    if not sizes:
        return _TARGETS[target]
    spread = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,}–{sizes[-1]:,}"
    return f"{_TARGETS[target]}; {spread} to learn from"


def _error(entries: list[dict[str, Any]]) -> str:
    maes = [entry["mae"] for entry in entries]
    spread = f" ± {np.std(maes, ddof=1):.3f}" if len(maes) > 1 else ""
    return f"{np.mean(maes):.3f}{spread} ({len(maes)})"


def _seconds(entries: list[dict[str, Any]]) -> str:
    fitting = np.mean([entry["fitting"].get("core", entry["fitting"]["wall"]) for entry in entries])
    if "embedding" not in entries[0]:
        return f"{fitting:.1f}"
    embedding = entries[0]["embedding"]
    return f"{1000 * embedding['core'] / embedding['crystals']:.0f} + {fitting:.1f}"


def _versions(groups: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """A line a method with every set of packages and every processor its results come from."""
    lines = []
    for method, found in groups.items():
        entries = [entry for some in found.values() for entry in some]
        stated = sorted({", ".join(f"{n} {v}" for n, v in entry["versions"].items()) for entry in entries})
        processors = sorted({entry["machine"]["processor"] for entry in entries})
        lines.append(f"- {method}: {'; '.join(stated)}. {', '.join(processors)}.")
    return lines
