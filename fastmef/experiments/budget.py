"""How much an experiment computes: what two cores can do, or the paper's sizes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """The sizes of an experiment; with the data they decide its figures."""

    steps: int
    """Optimiser steps of a trained network."""
    width: int
    """Channels of its first group; 64 is the paper's."""
    patch: int
    """Side of the square patches in pixels."""
    batch_size: int
    seeds: int
    """Networks of a variant where a difference is claimed; one elsewhere."""
    side: int | None
    """Photographs are reduced to this longer side in pixels first; ``None`` leaves them."""
    scenes: int | None
    """Scenes that are scored, equally spaced among those held back; ``None`` is all."""
    descent_steps: int
    """Steps of the descent on free weights, one for each pixel and exposure."""

    def describe(self, parts: Collection[str]) -> str:
        """Return the sizes in a line; ``parts``: ``network`` and ``descent``, where they count."""
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
"""``"small"`` is sized for two cores, ``"full"`` has the paper's width and patches, for a GPU."""

MANY_NETWORKS = {"steps": 100, "batch_size": 2}
"""Sizes in the small budget of experiments that train some twenty networks: a quarter of the work
of each."""
