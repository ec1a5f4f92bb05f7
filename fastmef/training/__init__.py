"""Training a FusionNet on folders of exposure sets."""

from fastmef.training.config import TrainConfig
from fastmef.training.graph import (
    GraphedStep,
    Update,
    ValueLog,
    capturable_adamw,
    set_learning_rate,
    warmup,
)
from fastmef.training.loop import train

__all__ = [
    "GraphedStep",
    "TrainConfig",
    "Update",
    "ValueLog",
    "capturable_adamw",
    "set_learning_rate",
    "train",
    "warmup",
]
