"""The calls of public functions whose launches are counted, with their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastmef import functional

PATCHES, LARGE = (8, 250, 250), (1, 2160, 3840)
THREE_SCALES = (1.0, 0.5, 0.25)
Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Case:
    """A call. ``needed`` are the bytes per pixel that forward and backward pass must move."""

    operation: str
    shape: tuple[int, ...]
    make: Callable[..., Call]
    needed: tuple[float, float]
    backends: tuple[str, ...] = ("triton",)

    @property
    def label(self) -> str:
        return f"{self.operation}, {'x'.join(map(str, self.shape))}"

    @property
    def pixels(self) -> int:
        batch, height, width = self.shape
        return batch * height * width

    def call(self) -> Call:
        return self.make(*self.shape)


def _images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uninitialised images: memory that is not touched is not allocated."""
    return torch.empty(shape, dtype=dtype)


def _needing(*shape: int) -> Tensor:
    return _images(*shape).requires_grad_()


def _variance(b: int, h: int, w: int) -> Call:
    images = _needing(b, h, w)
    return lambda: functional.local_variance(images)


def _sobel(b: int, h: int, w: int) -> Call:
    images = _needing(b, h, w)
    return lambda: functional.sobel_gradient(images)


def _gamma(b: int, h: int, w: int) -> Call:
    exposures = _needing(b, 2, h, w)
    return lambda: functional.gamma_weights(exposures)


def _ssim(b: int, h: int, w: int) -> Call:
    first, second = _needing(b, h, w), _images(b, h, w)
    return lambda: functional.ssim(first, second)


def _weighted(*scales: float) -> Callable[..., Call]:
    def make(b: int, h: int, w: int) -> Call:
        fused, exposures = _needing(b, h, w), _images(b, 2, h, w)
        return lambda: functional.weighted_ssim_loss(fused, exposures, scales=scales)

    return make


def _fusion(*scales: float) -> Callable[..., Call]:
    def make(b: int, h: int, w: int) -> Call:
        logits, exposures = _needing(b, 2, h, w), _images(b, 2, h, w)
        return lambda: functional.fusion_loss(logits, exposures, scales=scales)

    return make


def _softmax(dtype: torch.dtype, channels_last: bool = False) -> Callable[..., Call]:
    def make(b: int, h: int, w: int) -> Call:
        logits = _images(b, 2, h, w).requires_grad_(dtype.is_floating_point)
        if channels_last:
            exposures = _images(b, 2, h, w, 3, dtype=dtype).permute(0, 1, 4, 2, 3)
        else:
            exposures = _images(b, 2, 3, h, w, dtype=dtype)
        return lambda: functional.softmax_fuse(logits, exposures)

    return make


def _guided(b: int, h: int, w: int) -> Call:
    logits, exposures = _images(b, 2, 256, 256), _images(b, 2, 3, h, w, dtype=torch.uint8)
    return lambda: functional.guided_upsample_fuse(logits, exposures)


def _ma2015(b: int, h: int, w: int) -> Call:
    fused, exposures = _needing(b, h, w), _images(b, 2, h, w)
    return lambda: functional.mef_ssim(fused, exposures, scales=1)


def _multiscale(b: int, h: int, w: int) -> Call:
    logits, exposures = _needing(b, 2, h // 8, w // 8), _images(b, 2, 3, h, w)

    def call() -> Tensor:
        pyramid = functional.exposure_pyramid(exposures, levels=3)
        return functional.multiscale_fuse(logits, exposures, pyramid=pyramid)

    return call


def cases() -> Iterator[Case]:
    """Yield all cases, training patches before large images."""
    both = ("cuda", "triton")
    for shape in (PATCHES, LARGE):
        yield Case("local_variance", shape, _variance, (8, 12))
        yield Case("sobel_gradient", shape, _sobel, (8, 12))
        yield Case("gamma_weights", shape, _gamma, (16, 24))
        yield Case("ssim, mean", shape, _ssim, (12, 0))
        for name, make, needed in (
            ("weighted_ssim_loss", _weighted, 16),
            ("fusion_loss", _fusion, 24),
        ):
            yield Case(f"{name}, 1 scale", shape, make(1.0), (needed, 0), both)
            yield Case(f"{name}, 3 scales", shape, make(*THREE_SCALES), (needed, 0), both)
        yield Case("mef_ssim ma2015, 1 scale", shape, _ma2015, (16, 0))
        yield Case("softmax_fuse, float32", shape, _softmax(torch.float32), (44, 52), both)
        for layout, last in (("planar", False), ("channels last", True)):
            name = f"softmax_fuse, uint8, {layout}"
            yield Case(name, shape, _softmax(torch.uint8, last), (17, 0), both)
    yield Case("guided_upsample_fuse, uint8", LARGE, _guided, (16, 0), both)
    yield Case("multiscale_fuse, float32", (8, 256, 256), _multiscale, (36, 36))
    yield Case("multiscale_fuse, float32", LARGE, _multiscale, (36, 36))
