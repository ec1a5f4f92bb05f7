"""The learning rate of every step."""

from __future__ import annotations

import math

from fastmef.training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of step ``step``, counted from 0.

    It rises linearly to its peak. Then it is constant, or falls along half a cosine to zero at the
    end of the run.
    """
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.learning_rate
    remaining = (config.steps - step) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 - math.cos(math.pi * remaining))
