"""Gradient descent on free weights, which shows what a loss favours without a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastmef.experiments.photographs import Image
from fastmef.experiments.scoring import stack
from fastmef.functional import softmax_fuse
from fastmef.nn.losses import WeightedSSIMLoss

RATE = 0.1


def descend(exposures: Tensor, loss: WeightedSSIMLoss, steps: int) -> Tensor:
    """Return logits ``(1, K, H, W)`` after ``steps`` of Adam from equal weights.

    Args:
        exposures: ``(1, K, 3, H, W)`` in [0, 1].
        loss: loss of the plain weighted sum of the exposures.
        steps: number of optimiser steps, at the rate :data:`RATE`.
    """
    logits = torch.zeros_like(exposures[:, :, 0]).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss.from_logits(logits, exposures).backward()
        optimizer.step()
    return logits.detach()


def descended(images: Sequence[Image], loss: WeightedSSIMLoss, steps: int) -> Image:
    """Return the 8-bit fusion of exposures with weights from descent on a loss."""
    exposures = stack(images).float() / 255
    return as_image(softmax_fuse(descend(exposures, loss, steps), exposures))


def as_image(fused: Tensor) -> Image:
    """Return ``(1, 3, H, W)`` in [0, 1] as an 8-bit image."""
    levels = (fused[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
