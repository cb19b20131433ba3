"""The network: element vectors, layers, the whole, and weights of the released one."""

from cgatlib.model.cgat import CGAT, MODELS, ModelConfig

__all__ = ["CGAT", "MODELS", "ModelConfig"]
