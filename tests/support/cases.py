"""Images, options of the loss and memory layouts for the tests of several backends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef.reference.gamma import ATTRIBUTES

GAMMAS = ["_".join(names) for n in (1, 2, 3) for names in itertools.combinations(ATTRIBUTES, n)]
LOSS: dict[str, Any] = {
    "gamma": "variance_gradient",
    "luminance": False,
    "window": 11,
    "sigma": 1.5,
    "k1": 0.01,
    "k2": 0.03,
    "floor": 1e-4,
    "eps": 1e-12,
}
INTEGERS = {torch.uint8: 255, torch.uint16: 65535}


def scene(*shape: int, seed: int = 0) -> Tensor:
    """Return float64 noise of several strengths over ramps: flat and textured, dark and bright."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator, dtype=torch.float64)
    ramp = torch.linspace(0, 1, shape[-1], dtype=torch.float64)
    level = torch.rand(*shape[:-2], 1, 1, generator=generator, dtype=torch.float64)
    return (0.6 * level + 0.2 * ramp + 0.2 * noise * ramp).clamp(0, 1)


def loss_inputs(form: str, *shape: int) -> tuple[Tensor, Tensor]:
    """Return F or logits, and exposures of ``shape`` ``(B, K, H, W)``."""
    exposures = scene(*shape)
    if form == "logits":
        return 3 * scene(*shape, seed=1) - 1.5, exposures
    return scene(*shape, seed=1)[:, 0], exposures


def stack(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Return noise over the full range of a storage dtype."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(shape, generator=generator, dtype=torch.float64)
    if dtype in INTEGERS:
        return (images * INTEGERS[dtype]).round().to(dtype)
    return images.to(dtype)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Return float32 noise in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# Images for calls that are compiled.
EXPOSURES, COLOR = uniform(2, 2, 24, 25), uniform(2, 2, 3, 24, 25, seed=1)
MASK = uniform(2, 24, 25, seed=2)


def logits_for(exposures: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return noise as logits for ``(B, K, C, H, W)``, in their dtype if it is floating-point."""
    generator = torch.Generator().manual_seed(1)
    shape = exposures.shape[:2] + exposures.shape[3:]
    logits = 4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return logits.to(dtype or (exposures.dtype if exposures.is_floating_point() else torch.float32))


def arrange(images: Tensor, layout: str) -> Tensor:
    """Return the same values in another memory layout; ``"planar"`` returns ``images`` itself."""
    height, width = images.shape[-2:]
    if layout == "channels_last":
        return images.movedim(-3, -1).contiguous().movedim(-1, -3)
    if layout == "transposed":
        return images.mT.contiguous().mT
    if layout == "strided":
        wide = images.new_zeros((*images.shape[:-2], 2 * height, 3 * width))
        wide[..., ::2, 1::3] = images
        return wide[..., ::2, 1::3]
    if layout == "cropped":  # rows are not contiguous with each other and begin misaligned
        wide = images.new_zeros((*images.shape[:-2], height + 1, width + 3))
        wide[..., 1:, 1:-2] = images
        return wide[..., 1:, 1:-2]
    if layout == "misaligned":
        flat = images.new_zeros(images.numel() + 1)
        flat[1:] = images.flatten()
        return flat[1:].view(images.shape)
    return images


def same_bits_in_threads(
    evaluate: Callable[[], Sequence[Tensor]], numbers: Sequence[int] = (1, 2, 3, 7, 1)
) -> None:
    """Check that results are bit-identical for several numbers of threads."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in numbers:
            torch.set_num_threads(threads)
            results.append(evaluate())
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(other, results[0], strict=True))
