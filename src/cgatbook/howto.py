"""The how-to page's example: a user's files, and commands as in a terminal."""

import hashlib
import os
import shlex
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from click.testing import CliRunner
from IPython.display import Markdown

from cgatlib import CgatError
from cgatlib.runs.schedule import one_thread

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable


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
    return Markdown("\n".join(["```console", f"$ {command}", *printed[:lines], *left_out, "```"]))


def enter_workplace(parent: Path, *parameters: object) -> None:
    """Go to a folder of `parent` that belongs to these parameters, so that its runs can be used again."""
    folder = parent / hashlib.sha256(repr(parameters).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)


def write_example(table: "CrystalTable", crystals: int, candidates: int = 6) -> None:
    """Write ``my_crystals.csv`` (id, CIF, formation energy) of some crystals, ``candidates/*.cif`` of others."""
    from pymatgen.core import Structure

    rows = []
    for row in np.random.default_rng(0).permutation(len(table))[: crystals + candidates]:
        c = table.crystal(row)
        cif = Structure(c.lattice, c.numbers.tolist(), c.frac_coords).to(fmt="cif")
        rows.append((c.material_id, cif, c.labels["e_form"]))
    columns = ["material_id", "cif", "formation_energy"]
    pd.DataFrame(rows[:crystals], columns=columns).to_csv("my_crystals.csv", index=False)
    Path("candidates").mkdir(exist_ok=True)
    for name, cif, _ in rows[crystals:]:
        Path("candidates", f"{name}.cif").write_text(cif)
