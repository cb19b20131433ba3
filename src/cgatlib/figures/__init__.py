"""The paper's figures: data frames in, a matplotlib Figure out, one function per figure, one look for all.

Figures belong to no global state: show one as the last expression of a notebook cell, or write it with its data
through `save_figure`.
"""

from cgatlib.figures.budget import compute_budget
from cgatlib.figures.data import element_counts, histogram_edges, label_histograms
from cgatlib.figures.growth import growth, read_growth
from cgatlib.figures.runs import learning_curves, parity
from cgatlib.figures.series import curve_points
from cgatlib.figures.sizes import size_scaling, transfer_scaling
from cgatlib.figures.style import save_figure

__all__ = [
    "compute_budget",
    "curve_points",
    "element_counts",
    "growth",
    "histogram_edges",
    "label_histograms",
    "learning_curves",
    "parity",
    "read_growth",
    "save_figure",
    "size_scaling",
    "transfer_scaling",
]
