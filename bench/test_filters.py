"""local_variance, sobel_gradient and gamma_weights, alone and with their gradient.

Variances have mirrored borders, Sobel repeated ones: so has every peer. gamma_weights has no peer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional, reference

SIZES = {"8x250x250": (8, 250, 250), "1x1080x1920": (1, 1080, 1920)}
Filter = Callable[[Tensor], Tensor]
FLOOR = 1e-4

# By op: whose function it is, its options, and what it is called in the tables.
OPS: dict[str, tuple[str, dict[str, Any]]] = {
    "local_variance, Gaussian 11": ("local_variance", {"border": "reflect"}),
    "local_variance, box 11": ("local_variance", {"border": "reflect", "sigma": None}),
    "sobel_gradient": ("sobel_gradient", {}),
    "gamma_weights, 2 exposures": ("gamma_weights", {}),
}


def by_plane(function: Callable[[Any], Any]) -> Filter:
    """A NumPy function of single images."""
    return lambda images: torch.stack([torch.from_numpy(function(x.numpy())) for x in images])


def variance_of(mean: Filter) -> Filter:
    return lambda x: (mean(x * x) - mean(x).square()).clamp_min(FLOOR)


def kornia(op: str) -> Filter:
    package = pytest.importorskip("kornia.filters", reason="kornia is not installed")
    if op == "sobel_gradient":
        return lambda x: package.sobel(x[:, None], normalized=False, eps=1e-12)[:, 0]
    if "box" in op:
        return variance_of(lambda x: package.box_blur(x[:, None], 11)[:, 0])
    return variance_of(lambda x: package.gaussian_blur2d(x[:, None], 11, (1.5, 1.5))[:, 0])


def opencv(op: str) -> Filter:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    cv2.setNumThreads(torch.get_num_threads())
    if op == "sobel_gradient":
        border = cv2.BORDER_REPLICATE
        return by_plane(
            lambda x: cv2.magnitude(
                cv2.Sobel(x, cv2.CV_32F, 1, 0, borderType=border),
                cv2.Sobel(x, cv2.CV_32F, 0, 1, borderType=border),
            )
        )
    if "box" in op:
        return variance_of(
            by_plane(lambda x: cv2.boxFilter(x, -1, (11, 11), borderType=cv2.BORDER_REFLECT_101))
        )
    return variance_of(
        by_plane(lambda x: cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101))
    )


def scikit_image(op: str) -> Filter:
    package = pytest.importorskip("skimage.filters", reason="scikit-image is not installed")
    if op == "sobel_gradient":
        # Its kernels are divided by 4, and the magnitude by the root of 2.
        return by_plane(lambda x: package.sobel(x) * (4 * 2**0.5))
    if "box" in op:
        pytest.skip("scikit-image has no box filter for floating point")
    return variance_of(by_plane(lambda x: package.gaussian(x, 1.5, mode="mirror", truncate=3.5)))


PEERS = {"kornia": kornia, "OpenCV": opencv, "scikit-image": scikit_image}
OURS = ["fastmef", "eager", "torch.compile"]
# OpenCV and scikit-image have no gradients; what is compiled is timed with them.
CASES = [
    (op, mode, name)
    for op in OPS
    for mode, names in (
        ("value", ["fastmef", "eager", *PEERS]),
        ("value and gradient", [*OURS, "kornia"]),
    )
    for name in names
    if not (op.startswith("gamma_weights") and name in PEERS)
    and not (op == "local_variance, box 11" and name == "torch.compile")
]


def runner(function: Filter, mode: str) -> Callable[[Tensor], tuple[Tensor, ...]]:
    def run(images: Tensor) -> tuple[Tensor, ...]:
        if mode == "value":
            with torch.no_grad():
                return (function(images),)
        x = images.detach().requires_grad_()
        value = function(x)
        return value.detach(), *torch.autograd.grad(value, x, value.detach())

    return run


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("op, mode, name", CASES)
def test_filter(
    clock: Callable[..., None],
    photograph: Callable[..., Tensor],
    compiled: Callable[..., Any],
    check: Callable[..., None],
    once: Callable[..., Any],
    op: str,
    mode: str,
    name: str,
    size: str,
) -> None:
    function, options = OPS[op]
    batch, height, width = SIZES[size]
    if function == "gamma_weights":
        images = photograph(batch, 2, height, width)
    else:
        images = photograph(batch, height, width)
    exact = getattr(reference, function)
    if name in PEERS:
        run = runner(PEERS[name](op), mode)
    elif name == "fastmef":
        run = runner(lambda x: getattr(functional, function)(x, **options), mode)
    else:
        eager = lambda x: exact(x, **options)  # noqa: E731
        run = runner(compiled(eager) if name == "torch.compile" else eager, mode)
    exact_run = runner(lambda x: exact(x, **options), mode)
    check(run(images), once((op, size, mode), lambda: exact_run(images.double())), name)
    clock(lambda: run(images), op, f"{size}, {mode}", name)
