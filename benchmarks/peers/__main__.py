"""`python -m benchmarks.peers`: export the tasks, run a peer on them, write the table."""

import argparse
import os
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before a library asks

from benchmarks.peers import report, results

HERE = Path(__file__).parent
METHODS = ("boosting", "chgnet", "sevennet", "cgcnn", "modnet")
TARGETS = ("hse-gap", "scan-gap", "r2scan-e_form", "pbesol-volume", "r2scan-volume")


def main() -> None:
    """One command a step, each of which goes on where it was interrupted."""
    options = _parser().parse_args()
    if options.step == "export":
        from benchmarks.peers.export import export

        for target in options.target:
            export(target, options.data, options.folder, options.splits, options.most)
    elif options.step == "run":
        for target in options.target:
            results.run(options.method, target, options.folder, options.out, options.splits)
    elif options.step == "ours":
        from benchmarks.peers.ours import add_archived

        for target in options.target:
            add_archived(target, options.folder, options.runs, options.out)
    elif options.step == "unavailable":
        entry = {"method": options.method, "reason": options.reason}
        results.add(options.out, "unavailable", entry, ("method",))
    report.write(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", type=Path, default=HERE / "results.json", help="file of results")
    common.add_argument("--target", nargs="+", choices=TARGETS, default=TARGETS)
    common.add_argument("--splits", type=int, default=5, help="how many, from seed 0")
    folder = Path(tempfile.gettempdir()) / "cgatlib-peers"
    common.add_argument("--folder", type=Path, default=folder, help="of the tasks, outside the repository")
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("export", parents=[common], help="write the tasks; needs cgatlib")
    step.add_argument("--data", type=Path, required=True, help="folder of the real tables")
    step.add_argument("--most", type=int, default=4000, help="training crystals a split")
    step = steps.add_parser("run", parents=[common], help="fit and test a method, in its environment")
    step.add_argument("--method", choices=METHODS, required=True)
    step = steps.add_parser("ours", parents=[common], help="take over our runs; needs cgatlib")
    step.add_argument("--runs", type=Path, default=HERE.parents[1] / "data/runs", help="archives or folders of runs")
    step = steps.add_parser("unavailable", parents=[common], help="note that a method cannot be had")
    step.add_argument("--method", required=True)
    step.add_argument("--reason", required=True)
    steps.add_parser("table", parents=[common], help="write the table alone")
    return parser


if __name__ == "__main__":
    main()
