"""Crystals: the table and its schema, what is checked, readers of other formats, download."""

from cgatlib.crystals.checks import PROPERTIES, SYMBOLS, Crystal, Property, Reject, check, reduced_formula
from cgatlib.crystals.table import CrystalTable

__all__ = ["PROPERTIES", "SYMBOLS", "Crystal", "CrystalTable", "Property", "Reject", "check", "reduced_formula"]
