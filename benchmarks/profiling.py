"""Where the time of a training step goes: `python -m benchmarks.profiling --size small`.

One row per operator: the share of its own time, not of its callees', and the number of calls.
With --out the table is added to a file: two commits can be compared there.
"""

import argparse
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.bench import DEMO, cells_of, crystals
from benchmarks.measuring import BATCH, SIZES, train_step
from benchmarks.report import table
from benchmarks.steps import FORMS, inputs_of, network_of, packed
from cgatlib.crystals.table import CrystalTable
from cgatlib.runs.provenance import provenance

FORM = next(form for form in FORMS if form.name == "ours, quotient graph")
COLUMNS = {"operator": "{name}", "share": "{share:.1%}", "calls per step": "{calls:.0f}"}


def profiled(size: str, steps: int, top: int) -> list[dict[str, float | str]]:
    """Rows of the `top` operators, of all others together and of the whole step, on the demo set.

    Args:
        size: name of the network. steps: number of batches, each a step; a few before them are not counted.
    """
    config, batch = SIZES[size], BATCH[size]
    cells = cells_of(crystals(CrystalTable.read(DEMO / "pbe.parquet", "PBE"), steps * batch))
    graphs = packed(FORM, cells, config.neighbours)
    inputs = [inputs_of(FORM, graphs, range(first, first + batch)) for first in range(0, len(cells), batch)]
    network = network_of(FORM, config)
    for one in inputs[:3]:
        train_step(network, one)
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for one in inputs:
            train_step(network, one)
    found = [(e.self_cpu_time_total, e.count, e.key) for e in record.key_averages()]
    found.sort(reverse=True)
    total = sum(time for time, *_ in found)
    rows = [*found[:top], (*_sums(found[top:]), "all others"), (*_sums(found), "together")]
    return [{"name": n, "share": t / total, "calls": c / len(inputs)} for t, c, n in rows]


def _sums(found: list[tuple[float, int, str]]) -> tuple[float, int]:
    return sum(time for time, *_ in found), sum(calls for _, calls, _ in found)


def main(given: list[str] | None = None) -> None:
    """Profile and print; with --out also add to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="network")
    parser.add_argument("--steps", type=int, default=20, help="steps that are profiled")
    parser.add_argument("--top", type=int, default=12, help="operators listed")
    parser.add_argument("--threads", type=int, default=1, help="of the operators; waiting for others blurs a profile")
    parser.add_argument("--out", type=Path, help="file the table is added to")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    code, config = provenance()["code"], SIZES[options.size]
    widths = f"C{config.atom_width} D{config.edge_width} H{config.heads} L{config.steps} k{config.neighbours}"
    text = (
        f"## {options.size} ({widths}), batch {BATCH[options.size]}, code {code['commit'] or code['sources']}"
        f"{' with changes' if code['dirty'] else ''}\n\n"
        f"One training step of “{FORM.name}” on the demo set: mean of {options.steps} steps, {options.threads} "
        "thread(s), profiler on. An operator's time is without that of the operators it calls.\n\n"
        + table(COLUMNS, profiled(options.size, options.steps, options.top))
    )
    print(text)
    if options.out:
        with options.out.open("a") as file:
            file.write(text + "\n\n")


if __name__ == "__main__":
    main()
