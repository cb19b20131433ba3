"""The public names; read by type checkers and, at run time, by lazy_loader."""

from .ensemble import load_model as load_model
from .errors import CgatError as CgatError
from .recipes import CGATRegressor as CGATRegressor
from .recipes import CrystalEmbedding as CrystalEmbedding

__version__: str
