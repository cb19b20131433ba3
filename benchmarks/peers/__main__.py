"""`python -m benchmarks.peers`: export the tasks, run a peer on them."""

import argparse
import os
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before a library asks

from benchmarks.peers.tasks import TARGETS

METHODS = ("boosting", "chgnet", "sevennet", "cgcnn", "crabnet", "modnet")


def main() -> None:
    """One command a step, each of which goes on where it was interrupted."""
    options = _parser().parse_args()
    for target in options.target:
        if options.step == "export":
            from benchmarks.peers.export import export

            export(target, options.data, options.folder)
        else:
            from benchmarks.peers.results import run

            run(options.method, target, options.folder, options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    folder = Path(tempfile.gettempdir()) / "cgatlib-peers"
    common.add_argument("--folder", type=Path, default=folder, help="of the tasks, outside the repository")
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("export", parents=[common], help="write the tasks; needs cgatlib")
    step.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    step = steps.add_parser("run", parents=[common], help="fit and test a method, in its environment")
    step.add_argument("--method", choices=METHODS, required=True)
    step.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "data/peers", help="folder of results")
    return parser


if __name__ == "__main__":
    main()
