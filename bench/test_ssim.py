"""ssim: the mean, alone and with its gradient by the first image, beside the public packages.

Peers keep their own border: torchmetrics mirrors the image, and is compared with the reference that
mirrors as well; the others use the windows that lie inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional, reference

SIZES = {"8x250x250": (8, 250, 250), "1x1080x1920": (1, 1080, 1920)}
Ssim = Callable[[Tensor, Tensor], Tensor]
Run = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def pytorch_msssim() -> Ssim:
    package = pytest.importorskip("pytorch_msssim", reason="pytorch-msssim is not installed")
    return lambda a, b: package.ssim(a[:, None], b[:, None], data_range=1.0)


def torchmetrics() -> Ssim:
    package = pytest.importorskip("torchmetrics.functional.image", reason="no torchmetrics")
    function = package.structural_similarity_index_measure
    return lambda a, b: function(a[:, None], b[:, None], data_range=1.0)


def kornia() -> Ssim:
    package = pytest.importorskip("kornia.metrics", reason="kornia is not installed")
    return lambda a, b: package.ssim(a[:, None], b[:, None], 11, padding="valid").mean()


def scikit_image(with_gradient: bool) -> Run:
    """Its gradient is the one by the second image."""
    package = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

    def run(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        results = [
            package.structural_similarity(
                y.numpy(), x.numpy(), data_range=1.0, gradient=with_gradient, **options
            )
            for x, y in zip(a, b, strict=True)
        ]
        if not with_gradient:
            return (torch.tensor(results).mean(),)
        value = torch.tensor([result[0] for result in results]).mean()
        # Of the mean over all pixels; the value is the mean over the windows that lie inside.
        share = a[0].numel() / (a.shape[0] * (a.shape[1] - 10) * (a.shape[2] - 10))
        return value, torch.stack([torch.from_numpy(result[1]) for result in results]) * share

    return run


PEERS = {"pytorch-msssim": pytorch_msssim, "kornia": kornia, "torchmetrics": torchmetrics}


def runner(function: Ssim, with_gradient: bool) -> Run:
    def run(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        if not with_gradient:
            with torch.no_grad():
                return (function(a, b),)
        x = a.detach().requires_grad_()
        value = function(x, b)
        return value.detach(), *torch.autograd.grad(value, x)

    return run


# What is compiled is timed with its gradient. torchmetrics takes many seconds for a large one.
CASES = [
    (name, size, with_gradient)
    for with_gradient in (False, True)
    for size in SIZES
    for name in ("fastmef", "eager", "torch.compile", "scikit-image", *PEERS)
    if (name != "torch.compile" or with_gradient)
    and (name != "torchmetrics" or not with_gradient or size == "8x250x250")
]


@pytest.mark.parametrize("name, size, with_gradient", CASES)
def test_ssim(
    clock: Callable[..., None],
    photograph: Callable[..., Tensor],
    compiled: Callable[..., Any],
    check: Callable[..., None],
    once: Callable[..., Any],
    name: str,
    size: str,
    with_gradient: bool,
) -> None:
    a = photograph(*SIZES[size])
    b = 0.8 * a + 0.2 * photograph(*SIZES[size], seed=1)
    if name == "scikit-image":
        run = scikit_image(with_gradient)
    elif name in PEERS:
        run = runner(PEERS[name](), with_gradient)
    else:
        ours = {"fastmef": functional.ssim, "eager": reference.ssim}
        run = runner(ours.get(name) or compiled(reference.ssim), with_gradient)
    border = "reflect" if name == "torchmetrics" else "valid"
    reference_run = runner(lambda x, y: reference.ssim(x, y, border=border), with_gradient)
    key = ("ssim", size, with_gradient, border)
    exact = once(key, lambda: reference_run(a.double(), b.double()))
    # scikit-image's gradient counts the mirrored windows as well.
    check(run(a, b), exact, name, 10 if name == "scikit-image" else 0)
    row = f"{size}, {'value and gradient' if with_gradient else 'value'}"
    clock(lambda: run(a, b), "ssim", row, name)
