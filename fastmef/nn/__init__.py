"""The network, the terms of training losses and the objective of the released weights."""

from fastmef.nn.export import export_network
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss, WeightedSSIMLoss
from fastmef.nn.network import FusionNet, FusionOutput
from fastmef.nn.objective import FusionObjective, MEFSSIMLoss, ObjectiveOutput
from fastmef.nn.pretrained import list_pretrained

__all__ = [
    "BrightnessLoss",
    "ColorContrastLoss",
    "FusionNet",
    "FusionObjective",
    "FusionOutput",
    "MEFSSIMLoss",
    "ObjectiveOutput",
    "WeightedSSIMLoss",
    "export_network",
    "list_pretrained",
]
