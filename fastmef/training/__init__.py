"""Training a FusionNet on exposure sets."""

from fastmef.training.config import TrainConfig
from fastmef.training.loop import train
from fastmef.training.plan import Plan, PlannedScene, plan

__all__ = ["Plan", "PlannedScene", "TrainConfig", "plan", "train"]
