"""Splits by composition: the same formula on the same side everywhere, nested training subsets."""

from dataclasses import replace

import numpy as np
import pytest

from cgatlib import CgatError
from cgatlib.crystals.crystal import SYMBOLS
from cgatlib.crystals.sources import with_space_groups
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.store import build_store
from cgatlib.splits import SplitConfig, groups_of, split, training_subset

FORMULAS = [f"X{i % 4000}Y" for i in range(9000)]
IDS = [f"id-{i}" for i in range(9000)]
DEFAULT = SplitConfig()


def sides(formulas, config=DEFAULT) -> dict[str, str]:
    parts = split(formulas, config)
    return {formulas[row]: name for name, rows in vars(parts).items() for row in rows}


def test_every_row_is_in_exactly_one_part():
    parts = split(FORMULAS, DEFAULT)
    rows = np.concatenate(list(vars(parts).values()))
    assert sorted(rows.tolist()) == list(range(len(FORMULAS)))
    assert all((np.diff(part) > 0).all() for part in vars(parts).values())


def test_no_formula_is_on_two_sides():
    parts = split(FORMULAS, DEFAULT)
    train, validation, test = ({FORMULAS[row] for row in rows} for rows in vars(parts).values())
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_a_formula_is_on_the_same_side_in_every_table():
    whole = sides(FORMULAS)
    other = sides([*reversed(FORMULAS[::7]), "NaCl", *(f"Z{i}" for i in range(500))])
    common = set(whole) & set(other)
    assert len(common) > 500
    assert all(whole[formula] == other[formula] for formula in common)


def test_known_assignments_do_not_change():
    """Runs of other machines and versions rely on these."""
    config = SplitConfig(seed=0, train=0.4, validation=0.3, test=0.3)
    formulas = "NaCl SiO2 TiO2 Fe2O3 GaAs MgO Cu LiF CaTiO3 Al2O3 ZnS Si".split()
    found = sides(formulas, config)
    expected = "test test train test validation validation train train test train test train".split()
    assert [found[formula] for formula in formulas] == expected


@pytest.mark.parametrize("config", [DEFAULT, SplitConfig(3, 0.5, 0.2, 0.3)], ids=["default", "other shares"])
def test_shares_are_about_right(config):
    distinct = [f"A{i}" for i in range(20_000)]
    for name, rows in vars(split(distinct, config)).items():
        assert len(rows) / len(distinct) == pytest.approx(getattr(config, name), abs=0.012)


def test_the_seed_gives_another_split():
    assert sides(FORMULAS, replace(DEFAULT, seed=1)) != sides(FORMULAS)


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (0.9, 0.1, 0.0), (1.2, -0.1, -0.1)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(CgatError, match=r"must be positive and add up to 1, not \("):
        SplitConfig(0, *shares)


def test_unknown_groups_are_refused():
    known = "formula, material_id, chemical_system, space_group"
    with pytest.raises(CgatError, match=f"split: unknown groups 'prototype'; known: {known}"):
        SplitConfig(groups="prototype")


@pytest.fixture(scope="module")
def known(table) -> CrystalTable:
    """With space groups."""
    return with_space_groups(table.select(range(0, len(table), 2)))


@pytest.mark.parametrize("groups", ["formula", "material_id", "chemical_system", "space_group"])
def test_no_group_is_on_two_sides(groups, known):
    config = SplitConfig(3, 0.5, 0.3, 0.2, groups)  # type: ignore[arg-type]
    names = groups_of(known, config)
    sides = [{names[row] for row in rows} for rows in vars(split(names, config)).values()]
    assert len(names) == len(known)
    assert sum(map(len, sides)) == len(set(names)) > 2


def test_a_chemical_system_is_a_set_of_elements(table):
    found = groups_of(table, SplitConfig(groups="chemical_system"))
    for name, crystal in zip(found, table, strict=True):
        assert name == "-".join(sorted({SYMBOLS[z - 1] for z in crystal.numbers}))


def test_space_groups_come_with_a_table_and_its_graphs(table, known, tmp_path, tiny_graph):
    prototypes = {name.split("-")[1]: number for name, number in zip(known.ids, known.space_groups, strict=True)}
    assert prototypes == {"rocksalt": 225, "zincblende": 216, "CsCl": 221}
    known.write(tmp_path / "known.parquet")
    again = CrystalTable.read(tmp_path / "known.parquet")
    assert again.fingerprint == known.fingerprint != table.fingerprint
    store = build_store(again, tmp_path / "graphs", tiny_graph)
    assert store.space_groups == known.space_groups
    with pytest.raises(CgatError, match="no label 'space_group_number'; known: e_form, volume_per_atom"):
        store.label("space_group_number")
    assert with_space_groups(known) is known
    with pytest.raises(CgatError, match="the table does not state the space group of every crystal; declare it"):
        groups_of(table, SplitConfig(groups="space_group"))


def test_an_empty_part_is_refused_by_name():
    with pytest.raises(CgatError, match=r"the (training|validation|test) part is empty: 1 groups are too few"):
        split(["NaCl", "NaCl"], DEFAULT)


def test_training_subsets_are_nested():
    rows = split(FORMULAS, DEFAULT).train
    previous: set[int] = set()
    for size in (1, 10, 100, 1000, 5000, len(rows)):
        subset = training_subset(rows, IDS, size, seed=0)
        assert len(subset) == len(set(subset.tolist())) == size
        assert (np.diff(subset) > 0).all()
        assert previous <= set(subset.tolist()) <= set(rows.tolist())
        previous = set(subset.tolist())


def test_training_subsets_depend_on_ids_and_seed_not_on_the_order_of_rows():
    rows = split(FORMULAS, DEFAULT).train
    subset = {IDS[row] for row in training_subset(rows, IDS, 500, seed=0)}
    turned = list(reversed(IDS))
    turned_rows = np.sort(len(IDS) - 1 - rows)
    assert {turned[row] for row in training_subset(turned_rows, turned, 500, seed=0)} == subset
    other = {IDS[row] for row in training_subset(rows, IDS, 500, seed=1)}
    assert 0 < len(other & subset) < 150


@pytest.mark.parametrize("size", [0, -1, 4])
def test_impossible_sizes_are_refused_with_the_number_there_is(size):
    sentence = f"a training subset of {size} crystals was asked for; the training part has 3"
    with pytest.raises(CgatError, match=sentence):
        training_subset(np.array([1, 4, 9]), IDS, size, 0)
