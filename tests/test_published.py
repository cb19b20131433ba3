"""The paper's numbers: complete, and consistent with each other."""

from pathlib import Path

import pandas as pd
import yaml

FOLDER = Path(__file__).parents[1] / "data" / "published"
NUMBERS = yaml.safe_load((FOLDER / "numbers.yml").read_text())
TABLE1 = pd.read_csv(FOLDER / "table1.csv")


def mae(label, functional, mode):
    rows = TABLE1.query("label == @label and functional == @functional and mode == @mode")
    assert len(rows) == 1
    return float(rows["mae"].iloc[0])


def test_every_number_has_its_unit_and_place():
    for name, number in NUMBERS.items():
        assert set(number) == {"value", "unit", "source", "text"}, name
        values = number["value"] if isinstance(number["value"], list) else [number["value"]]
        assert all(isinstance(value, (int, float)) for value in values), name


def test_printed_percentages_follow_from_the_errors_within_rounding():
    half_digit = {"meV/atom": 0.5, "Å³/atom": 0.005, "eV": 0.0005}
    gains = TABLE1.dropna(subset="gain_percent")
    assert len(gains) == 12
    for row in gains.itertuples():
        half, none = half_digit[row.unit], mae(row.label, row.functional, "none")
        low = 100 * (1 - (row.mae + half) / (none - half)) - 0.5
        high = 100 * (1 - (row.mae - half) / (none + half)) + 0.5
        assert low <= row.gain_percent <= high, row


def test_only_the_noted_misprint_differs_from_print():
    changed = TABLE1[TABLE1["mae"] != TABLE1["printed"]]
    assert changed[["label", "functional", "mode"]].to_numpy().tolist() == [["band_gap", "SCAN", "head"]]
    assert changed["note"].str.startswith("misprint").all()


def test_element_counts_cover_both_sets():
    counts = pd.read_csv(FOLDER / "element_counts.csv", index_col="symbol")
    assert counts.notna().sum().to_dict() == {"pbe": 84, "pbesol_scan": 77}
    assert counts["pbe"].nlargest(3).index.tolist() == ["O", "N", "Li"]
    assert counts["pbesol_scan"].idxmax() == "O"
    assert not {"He", "Ne", "Ar", "Kr", "Xe", "Rn"} & set(counts.index)


def test_misprints_say_where_and_what_is_used():
    for entry in yaml.safe_load((FOLDER / "misprints.yml").read_text()):
        assert set(entry) == {"where", "printed", "problem", "used"}
        assert all(isinstance(text, str) and text for text in entry.values())
