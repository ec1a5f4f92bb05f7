"""Training a FusionNet on exposure sets."""

from fastmef.training.config import TrainConfig
from fastmef.training.loop import train
from fastmef.training.plan import Plan, PlannedScene, plan_training

__all__ = ["Plan", "PlannedScene", "TrainConfig", "plan_training", "train"]
