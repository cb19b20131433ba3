"""Transfer learning for crystal properties with crystal graph attention networks.

Reproduces Hoffmann, Schmidt, Botti, Marques, Digital Discovery 2, 1368 (2023),
doi:10.1039/d3dd00030c. `load_model` gives a trained model by name.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgatlib.ensemble import load_model

__all__ = ["CgatError", "__version__", "load_model"]
__version__ = "0.1.0"


class CgatError(ValueError):
    """A problem a user can act on; the message is one sentence naming the file, row or key."""


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch only when it is asked for."""
    if name == "load_model":
        from cgatlib.ensemble import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
