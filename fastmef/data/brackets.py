"""Random brackets rendered from linear radiance: exposures, camera curve, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmef.data.render import exposure_range, srgb_encode

JITTER = 1.0  # stops by which either end of a bracket may move
SHORTEST = 1.5  # stops that a bracket spans at least, however its ends move
GAMMAS = (0.8, 1.2)  # cameras bend their curves by about this much
NOISE = (0.0, 0.0, 2e-4, 4e-4)  # variance of shot noise at white; half of the brackets have none
READ_NOISE = 0.02  # variance of read noise as a share of that of shot noise at white


@dataclass(frozen=True)
class Rendering:
    """The random choices for one bracket."""

    count: int
    shift: tuple[float, float]
    """Stops that are added to the lowest and the highest exposure value."""
    gamma: float
    noise: float
    seed: int
    """Seed of the noise."""

    @classmethod
    def draw(cls, count: int, random: np.random.Generator) -> Rendering:
        low, high = (float(stops) for stops in random.uniform(-JITTER, JITTER, 2))
        gamma = float(random.uniform(*GAMMAS))
        noise = float(random.choice(NOISE))
        return cls(count, (low, high), gamma, noise, int(random.integers(2**63)))

    def render(self, radiance: NDArray[np.float32]) -> NDArray[np.uint8]:
        r"""Render radiance ``(H, W, 3)`` to exposures ``(count, H, W, 3)``, from dark to bright.

        .. math:: I = \mathrm{round}\bigl(255\, f(\min(\max(2^{ev} L + n, 0), 1))^\gamma\bigr)

        with f the sRGB transfer function, ev equally spaced over :func:`exposure_range`, moved at
        both ends, and n noise of the variance :math:`g\,(\min(2^{ev} L, 1) + 0.02)`.
        """
        lowest, highest = exposure_range(radiance)
        lowest, highest = lowest + self.shift[0], highest + self.shift[1]
        random = np.random.default_rng(self.seed)
        frames = np.empty((self.count, *radiance.shape), np.uint8)
        evs = np.linspace(lowest, max(highest, lowest + SHORTEST), self.count)
        for frame, ev in zip(frames, evs, strict=True):
            light = radiance * np.float32(2.0**ev)
            if self.noise:
                deviation = np.sqrt(self.noise * (light.clip(0, 1) + np.float32(READ_NOISE)))
                light += random.standard_normal(light.shape, np.float32) * deviation
            frame[:] = np.rint(255 * srgb_encode(light.clip(0, 1)) ** np.float32(self.gamma))
        return frames
