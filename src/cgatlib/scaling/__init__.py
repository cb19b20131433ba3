"""Scaling laws: power laws with uncertainty, and what follows from them."""

from cgatlib.scaling.extrapolation import (
    CHEMICAL_ACCURACY,
    ComputeBudget,
    HeldOut,
    balance,
    balance_ratio,
    crossing,
    crossing_size,
    equivalent_size,
    hold_out_largest,
    laws_from_counts,
    optimal_share,
    optimal_split,
    size_at,
)
from cgatlib.scaling.powerlaws import (
    Estimate,
    FloorLaw,
    Points,
    PowerLaw,
    fit_power_law,
    fit_with_floor,
    r_squared,
    size_reaching,
)
from cgatlib.scaling.resampling import ScalingFit, bootstrap

__all__ = [
    "CHEMICAL_ACCURACY",
    "ComputeBudget",
    "Estimate",
    "FloorLaw",
    "HeldOut",
    "Points",
    "PowerLaw",
    "ScalingFit",
    "balance",
    "balance_ratio",
    "bootstrap",
    "crossing",
    "crossing_size",
    "equivalent_size",
    "fit_power_law",
    "fit_with_floor",
    "hold_out_largest",
    "laws_from_counts",
    "optimal_share",
    "optimal_split",
    "r_squared",
    "size_at",
    "size_reaching",
]
