"""Crystals from the files of others: one reader per format, one import that checks and counts."""

from cgatlib.crystals.readers.formats import FORMATS, detect
from cgatlib.crystals.readers.pipeline import import_crystals
from cgatlib.crystals.readers.request import ImportReport, ImportRequest
from cgatlib.crystals.readers.rows import ReadOptions, UnreadableFile

__all__ = [
    "FORMATS",
    "ImportReport",
    "ImportRequest",
    "ReadOptions",
    "UnreadableFile",
    "detect",
    "import_crystals",
]
