"""The how-to page's example: commands shown as they are run, and a user's files."""

import csv
from pathlib import Path

import pytest

from cgatbook.howto import enter_workplace, shell, write_example
from cgatlib import CgatError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_a_command_is_shown_with_what_it_prints(table):
    table.write("pbe.parquet")
    text = shell("cgatlib data describe *.parquet").data.splitlines()
    assert text[:2] == ["```console", "$ cgatlib data describe *.parquet"]
    assert text[2].startswith("144 crystals of 48 formulas, functional PBE")
    assert text[-1] == "```"
    short = shell("cgatlib data describe *.parquet", lines=2).data.splitlines()
    assert short == [*text[:4], "...", "```"]


def test_a_command_that_fails_fails_the_page():
    with pytest.raises(CgatError, match="no model 'nothing'"):
        shell("cgatlib model show nothing")


def test_a_workplace_belongs_to_its_parameters(tmp_path):
    places = []
    for parameters in (("a", 1), ("a", 2), ("a", 1)):
        enter_workplace(tmp_path, *parameters)
        places.append(Path.cwd())
    assert places[0] == places[2] != places[1]


def test_the_example_is_a_table_and_other_crystals(table):
    write_example(table, 20, candidates=3)
    with Path("my_crystals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = list(Path("candidates").glob("*.cif"))
    assert (len(rows), len(files)) == (20, 3)
    assert not {row["material_id"] for row in rows} & {file.stem for file in files}
    energy = dict(zip(table.ids, table.label("e_form"), strict=True))
    assert all(float(row["formation_energy"]) == energy[row["material_id"]] for row in rows)
    options = "--functional PBE --label e_form=formation_energy --out mine.parquet --neighbours 4"
    assert "20 taken + 0 rejected" in shell(f"cgatlib data import my_crystals.csv {options}").data
