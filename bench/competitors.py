"""Packages of other authors that the benchmarks time for each operation.

A factory gets the package that it names. It returns a function that computes the operation as the
public function of fastmef does; the benchmarks of the operation check and time it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

Function = Callable[..., Any]


@dataclass(frozen=True)
class Competitor:
    """One package for one operation."""

    op: str
    name: str
    needs: str
    """Module that is imported; without it the competitor is skipped."""
    make: Callable[[Any], Function]
    gradient: bool = False
    """Whether autograd differentiates it. A function that returns its own gradient is registered as
    another operation."""
    border: str = "valid"
    """Border of the windows of a competitor for SSIM that cannot use fastmef's."""
    margin: int = 0
    """Width in pixels of the border that is not compared, because its gradient counts other windows
    there."""
    small_only: bool = False
    """Whether only the smaller size is timed; the larger would take many seconds per call."""

    def load(self) -> Function:
        """Return the function, or skip the benchmark."""
        return self.make(pytest.importorskip(self.needs, reason=f"no {self.needs}"))


_REGISTRY: dict[tuple[str, str], Competitor] = {}


def competitor(
    op: str, name: str, needs: str, **options: Any
) -> Callable[[Callable[[Any], Function]], Callable[[Any], Function]]:
    """Register the decorated factory as ``name`` for ``op``; ``options`` are Competitor's."""

    def register(make: Callable[[Any], Function]) -> Callable[[Any], Function]:
        _REGISTRY[op, name] = Competitor(op, name, needs, make, **options)
        return make

    return register


def competitors(op: str) -> dict[str, Competitor]:
    """Return name → competitor for an operation."""
    return {name: entry for (of, name), entry in _REGISTRY.items() if of == op}


def _each_plane(function: Callable[[Any], Any]) -> Function:
    """Apply a NumPy function of single images to ``(B, H, W)``."""
    return lambda images: torch.stack([torch.from_numpy(function(x.numpy())) for x in images])


def _variance_from(mean: Function) -> Function:
    """Return a function for E[x²] − E[x]² with the window means of ``mean`` and fastmef's floor."""
    return lambda x: (mean(x * x) - mean(x).square()).clamp_min(1e-4)


def _with_threads(cv2: Any) -> Any:
    cv2.setNumThreads(torch.get_num_threads())
    return cv2


# local_variance with an 11×11 window, Gaussian with σ = 1.5 or box, and mirrored borders.


@competitor("local_variance, Gaussian 11", "kornia", needs="kornia.filters", gradient=True)
def kornia_gaussian(package: Any) -> Function:
    return _variance_from(lambda x: package.gaussian_blur2d(x[:, None], 11, (1.5, 1.5))[:, 0])


@competitor("local_variance, Gaussian 11", "OpenCV", needs="cv2")
def opencv_gaussian(package: Any) -> Function:
    border = _with_threads(package).BORDER_REFLECT_101
    blur = lambda x: package.GaussianBlur(x, (11, 11), 1.5, borderType=border)  # noqa: E731
    return _variance_from(_each_plane(blur))


@competitor("local_variance, Gaussian 11", "scikit-image", needs="skimage.filters")
def scikit_image_gaussian(package: Any) -> Function:
    blur = lambda x: package.gaussian(x, 1.5, mode="mirror", truncate=3.5)  # noqa: E731
    return _variance_from(_each_plane(blur))


@competitor("local_variance, box 11", "kornia", needs="kornia.filters", gradient=True)
def kornia_box(package: Any) -> Function:
    return _variance_from(lambda x: package.box_blur(x[:, None], 11)[:, 0])


@competitor("local_variance, box 11", "OpenCV", needs="cv2")
def opencv_box(package: Any) -> Function:
    border = _with_threads(package).BORDER_REFLECT_101
    blur = lambda x: package.boxFilter(x, -1, (11, 11), borderType=border)  # noqa: E731
    return _variance_from(_each_plane(blur))


# sobel_gradient with replicated borders.


@competitor("sobel_gradient", "kornia", needs="kornia.filters", gradient=True)
def kornia_sobel(package: Any) -> Function:
    return lambda x: package.sobel(x[:, None], normalized=False, eps=1e-12)[:, 0]


@competitor("sobel_gradient", "OpenCV", needs="cv2")
def opencv_sobel(package: Any) -> Function:
    border = _with_threads(package).BORDER_REPLICATE

    def magnitude(x: Any) -> Any:
        horizontal = package.Sobel(x, package.CV_32F, 1, 0, borderType=border)
        vertical = package.Sobel(x, package.CV_32F, 0, 1, borderType=border)
        return package.magnitude(horizontal, vertical)

    return _each_plane(magnitude)


@competitor("sobel_gradient", "scikit-image", needs="skimage.filters")
def scikit_image_sobel(package: Any) -> Function:
    # Its kernels are divided by 4, and the magnitude by the root of 2.
    return _each_plane(lambda x: package.sobel(x) * (4 * 2**0.5))


# ssim: the mean over images (B, H, W).


@competitor("ssim", "scikit-image", needs="skimage.metrics")
def scikit_image_ssim(package: Any) -> Function:
    pair = lambda x, y: package.structural_similarity(  # noqa: E731
        x.numpy(), y.numpy(), data_range=1.0, **SCIKIT_IMAGE_SSIM
    )
    return lambda a, b: torch.tensor([pair(x, y) for x, y in zip(a, b, strict=True)]).mean()


@competitor("ssim", "pytorch-msssim", needs="pytorch_msssim", gradient=True)
def pytorch_msssim_ssim(package: Any) -> Function:
    return lambda a, b: package.ssim(a[:, None], b[:, None], data_range=1.0)


@competitor("ssim", "kornia", needs="kornia.metrics", gradient=True)
def kornia_ssim(package: Any) -> Function:
    return lambda a, b: package.ssim(a[:, None], b[:, None], 11, padding="valid").mean()


@competitor(
    "ssim", "torchmetrics", needs="torchmetrics.functional.image",
    gradient=True, border="reflect", small_only=True,
)  # fmt: skip
def torchmetrics_ssim(package: Any) -> Function:
    ssim = package.structural_similarity_index_measure
    return lambda a, b: ssim(a[:, None], b[:, None], data_range=1.0)


SCIKIT_IMAGE_SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@competitor("ssim, value and gradient", "scikit-image", needs="skimage.metrics", margin=10)
def scikit_image_ssim_and_gradient(package: Any) -> Function:
    """Swap the images, because scikit-image returns the gradient w.r.t. the second image."""

    def run(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        results = [
            package.structural_similarity(
                y.numpy(), x.numpy(), data_range=1.0, gradient=True, **SCIKIT_IMAGE_SSIM
            )
            for x, y in zip(a, b, strict=True)
        ]
        value = torch.tensor([result[0] for result in results]).mean()
        # It differentiates the mean over all pixels; the value is the mean over inner windows.
        share = a[0].numel() / (a.shape[0] * (a.shape[1] - 10) * (a.shape[2] - 10))
        return value, torch.stack([torch.from_numpy(result[1]) for result in results]) * share

    return run


# On a GPU: planes (B, H, W), and the loss from SSIM maps of every pair.


@competitor("ssim on a GPU", "fused-ssim", needs="fused_ssim", gradient=True)
def fused_ssim(package: Any) -> Function:
    return lambda a, b: package.fused_ssim(a[:, None], b[:, None], padding="valid")


@competitor("weighted_ssim_loss on a GPU", "fused-ssim", needs="fused_ssim", gradient=True)
def fused_ssim_loss(package: Any) -> Function:
    """Use SSIM with a luminance factor, and γ from fastmef's kernel: only SSIM is compared."""
    gamma_weights = importlib.import_module("fastmef.functional").gamma_weights

    def loss(fused: Tensor, exposures: Tensor) -> Tensor:
        pairs = fused[:, None].expand_as(exposures).contiguous()
        maps = package.FusedSSIMMap.apply(0.01**2, 0.03**2, pairs, exposures, "valid", True)
        return 1 - (gamma_weights(exposures) * maps).sum(dim=1).mean()

    return loss


# Fusion of photographs (H, W, 3), uint8, to float32 in about [0, 1].


@competitor("fuse", "OpenCV Mertens", needs="cv2")
def opencv_mertens(package: Any) -> Function:
    return _with_threads(package).createMergeMertens().process
