"""Render random brackets from linear radiance: exposures, response curve, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmef.data.render import CLIPPED, exposure_range, srgb_encode

JITTER = 1.0  # stops by which either end of a bracket may move
SHORTEST = 1.5  # stops that a bracket spans at least, however its ends move
GAMMAS = (0.8, 1.2)  # cameras bend their curves by about this much
NOISE = (0.0, 0.0, 2e-4, 4e-4)  # variance of shot noise at white; half of the brackets have none
READ_NOISE = 0.02  # variance of read noise as a share of that of shot noise at white
CURVES = ("srgb", "linear", "s")
BITS = 8


@dataclass(frozen=True)
class RenderOptions:
    """Distributions from which the properties of a bracket are drawn."""

    stops: tuple[float, ...] = ()
    """Least and most stops from the darkest to the brightest exposure. If empty, the scene's range
    of brightness decides, and each end is moved by up to a stop."""
    curves: tuple[str, ...] = ("srgb",)
    """Response curves: "srgb"; "linear"; "s", the sRGB value v mapped to :math:`v^2 (3 - 2v)`."""
    gammas: tuple[float, ...] = GAMMAS
    """Smallest and largest exponent of the response curve."""
    clipped: float = CLIPPED
    """Share of the pixels that may be white in the darkest exposure and dark in the brightest."""
    noise: tuple[float, ...] = NOISE
    """Variances of shot noise at white to draw from."""
    bits: int = BITS
    """Bits to which exposures are rounded."""


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
    stops: float | None = None
    """Distance of the lowest and the highest exposure value, around the same middle."""
    curve: str = "srgb"
    clipped: float = CLIPPED
    bits: int = BITS

    @classmethod
    def draw(
        cls, count: int, random: np.random.Generator, options: RenderOptions | None = None
    ) -> Rendering:
        options = options or RenderOptions()
        low, high = (float(stops) for stops in random.uniform(-JITTER, JITTER, 2))
        gamma = float(random.uniform(options.gammas[0], options.gammas[-1]))
        noise = float(random.choice(options.noise))
        seed = int(random.integers(2**63))
        stops = (
            float(random.uniform(options.stops[0], options.stops[-1])) if options.stops else None
        )
        curve = str(random.choice(options.curves))
        return cls(
            count, (low, high), gamma, noise, seed, stops, curve, options.clipped, options.bits
        )

    def render(self, radiance: NDArray[np.float32]) -> NDArray[np.float32]:
        r"""Render radiance ``(H, W, 3)`` to exposures ``(count, H, W, 3)``, from dark to bright.

        .. math:: I = \mathrm{round}\bigl(n\, f(\min(\max(2^{ev} L + z, 0), 1))^\gamma\bigr) / n,
            \qquad n = 2^{bits} - 1

        with the response curve f, exposure values ev equally spaced over :func:`exposure_range`
        with both ends moved, and noise z of the variance :math:`g\,(\min(2^{ev} L, 1) + 0.02)`.
        """
        random = np.random.default_rng(self.seed)
        frames = np.empty((self.count, *radiance.shape), np.float32)
        levels = np.float32(2**self.bits - 1)
        for frame, ev in zip(frames, self._exposure_values(radiance), strict=True):
            light = radiance * np.float32(2.0**ev)
            if self.noise:
                deviation = np.sqrt(self.noise * (light.clip(0, 1) + np.float32(READ_NOISE)))
                light += random.standard_normal(light.shape, np.float32) * deviation
            encoded = _respond(light.clip(0, 1), self.curve) ** np.float32(self.gamma)
            frame[:] = np.rint(levels * encoded) / levels
        return frames

    def _exposure_values(self, radiance: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the exposure values in stops, ``(count,)``, ascending."""
        lowest, highest = exposure_range(radiance, self.clipped)
        lowest, highest = lowest + self.shift[0], highest + self.shift[1]
        if self.stops is None:
            highest = max(highest, lowest + SHORTEST)
        else:
            middle = (lowest + highest) / 2
            lowest, highest = middle - self.stops / 2, middle + self.stops / 2
        return np.linspace(lowest, highest, self.count)


def _respond(light: NDArray[np.float32], curve: str) -> NDArray[np.float32]:
    """Apply a response curve to linear light in [0, 1]."""
    if curve == "linear":
        return light
    encoded = srgb_encode(light)
    return encoded * encoded * (3 - 2 * encoded) if curve == "s" else encoded
