"""The how-to page's example: commands shown as they are run, a user's files, and a model to start from."""

import csv
from pathlib import Path

import pytest

from cgatbook import howto
from cgatbook.howto import enter_workplace, learning_curve, shell, stand_in, write_example
from cgatlib import CgatError, ensemble
from cgatlib.ensemble import load_model
from cgatlib.figures.sizes import transfer_scaling


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


def test_a_long_command_is_broken_before_an_option():
    text = howto._broken("cgatlib train mine.parquet" + " --option value" * 8)
    rows = text.splitlines()
    assert len(rows) == 2
    assert rows[0].startswith("$ cgatlib train mine.parquet --option value")
    assert all(len(row) <= 102 for row in rows)
    assert rows[0].endswith(" \\")
    assert rows[1].startswith("    --option value")


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


def test_a_model_is_trained_only_where_the_released_one_is_missing(model_folder, table, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", model_folder.parent)
    assert not stand_in(model_folder.name, tmp_path / "absent.parquet", 1, tmp_path / "runs")
    monkeypatch.setattr(ensemble, "RELEASED_MODELS", tmp_path / "nothing")
    table.write("pbe.parquet")
    assert stand_in("e_form-pbe", Path("pbe.parquet"), 2, tmp_path / "runs")
    assert len(load_model("e_form-pbe").members) == 3


def test_the_learning_curve_can_be_drawn(seed_runs):
    points = learning_curve(seed_runs)
    assert points["mae"].tolist() == [run.metrics["test_mae"] * 1000 for run in seed_runs]
    assert points["seed"].tolist() == [0, 1, 2]
    transfer_scaling(points, "meV/atom")
