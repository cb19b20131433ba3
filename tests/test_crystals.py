from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, check, functional_name, reduced_formula
from cgatlib.crystals.importing import ImportRequest, import_crystals
from cgatlib.crystals.labels import ReadOptions
from cgatlib.crystals.sources import joined
from cgatlib.crystals.summary import describe
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.packing import pack


@pytest.fixture
def table(make_crystal):
    crystals = [
        make_crystal("a", e_form=-2.0, band_gap=5.0),
        make_crystal("b", numbers=(12, 8), a=4.2, e_form=-3.0),
        make_crystal("c", numbers=(3, 9), a=4.0, band_gap=9.0),
    ]
    return CrystalTable.from_crystals(crystals, "pbe")


def test_a_table_is_one_line_where_it_is_shown(table):
    assert repr(table) == "CrystalTable(functional='PBE', source='')"


def test_rows_come_back_as_they_went_in(table, make_crystal):
    expected = make_crystal("b", numbers=(12, 8), a=4.2, e_form=-3.0)
    crystal = table.crystal(1)
    assert (crystal.material_id, crystal.formula, crystal.labels) == ("b", "MgO", {"e_form": -3.0})
    np.testing.assert_array_equal(crystal.lattice, expected.lattice)
    np.testing.assert_array_equal(crystal.numbers, expected.numbers)
    np.testing.assert_array_equal(crystal.frac_coords, expected.frac_coords)
    assert table.functional == "PBE"
    assert table.formulas == ["NaCl", "MgO", "LiF"]
    assert [c.material_id for c in table] == table.ids == ["a", "b", "c"]


def test_missing_labels_are_null_and_read_as_nan(table):
    assert table.labels == ("e_form", "band_gap")
    np.testing.assert_array_equal(table.label("e_form"), [-2.0, -3.0, np.nan])
    assert table.table["e_form"].null_count == 1


def test_unknown_label_names_the_known(table):
    with pytest.raises(CgatError, match="no label 'e_above_hull'; it carries: e_form, band_gap"):
        table.label("e_above_hull")


def test_write_and_read_keep_everything(table, tmp_path):
    table.write(tmp_path / "t.parquet")
    again = CrystalTable.read(tmp_path / "t.parquet")
    assert again.functional == "PBE"
    assert again.fingerprint == table.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_metadata_state_functional_and_units(table, tmp_path):
    table.write(tmp_path / "t.parquet")
    content = pq.read_schema(tmp_path / "t.parquet").metadata[b"cgatlib"].decode()
    assert '"functional": "PBE"' in content
    assert '"e_form": "eV/atom"' in content


def test_the_functional_is_stated_or_given_and_never_guessed(table, tmp_path):
    table.write(tmp_path / "stated.parquet")
    assert (
        len(CrystalTable.read(tmp_path / "stated.parquet", "pbe")),
        CrystalTable.read(tmp_path / "stated.parquet").functional,
    ) == (3, "PBE")
    with pytest.raises(CgatError, match="holds PBE data, but SCAN was asked for"):
        CrystalTable.read(tmp_path / "stated.parquet", "SCAN")
    pq.write_table(table.table, tmp_path / "t.parquet")
    with pytest.raises(CgatError, match=r"t\.parquet does not state its functional"):
        CrystalTable.read(tmp_path / "t.parquet")
    assert CrystalTable.read(tmp_path / "t.parquet", "r2scan").functional == "r2SCAN"


def test_other_columns_are_kept_and_are_not_labels(table, tmp_path):
    extra = table.table.append_column("prototype", pa.array(["B1"] * 3)).append_column("e_pbe", pa.array([1.0] * 3))
    pq.write_table(extra, tmp_path / "t.parquet")
    again = CrystalTable.read(tmp_path / "t.parquet", "PBE")
    assert again.labels == table.labels
    assert again.table["prototype"].to_pylist() == ["B1"] * 3
    assert again.fingerprint == table.fingerprint
    mapped = CrystalTable.read(tmp_path / "t.parquet", "PBE", labels={"e_form": "e_pbe"})
    np.testing.assert_array_equal(mapped.label("e_form"), [1.0] * 3)


def test_fingerprint_sees_a_formula_that_is_not_that_of_the_atoms(table, tmp_path):
    """The split goes by formulas: with others, other crystals are tested."""
    assert table.fingerprint == "1d3f2f277cee6208"  # as before formulas counted
    formulas = pa.array(["X", *table.formulas[1:]], pa.string())
    other = CrystalTable(table.table.set_column(1, table.table.schema.field("formula"), formulas), "PBE")
    other.write(tmp_path / "t.parquet")
    assert CrystalTable.read(tmp_path / "t.parquet").fingerprint == other.fingerprint != table.fingerprint


def test_fingerprint_ignores_the_writing_and_sees_the_content(table, tmp_path):
    wide = table.table.set_column(4, "numbers", table.table["numbers"].cast(pa.list_(pa.int64())))
    pq.write_table(wide, tmp_path / "t.parquet", compression="none", row_group_size=1)
    assert CrystalTable.read(tmp_path / "t.parquet", "PBE").fingerprint == table.fingerprint
    moved = replace(table.crystal(0), frac_coords=table.crystal(0).frac_coords + 1e-9)
    others = [
        replace(table, functional="SCAN"),
        table.select([1, 0, 2]),
        CrystalTable.from_crystals([moved, *list(table)[1:]], "PBE"),
        CrystalTable.from_crystals([replace(c, labels={}) for c in table], "PBE"),
    ]
    assert len({table.fingerprint, *(t.fingerprint for t in others)}) == 5


def test_select_keeps_order_and_functional(table):
    part = table.select(np.array([2, 0]))
    assert part.ids == ["c", "a"]
    assert part.functional == "PBE"
    assert len(table.select([])) == 0
    assert list(table.select([])) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["numbers"]), "column 'numbers' is missing"),
        (lambda t: t.set_column(0, "material_id", pa.array(["a", None, "c"])), "column 'material_id' has 1 nulls"),
        (lambda t: t.append_column("numbers", t["numbers"]), "column 'numbers' is there twice"),
        (lambda t: t.set_column(4, "numbers", pa.array([[11, 17], [12, 0], [3, 9]])), "row 1 has atomic number 0"),
        (lambda t: t.set_column(4, "numbers", pa.array([[11, 17], [12, 8], [3, 104]])), "row 2 has atomic number 104"),
        (
            lambda t: t.set_column(4, "numbers", pa.array([[11.9, 17], [12, 8], [3, 9]])),
            "no crystal table: Float value",
        ),
        (
            lambda t: t.set_column(3, "lattice", pa.array([[1.0] * 9, [1.0] * 8, [1.0] * 9])),
            "row 1 has a 'lattice' of the wrong length",
        ),
    ],
)
def test_tables_of_another_kind_are_refused(table, tmp_path, change, message):
    pq.write_table(change(table.table), tmp_path / "t.parquet")
    with pytest.raises(CgatError, match=message):
        CrystalTable.read(tmp_path / "t.parquet", "PBE")


def test_a_file_that_is_no_crystal_table_is_one_sentence(tmp_path):
    (tmp_path / "t.parquet").write_text("hello")
    with pytest.raises(CgatError, match=r"cannot read .*t\.parquet as a parquet table"):
        CrystalTable.read(tmp_path / "t.parquet", "PBE")
    pq.write_table(pa.table({"material_id": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(CgatError, match="column 'formula' is missing"):
        CrystalTable.read(tmp_path / "t.parquet", "PBE")


@pytest.mark.parametrize("metadata", [b"{", b"[]", b"\xff", b"[" * 3000, b'{"functional": 1}', b'{"functional": " "}'])
def test_damaged_metadata_are_one_sentence(table, tmp_path, metadata):
    pq.write_table(table.table.replace_schema_metadata({b"cgatlib": metadata}), tmp_path / "t.parquet")
    with pytest.raises(CgatError, match=r"t\.parquet has damaged metadata 'cgatlib': [^\n]*$"):
        CrystalTable.read(tmp_path / "t.parquet", "PBE")


def test_only_a_table_of_ours_is_replaced(table, tmp_path):
    table.write(tmp_path / "t.parquet")
    table.write(tmp_path / "t.parquet")
    pq.write_table(table.table, tmp_path / "other.parquet")
    with pytest.raises(CgatError, match=r"other\.parquet exists and is not a crystal table: it is not replaced"):
        table.write(tmp_path / "other.parquet")


# One crystal


def test_formulas_are_written_as_pymatgen_does():
    assert reduced_formula(np.array([17, 11, 11, 17])) == "NaCl"
    assert reduced_formula(np.array([8])) == reduced_formula(np.array([8] * 4)) == "O2"
    assert reduced_formula(np.array([26] * 4 + [8] * 6)) == "Fe2O3"


def test_functional_names_are_written_as_the_field_does():
    assert [functional_name(n) for n in ("pbe", "PBESOL", "r2scan", " Scan", "B3LYP")] == [
        "PBE", "PBEsol", "r2SCAN", "SCAN", "B3LYP",
    ]  # fmt: skip
    with pytest.raises(CgatError, match="functional is empty"):
        functional_name(" ")


def test_sound_crystal_passes(make_crystal):
    assert check(make_crystal(e_form=-2.0, volume_per_atom=21.95), neighbours=24) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"numbers": np.array([], dtype=int), "frac_coords": np.zeros((0, 3))}, "no atoms"),
        ({"numbers": np.array([11, 104])}, "unknown element: atomic number 104"),
        ({"numbers": np.array([0, 17])}, "unknown element: atomic number 0"),
        ({"lattice": np.zeros((3, 3))}, "zero volume"),
        ({"lattice": -5.0 * np.eye(3)}, "negative volume"),
        ({"lattice": np.full((3, 3), np.nan)}, "bad geometry: lattice is not finite"),
        ({"lattice": np.eye(2)}, "bad geometry: lattice has shape"),
        ({"frac_coords": np.zeros((3, 3))}, "bad geometry: coordinates have shape"),
        ({"frac_coords": np.array([[0, 0, 0], [0, 0, np.inf]])}, "bad geometry: coordinates are not finite"),
        ({"frac_coords": np.array([[0, 0, 0], [0.99, 1.01, 2.0]])}, "overlapping atoms"),
        ({"labels": {"e_form": np.nan}}, "label not a number: e_form"),
        ({"labels": {"e_form": -37.0}}, "label looks per cell: e_form = -37"),
        ({"labels": {"band_gap": -0.5}}, "label out of range: band_gap = -0.5"),
        ({"labels": {"e_above_hull": -2.0}}, "label out of range: e_above_hull = -2"),
        ({"labels": {"volume_per_atom": 43.9}}, "volume does not match the lattice"),
        ({"lattice": 60.0 * np.eye(3)}, "label out of range: volume_per_atom"),
        ({"lattice": np.array([[4, 0, 0], [4e7, 4, 0], [0, 0, 4.0]])}, "bad geometry: needle-like or huge cell, 2"),
        ({"lattice": np.diag([4, 4, 4e9])}, "bad geometry: needle-like or huge cell, 2 atoms and lattice planes 4 Å"),
        ({"lattice": np.diag([1e308, 1e308, 1e308])}, "bad geometry: needle-like or huge cell"),
        ({"lattice": np.diag([1e200, 1e-100, 1e-98])}, "bad geometry: needle-like or huge cell"),
        ({"frac_coords": np.array([[0, 0, 0], [1e9, 0.5, 0.5]])}, "bad geometry: an atom is 1e+09 cells"),
        ({"frac_coords": np.array([[0, 0, 0], [-1e308, 0.5, 0.5]])}, "bad geometry: an atom is 1e+308 cells"),
        ({"frac_coords": np.array([[0, 0, 0], [900, 900, 900.5]])}, "bad geometry: needle-like or huge cell"),
    ],
)
def test_what_is_wrong_is_said(make_crystal, changes, reason):
    assert (check(replace(make_crystal(), **changes)) or "").startswith(reason)


def test_skew_and_shifted_cells_are_no_needles(make_crystal):
    lattice = np.array([[4, 0, 0], [40, 4, 0], [0, 0, 4.0]])
    assert check(replace(make_crystal(), lattice=lattice), neighbours=24) is None
    coords = make_crystal().frac_coords + 900
    assert check(replace(make_crystal(), frac_coords=coords), neighbours=24) is None


def test_large_cells_are_checked_for_overlap_without_all_their_pairs(make_crystal):
    steps = np.arange(9) / 9
    coords = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    crystal = replace(make_crystal(), lattice=27.0 * np.eye(3), numbers=np.full(729, 11), frac_coords=coords)
    assert check(crystal) is None
    coords[7] = coords[300] + [0.01, 0, 0]
    assert (check(crystal) or "").startswith("overlapping atoms: 0.270 Å apart")


def test_unsearchable_rows_of_a_table_have_no_graph_and_a_reason(make_crystal):
    odd = [np.full((3, 3), np.nan), np.zeros((3, 3)), np.array([[4, 0, 0], [4e7, 4, 0], [0, 0, 4.0]])]
    rows = [make_crystal("good"), *(replace(make_crystal(f"odd{i}"), lattice=lattice) for i, lattice in enumerate(odd))]
    table = CrystalTable.from_crystals(rows, "PBE")
    graphs, rejected = pack([(c.lattice, c.numbers, c.frac_coords) for c in table], GRAPHS["small"])
    assert len(graphs) == 1
    assert [rejected[i].split(",")[0] for i in (1, 2, 3)] == [
        "bad geometry: lattice is not finite",
        "zero volume: 0 Å³",
        "bad geometry: needle-like or huge cell",
    ]


def test_noble_gases_are_a_choice(make_crystal):
    crystal = make_crystal(numbers=(54, 9))
    assert check(crystal) is None
    assert check(crystal, noble_gases=False) == "noble gas: Xe"


def test_sparse_cells_need_the_real_search(make_crystal):
    # A long thin cell defeats the bound, not the search: chains 3 Å apart along two axes, 60 Å along the third.
    chain = replace(make_crystal(), lattice=np.diag([3.0, 3.0, 60.0]))
    assert check(chain, neighbours=24) is None
    sparse = replace(make_crystal(), lattice=12.0 * np.eye(3))
    assert check(sparse, neighbours=24) is None
    assert (check(sparse, neighbours=60) or "").startswith("fewer neighbours than 60: an atom has")


def test_flat_cells_see_their_own_images(make_crystal):
    crystal = replace(
        make_crystal(), lattice=np.diag([0.35, 20.0, 20.0]), frac_coords=np.array([[0, 0, 0], [0, 0.5, 0]])
    )
    assert (check(crystal) or "").startswith("overlapping atoms: 0.350 Å")


def test_description_counts(make_crystal):
    twins = [make_crystal("a", e_form=-2.0), make_crystal("b", a=5.6005), make_crystal("b", numbers=(12, 8), a=4.2)]
    content = describe(CrystalTable.from_crystals(twins, "PBE"))
    assert content["crystals"] == 3
    assert content["formulas"] == 2
    assert content["labels"]["e_form"] == {
        "unit": "eV/atom", "count": 1, "missing": 2, "mean": -2.0, "std": 0.0, "min": -2.0, "median": -2.0, "max": -2.0,
    }  # fmt: skip
    assert content["elements"] == {"Na": 2, "Cl": 2, "Mg": 1, "O": 1}
    assert content["duplicates"] == {"same_id": 1, "alike": 1}


@pytest.mark.parametrize(
    ("name", "functional", "rows", "labels"),
    [
        ("pbe", "PBE", 39243, tuple(PROPERTIES)),
        ("pbesol", "PBEsol", 6371, ("volume_per_atom",)),
        ("r2scan", "r2SCAN", 20604, ("e_form", "volume_per_atom")),
        ("gaps_high_fidelity", "PBE", 4524, ()),
    ],
)
def test_real_tables_are_read(real_data, name, functional, rows, labels):
    table = CrystalTable.read(real_data / f"{name}.parquet", functional)
    assert (len(table), table.labels) == (rows, labels)
    assert table.crystal(rows - 1).formula == table.formulas[-1]


# Several tables in one


@pytest.fixture
def both(make_crystal, table):
    """`table`, and gaps of HSE: of a crystal that is in it, of one that was relaxed again, of one that is new."""
    hse = [
        make_crystal("a", band_gap=7.0, e_form=-1.0),
        make_crystal("b", numbers=(12, 8), a=4.1, band_gap=6.0),
        make_crystal("d", numbers=(19, 17), a=6.0, band_gap=8.0),
    ]
    return joined([table, CrystalTable.from_crystals(hse, "HSE")], [("e_form", "band_gap"), ("band_gap",)])


def test_a_crystal_of_two_tables_is_one_row(both, table):
    assert both.ids == ["a", "b", "c", "b", "d"]
    assert (both.functional, both.labels) == ("PBE", ("e_form", "band_gap", "band_gap@HSE"))
    np.testing.assert_array_equal(both.label("e_form"), [-2.0, -3.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(both.label("band_gap"), [5.0, np.nan, 9.0, np.nan, np.nan])
    np.testing.assert_array_equal(both.label("band_gap@HSE"), [7.0, np.nan, np.nan, 6.0, 8.0])
    assert CrystalTable.from_crystals(both, "PBE").fingerprint == both.fingerprint != table.fingerprint


def test_labels_of_another_functional_come_back_from_a_file(both, tmp_path):
    both.write(tmp_path / "both.parquet")
    file, request = tmp_path / "both.parquet", {"functional": "PBE", "options": ReadOptions(allow_missing=True)}
    import_crystals(ImportRequest([file], tmp_path / "again.parquet", **request))
    for found in (CrystalTable.read(file), CrystalTable.read(tmp_path / "again.parquet")):
        assert set(both.labels) <= set(found.labels)
    assert CrystalTable.read(file).fingerprint == both.fingerprint
    assert describe(both)["labels"]["band_gap@HSE"]["unit"] == "eV"


def test_a_label_keeps_the_functional_that_it_names(both):
    hse, scan = replace(both.select([4]), functional="HSE"), replace(both.select([1]), functional="SCAN")
    tables = [hse, both, scan]
    found = joined(tables, [table.labels for table in tables])
    assert found.labels == ("band_gap", "band_gap@PBE", "e_form@PBE", "e_form@SCAN")


def test_two_values_of_one_label_are_refused(table, make_crystal):
    other = CrystalTable.from_crystals([make_crystal("a", e_form=-2.1)], "PBE")
    with pytest.raises(CgatError, match=r"a has two values of e_form: -2\.0 and -2\.1"):
        joined([table, other], [("e_form",), ("e_form",)])


@pytest.mark.parametrize("label", ["band_gap@", "gap@HSE", "@HSE", "band_gap_hse"])
def test_what_is_no_label(label):
    assert label not in PROPERTIES
    with pytest.raises(KeyError):
        PROPERTIES[label]
