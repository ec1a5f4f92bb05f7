"""Train a FusionNet on exposure sets."""

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
from fastmef.training.plan import Plan, PlannedScene, plan_training

__all__ = [
    "GraphedStep",
    "Plan",
    "PlannedScene",
    "TrainConfig",
    "Update",
    "ValueLog",
    "capturable_adamw",
    "plan_training",
    "set_learning_rate",
    "train",
    "warmup",
]
