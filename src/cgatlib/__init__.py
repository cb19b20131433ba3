"""Transfer learning for crystal properties with crystal graph attention networks.

Reproduces Hoffmann, Schmidt, Botti, Marques, Digital Discovery 2, 1368 (2023),
doi:10.1039/d3dd00030c.
"""

__version__ = "0.1.0"


class CgatError(ValueError):
    """A problem a user can act on; the message is one sentence naming the file, row or key."""
