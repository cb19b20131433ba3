"""A training step of this checkout against one of another commit: `python -m benchmarks.commits --against CHECKOUT`.

Each has a process of its own and one thread; they take turns on the same batches from the same weights, so that what
else the machine does slows both alike. Processor time is measured, because a waiting process learns nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.bench import DEMO, HERE, cells_of, crystals
from benchmarks.measuring import paired_ratio
from benchmarks.report import table
from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.packing import PackedGraphs, pack
from cgatlib.inputs import GraphInputs, TargetStatistics
from cgatlib.model.cgat import CGAT, MODELS, ModelConfig
from cgatlib.runs.provenance import provenance
from cgatlib.training import TrainingConfig, TrainingLoop, fabric_of

JOINT = ModelConfig(32, 32, 4, 2, neighbours=12, ranks="continuous", output_widths=(128, 128, 64), roost_steps=1)
NETWORKS = {"tiny": (MODELS["tiny"], 64), "pbe": (JOINT, 128)}  # and crystals per step
CRYSTALS = 2000
_EQUAL = 1e-6  # of the losses of the first steps
COLUMNS = {
    "network": "{network}",
    "batch": "{batch}",
    "ms a step": "{ms:.1f}",
    "before": "{ms_before:.1f}",
    "times faster": "{ratio:.2f}",
    "difference of the loss": "{difference:.0e}",
}


def serve(graphs: Path, network: str) -> None:
    """Take as many steps as each line of standard input says; answer with milliseconds a step and the losses."""
    torch.set_num_threads(1)
    with np.load(graphs) as arrays:
        packed = PackedGraphs(**arrays)
    config, batch = NETWORKS[network]
    torch.manual_seed(0)
    data = GraphInputs(packed, np.arange(len(packed)), torch.randn(len(packed)))
    training = TrainingConfig(steps=10_000, batch_size=batch, evaluations=1, averaging=0.002, clip=5.0)
    statistics, fabric = TargetStatistics.of(data.targets), fabric_of("cpu", 1, "32-true")
    loop = TrainingLoop(CGAT(config), data, data, statistics, training, 0, Path("never-written"), fabric)
    step = 0
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            loop.step(step)
            step += 1
        spent = time.process_time() - start
        losses = [float(loss) for loss in loop.losses[-int(line) :]]
        print(json.dumps([1e3 * spent / int(line), losses]), flush=True)


class Worker:
    """A process that takes steps with the package of a checkout."""

    def __init__(self, checkout: Path, graphs: Path, network: str) -> None:
        command = [sys.executable, "-m", "benchmarks.commits", "--serve", str(graphs), network]
        path = os.pathsep.join([str(checkout.resolve() / "src"), str(HERE.parent)])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, cwd=HERE.parent, **pipes)

    def steps(self, n: int) -> tuple[float, list[float]]:
        """Milliseconds a step, and the losses, of the next n steps."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(n, file=self.process.stdin, flush=True)
        ms, losses = json.loads(self.process.stdout.readline())
        return ms, losses

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()


def measure(network: str, checkouts: tuple[Path, Path], graphs: Path, rounds: int, steps: int) -> dict[str, Any]:
    """The row of one network; the first round warms up and shows that both compute the same."""
    workers = [Worker(checkout, graphs, network) for checkout in checkouts]
    try:
        first = [worker.steps(steps)[1] for worker in workers]
        difference = max(abs(a - b) for a, b in zip(*first, strict=True))
        if not difference <= _EQUAL:
            raise CgatError(f"the losses of {network} differ by {difference:.1e}: their times cannot be compared")
        before, now = zip(*[[worker.steps(steps)[0] for worker in workers] for _ in range(rounds)], strict=True)
    finally:
        for worker in workers:
            worker.end()
    return {
        "network": network,
        "batch": NETWORKS[network][1],
        "ms": median(now),
        "ms_before": median(before),
        "ratio": paired_ratio(before, now),
        "difference": difference,
        "all_ms": now,
        "all_ms_before": before,
    }


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--against", type=Path, help="a checkout of the other commit")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--table", type=Path, default=DEMO / "pbe.parquet", help="crystals; the demo set by default")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="steps of each process in a round")
    parser.add_argument("--out", type=Path, help="folder for step.json and step.md")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if not options.serve and not (options.against and (options.against / "src" / "cgatlib").is_dir()):
        parser.error("--against must name a checkout of the other commit")
    return options


def main(given: list[str] | None = None) -> None:
    """Measure, print and store."""
    options = arguments(given)
    if options.serve:
        serve(Path(options.serve[0]), options.serve[1])
        return
    chosen = crystals(CrystalTable.read(options.table, "PBE"), CRYSTALS)
    packed, _ = pack(cells_of(chosen), GRAPHS["tiny"])
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder) / "graphs.npz"
        np.savez(graphs, **vars(packed))
        checkouts = options.against, HERE.parent
        rows = [measure(name, checkouts, graphs, options.rounds, options.steps) for name in options.networks]
    git = ["git", "-C", str(options.against), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    said = f"Processor time of one thread; median of {options.rounds} rounds in turn with commit {commit[:12]}."
    text = f"{said}\n\n{table(COLUMNS, rows)}\n"
    print(text)
    if options.out:
        about = {"against": commit, "clock": "processor time, one thread", "crystals": chosen.fingerprint}
        result = {**about, "rows": rows, **provenance()}
        (options.out / "step.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "step.md").write_text(text)


if __name__ == "__main__":
    main()
