"""Tables that stay on disk: what is read piece by piece is what is read at once."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable


@pytest.fixture(params=[1000, 7], ids=["one row group", "many row groups"])
def path(request, other_table, tmp_path):
    pq.write_table(other_table.table.append_column("band_gap", pa.nulls(len(other_table))), tmp_path / "t.parquet",
                   row_group_size=request.param)  # fmt: skip
    return tmp_path / "t.parquet"


def test_equals_the_table_in_memory(path, other_table):
    file = CrystalTable.open(path, "pbesol")
    assert (len(file), file.functional, file.labels) == (len(other_table), "PBEsol", other_table.labels)
    assert "band_gap" not in file.labels  # it has no value
    assert file.fingerprint == CrystalTable.read(path, "PBEsol").fingerprint == other_table.fingerprint


def test_chunks_are_the_rows_in_order(path, other_table):
    parts = list(CrystalTable.open(path, "PBEsol").chunks(10))
    assert max(map(len, parts)) <= 10
    whole = pa.concat_tables(parts)
    assert whole.equals(pa.concat_tables(other_table.chunks(10)))
    assert whole.column_names == [*other_table.table.column_names[:6], *other_table.labels]


def test_the_functional_is_stated_or_given(path, other_table, tmp_path):
    with pytest.raises(CgatError, match=r"t\.parquet does not state its functional"):
        CrystalTable.open(path)
    other_table.write(tmp_path / "stated.parquet")
    assert CrystalTable.open(tmp_path / "stated.parquet").functional == "PBEsol"
    with pytest.raises(CgatError, match="holds PBEsol data, but PBE was asked for"):
        CrystalTable.open(tmp_path / "stated.parquet", "PBE")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "t.parquet").write_text("no table")
    with pytest.raises(CgatError, match=r"cannot read .*t\.parquet as a parquet table"):
        CrystalTable.open(tmp_path / "t.parquet", "PBE")
    pq.write_table(pa.table({"material_id": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(CgatError, match="column 'formula' is missing"):
        CrystalTable.open(tmp_path / "t.parquet", "PBE")


def test_a_bad_row_is_named_by_its_place_in_the_file(other_table, tmp_path):
    table = other_table.table
    lattices = table["lattice"].to_pylist()
    lattices[23] = lattices[23][:-1]
    pq.write_table(table.set_column(3, table.schema.field(3), pa.array(lattices)), tmp_path / "t.parquet")
    with pytest.raises(CgatError, match="row 23 has a 'lattice' of the wrong length"):
        list(CrystalTable.open(tmp_path / "t.parquet", "PBEsol").chunks(10))
