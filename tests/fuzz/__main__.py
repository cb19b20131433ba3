"""`python -m fuzz`: fuzz all targets, or one case again to see its traceback."""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from fuzz.crystal_files import crystal_targets
from fuzz.harness import case_of, fuzz
from fuzz.settings import settings_targets


def main() -> int:
    """Print the report; 1 if there are findings."""
    torch.set_num_threads(1)  # children are forked, and have none of the threads they would wait for
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case later than this")
    parser.add_argument("--target", help="only targets with this in their name")
    parser.add_argument("--case", type=int, help="run this one in the open, and keep its file")
    given = parser.parse_args()
    targets = [target for target in crystal_targets() + settings_targets() if (given.target or "") in target.name]
    if given.case is not None:
        target, data = case_of(targets, given.seed, given.case)
        folder = Path(tempfile.mkdtemp(prefix="fuzz"))
        print(f"{target.name}, {len(data)} bytes: {folder}", flush=True)
        (folder / "mutated").write_bytes(data)
        (folder / "run").mkdir()
        print(target.run(data, folder / "run"))
        return 0
    report = fuzz(targets, given.cases, given.seed, given.workers, given.seconds)
    print(report.text())
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
