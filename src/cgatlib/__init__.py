"""Transfer learning for crystal properties with crystal graph attention networks.

Reproduces Hoffmann, Schmidt, Botti, Marques, Digital Discovery 2, 1368 (2023),
doi:10.1039/d3dd00030c. The public names are those of ``__init__.pyi``, imported when they are asked for.
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
