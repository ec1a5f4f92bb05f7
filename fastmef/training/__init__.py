"""Training a FusionNet on folders of exposure sets."""

from fastmef.training.config import TrainConfig
from fastmef.training.loop import train

__all__ = ["TrainConfig", "train"]
