"""Experiments: what was run, by which code and where, and the store that runs what is missing."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgatlib.experiments.experiment import Experiment, Run
    from cgatlib.experiments.runner import RunStore

__all__ = ["Experiment", "Run", "RunStore"]


def __getattr__(name: str) -> Any:
    """Import what trains only when it is asked for: `provenance` serves where little else is installed."""
    if name in ("Experiment", "Run"):
        from cgatlib.experiments import experiment

        return getattr(experiment, name)
    if name == "RunStore":
        from cgatlib.experiments.runner import RunStore

        return RunStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
