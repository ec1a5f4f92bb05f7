"""The budgets of experiments: sizes for two cores, or the paper's sizes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """The sizes of an experiment."""

    steps: int
    """Optimiser steps of a trained network."""
    width: int
    """Channels of the network's first group; 64 is the paper's."""
    patch: int
    """Side of the square patches in pixels."""
    batch_size: int
    seeds: int
    """Number of networks of a variant if a difference is claimed for it; otherwise one."""
    side: int | None
    """Longer side in pixels to which photographs are reduced first; ``None`` does not reduce."""
    scenes: int | None
    """Number of scenes that are scored, equally spaced among those held back; ``None`` is all."""
    descent_steps: int
    """Steps of gradient descent on free weights, one for each pixel and exposure."""

    def describe(self, parts: Collection[str]) -> str:
        """Return the sizes in a line.

        Args:
            parts: ``"network"`` and ``"descent"``, as far as the experiment has them.
        """
        sizes = [f"photographs reduced to {self.side} pixels" if self.side else "full size"]
        if "network" in parts:
            sizes.append(
                f"networks of width {self.width}, {self.steps} steps of {self.batch_size} patches"
                f" of {self.patch}×{self.patch}"
            )
        if "descent" in parts:
            sizes.append(f"descent of {self.descent_steps} steps")
        return ", ".join(sizes)


BUDGETS = {
    "small": Budget(200, 8, 96, 4, 3, 256, 18, 60),
    "full": Budget(20_000, 64, 250, 8, 3, None, None, 400),
}
"""``"small"`` is sized for two cores; ``"full"`` has the paper's width and patches, for a GPU."""

MANY_NETWORKS = {"steps": 100, "batch_size": 2}
"""Sizes in the small budget for experiments that train some twenty networks: a quarter of the work
for each."""
