"""Crystals from the files of others: one reader per format, one import that checks and counts."""

from cgatlib.readers.formats import FORMATS, detect
from cgatlib.readers.pipeline import import_crystals
from cgatlib.readers.request import ImportReport, ImportRequest
from cgatlib.readers.rows import ReadOptions, UnreadableFile

__all__ = [
    "FORMATS",
    "ImportReport",
    "ImportRequest",
    "ReadOptions",
    "UnreadableFile",
    "detect",
    "import_crystals",
]
