"""The numerical tests with the kernels of other processors: `make test-cpus`, one line a combination.

numpy's OpenBLAS and torch choose their kernels by the processor they run on. Both, and the libraries behind torch, can
be told to take another's, so that one machine shows what rounds otherwise elsewhere. Kernels that are not there (numpy
without OpenBLAS, a processor without AVX-512) cannot be asked for: each line says which were used. Where a name stands
for the kernels of an earlier one, as Zen for Haswell's in many builds, that is said, and they are not run again.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

OPENBLAS = ("Haswell", "Zen", "SkylakeX", "Nehalem")
TORCH = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
THREADS = (1, 2)
SET_BY_OTHERS = ("OPENBLAS_", "GOTO_", "OMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_")
NUMERICAL = "kernels benchmarks composition golden graphs model neighbours splits training transfer"

Combination = tuple[str, str, int]


def environment(openblas: str, torch: str, threads: int) -> dict[str, str]:
    """Of a process with the kernels asked for, whatever this machine sets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SET_BY_OTHERS)}
    asked = {"OPENBLAS_CORETYPE": openblas, "OMP_NUM_THREADS": str(threads), **TORCH[torch]}
    return kept | asked | {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the processors to the other runs


def kernels(openblas: str) -> str:
    """The OpenBLAS kernels that numpy takes under a name; empty without OpenBLAS."""
    program = (
        "import numpy, threadpoolctl; print(*{x.get('architecture', '') for x in threadpoolctl.threadpool_info()})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment(openblas, "avx2", 1), text=True, capture_output=True, check=True)
    return done.stdout.strip()


def distinct() -> list[str]:
    """Names of `OPENBLAS` that stand for different kernels, the first of each; says which are left out."""
    names: dict[str, str] = {}
    for name in OPENBLAS:
        first = names.setdefault(kernels(name), name)
        if first != name:
            print(f"{name:9}the kernels of {first}, tested as such", flush=True)
    return list(names.values())


def run(combination: Combination) -> tuple[int, str, float]:
    """Exit status, output and seconds of the numerical tests."""
    here = Path(__file__).parent
    files = [str(here / f"test_{name}.py") for name in NUMERICAL.split()]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=here.parent,
        env=environment(*combination),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout, time.perf_counter() - start


def main() -> int:
    """Run all combinations, as many at a time as there are processors; 1 when a test fails in any."""
    combinations = list(product(distinct(), TORCH, THREADS))
    failed = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for combination, (status, output, seconds) in zip(combinations, pool.map(run, combinations), strict=True):
            lines = output.splitlines()
            used = next((line for line in lines if line.startswith("kernels: ")), "kernels: none came to run")
            openblas, torch, threads = combination
            print(
                f"{openblas:9}{torch:8} {threads} thr. | {used} | {lines[-1].strip('= ')} | {seconds:.0f} s", flush=True
            )
            if status:
                failed += 1
                print(output, flush=True)
    print(f"{len(combinations) - failed} of {len(combinations)} combinations passed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
