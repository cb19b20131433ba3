"""The public names; read by type checkers and, at run time, by lazy_loader."""

from .crystals.table import read_table as read_table
from .ensemble import load_model as load_model
from .errors import CgatError as CgatError
from .recipes import CGATRegressor as CGATRegressor
from .recipes import CrystalEmbedding as CrystalEmbedding
from .runs.store import Runs as Runs

__version__: str
