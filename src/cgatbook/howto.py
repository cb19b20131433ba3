"""The how-to page's example: a user's files, commands as in a terminal, and a model to start from."""

import csv
import hashlib
import os
import shlex
from collections.abc import Iterable
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from click.testing import CliRunner
from IPython.display import Markdown

from cgatlib import CgatError, ensemble
from cgatlib.crystals.crystal import SYMBOLS
from cgatlib.runs.schedule import one_thread

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.runs.experiment import Run

_WIDTH = 100  # characters; a longer command is broken before an option


def shell(command: str, lines: int | None = None) -> Markdown:
    """Run ``cgatlib ...`` in the present folder and show it as in a terminal, with the first `lines` of its output.

    Raises:
        CgatError: the command failed.
    """
    from cgatlib.cli import main

    words = [found for word in shlex.split(command) for found in (sorted(glob(word)) if "*" in word else [word])]
    with one_thread():  # the example's networks are small
        result = CliRunner().invoke(main, words[1:])
    if result.exit_code:
        raise CgatError(f"{command} failed: {result.stderr.strip() or result.exception}")
    printed = result.stdout.rstrip().splitlines()
    left_out = ["..."] if lines is not None and len(printed) > lines else []
    return Markdown("\n".join(["```console", _broken(command), *printed[:lines], *left_out, "```"]))


def _broken(command: str) -> str:
    first, *options = command.split(" --")
    rows = [f"$ {first}"]
    for option in options:
        if len(rows[-1]) + len(option) + 3 > _WIDTH:
            rows[-1] += " \\"
            rows.append("   ")
        rows[-1] += f" --{option}"
    return "\n".join(rows)


def enter_workplace(parent: Path, *parameters: object) -> None:
    """Go to a folder of `parent` that belongs to these parameters, so that its runs can be used again."""
    folder = parent / hashlib.sha256(repr(parameters).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)


def write_example(table: "CrystalTable", crystals: int, candidates: int = 6) -> None:
    """Write ``my_crystals.csv`` (id, CIF, formation energy) of some crystals, ``candidates/*.cif`` of others."""
    from pymatgen.core import Structure

    order = np.random.default_rng(0).permutation(len(table))[: crystals + candidates]
    chosen = [table.crystal(row) for row in order]
    symbols = [[SYMBOLS[z - 1] for z in crystal.numbers] for crystal in chosen]
    cifs = [Structure(c.lattice, s, c.frac_coords).to(fmt="cif") for c, s in zip(chosen, symbols, strict=True)]
    with Path("my_crystals.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "cif", "formation_energy"])
        rows.writerows(
            (c.material_id, cif, c.labels["e_form"]) for c, cif in zip(chosen[:crystals], cifs, strict=False)
        )
    Path("candidates").mkdir(exist_ok=True)
    for crystal, cif in zip(chosen[crystals:], cifs[crystals:], strict=True):
        Path("candidates", f"{crystal.material_id}.cif").write_text(cif)


def stand_in(name: str, table: Path, steps: int, runs: Path) -> bool:
    """Train a model to take the place of a released one that is not there, and say whether that was necessary."""
    if name in ensemble.released_models():
        return False
    ensemble.RELEASED_MODELS = Path("released_models").resolve()
    options = f"--model tiny --seeds 0,1,2 --steps {steps} --batch-size 64 --learning-rate 2e-3 --runs {runs}"
    shell(f"cgatlib train {table} --label e_form {options} --out released_models/{name}")
    return True


def learning_curve(runs: Iterable["Run"]) -> pd.DataFrame:
    """Test errors in meV/atom against training size, as `figures.transfer_scaling` takes them."""
    return pd.DataFrame(
        {
            "panel": "Learning curve",
            "functional": run.experiment.functional,
            "mode": run.experiment.transfer.mode,
            "train_size": run.metrics["n_train"],
            "seed": run.experiment.seed,
            "mae": run.metrics["test_mae"] * 1000,
        }
        for run in runs
    )
