"""Crystals from the files of others: one reader per format."""

from cgatlib.crystals.readers.formats import FORMATS, Format, detect
from cgatlib.crystals.readers.rows import ReadOptions

__all__ = ["FORMATS", "Format", "ReadOptions", "detect"]
