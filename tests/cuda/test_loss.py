"""The CUDA kernels of the one-pass loss against the float64 reference."""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import cuda_kernels
import pytest
import torch
from cases import LOSS, loss_inputs, scene
from torch import Tensor

from fastmef import reference
from fastmef.ops.loss_kernels import cuda_covers, gradient_scale

pytestmark = pytest.mark.usefixtures("emulated")


def reference_step(
    source: Tensor, exposures: Tensor, dtype: torch.dtype, options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    source = source.to(dtype).detach().requires_grad_()
    function = reference.fusion_loss if source.ndim == 4 else reference.weighted_ssim_loss
    value = function(source, exposures.to(dtype), **options)
    (gradient,) = torch.autograd.grad(value, source)
    return value.detach().double(), gradient.double()


def cuda_step(source: Tensor, exposures: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    scales = options.get("scales", (1.0,))
    arguments = (source, exposures, None, *(options[name] for name in LOSS), scales)
    value, gradient = cuda_kernels.loss(*arguments, True)
    alone, none = cuda_kernels.loss(*arguments, False)
    assert torch.equal(alone, value) or (alone.isnan() and value.isnan())
    assert none.numel() == 0 and value.dtype == torch.float32 and gradient.dtype == source.dtype
    return value.double(), gradient.double() / gradient_scale(source, None)


def check(source: Tensor, exposures: Tensor, **changes: Any) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding."""
    options = {**LOSS, **changes}
    exact = reference_step(source, exposures, torch.float64, options)
    single = reference_step(source, exposures, torch.float32, options)
    ours = cuda_step(source.float(), exposures.float(), options)
    # The derivatives of one window's SSIM reach 2 / C2 = 2000 and cancel where nothing varies.
    windows = reference.crop_to_centers(exposures, 11)[:, 0].numel()
    rounding = (2e-7 + 5e-6 / windows, 1e-6 * float(exact[1].abs().max()) + 1e-4 / windows)
    for e, s, o, extra in zip(exact, single, ours, rounding, strict=True):
        assert (o - e).abs().max() <= 2 * (s - e).abs().max() + extra


# 256 columns and 64 rows are one block: less than one, one, and one more.
@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "shape",
    [(11, 11), (12, 37), (65, 11), (84, 20), (149, 13), (11, 256), (13, 257), (11, 500)],
    ids=str,
)
def test_sizes(form: str, count: int, shape: tuple[int, int]) -> None:
    check(*loss_inputs(form, 1 if shape[1] > 40 else 2, count, *shape))


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((22, 44), (1.0, 0.5)),
        ((41, 45), (0.4, 0.35, 0.25)),
        ((43, 42), (1.0, 0.0, 2.0, 0.0)),
        ((150, 47), (1.0, 3.0)),
        ((21, 263), (0.5, 0.5)),
        ((161, 165), (0.4, 0.3, 0.2, 0.1, 0.0)),
    ],
    ids=str,
)
def test_scales(form: str, count: int, shape: tuple[int, int], scales: tuple[float, ...]) -> None:
    check(*loss_inputs(form, 2, count, *shape), scales=scales)


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_other_options(form: str) -> None:
    check(*loss_inputs(form, 1, 2, 20, 21), sigma=None, k1=0.05, k2=0.1)
    check(*loss_inputs(form, 1, 2, 20, 21), sigma=3.0, floor=0.0, eps=1e-3)


def test_bright_flat_images() -> None:
    exposures = 0.9 + 1e-3 * (scene(1, 2, 30, 40) - 0.5)
    check(0.9 + 1e-3 * (scene(1, 30, 40, seed=3) - 0.5), exposures)
    check(scene(1, 2, 30, 40, seed=3), exposures)


def test_strides() -> None:
    source, exposures = loss_inputs("logits", 2, 2, 14, 16)
    wide = torch.zeros(2, 2, 28, 48, dtype=torch.float64)
    wide[..., ::2, ::3] = exposures
    check(source.mT.contiguous().mT, wide[..., ::2, ::3])
    check(source.movedim(1, -1).contiguous().movedim(-1, 1), exposures)


@pytest.mark.parametrize("form", ["fused", "logits"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_single(form: str, dtype: torch.dtype) -> None:
    source, exposures = (x.to(dtype) for x in loss_inputs(form, 1, 2, 16, 30))
    options = dict(LOSS)
    value, gradient = cuda_step(source, exposures, options)
    exact, exact_gradient = reference_step(source, exposures, torch.float64, options)
    assert (value - exact).abs() <= 1e-6
    error = (gradient - exact_gradient).abs()
    eps = torch.finfo(dtype).eps
    assert (error <= 0.51 * eps * exact_gradient.abs() + 1e-4 / 120).all()


def test_extreme_logits() -> None:
    _, exposures = loss_inputs("logits", 1, 3, 13, 14)
    logits = torch.tensor([-1e30, 1e30, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 13, 14)
    check(logits, exposures)


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_nan_stays_nan_and_near(form: str) -> None:
    source, exposures = (x.float() for x in loss_inputs(form, 1, 2, 40, 40))
    source[..., 5, 6] = torch.nan
    value, gradient = cuda_step(source, exposures, dict(LOSS))
    assert value.isnan()
    assert gradient[..., 5, 6].isnan().all() and gradient[..., :16, :17].isnan().all()
    assert not gradient[..., 16:, :].isnan().any() and not gradient[..., 17:].isnan().any()


def test_more_blocks_than_threads_add_them() -> None:
    check(*loss_inputs("fused", 300, 2, 11, 11))


@pytest.mark.parametrize("form", ["fused", "logits"])
def test_attributes_and_luminance(form: str) -> None:
    for gamma in ("variance", "gradient", "well_exposedness", "variance_well_exposedness"):
        check(*loss_inputs(form, 1, 2, 20, 21), gamma=gamma)
    check(*loss_inputs(form, 1, 3, 24, 23), luminance=True, scales=(1.0, 0.5))


def test_the_same_launches_for_any_number_of_scales(emulated: ModuleType) -> None:
    """One launch computes the coarser levels, one the loss of all levels with its gradient."""
    library = ctypes.CDLL(emulated.__file__)
    for form in ("fused", "logits"):
        inputs = [x.float() for x in loss_inputs(form, 1, 2, 48, 48)]
        for scales in ((1.0,), (1.0, 0.5), (1.0, 0.5, 0.25)):
            before = library.launches()
            cuda_step(*inputs, {**LOSS, "scales": scales})
            assert library.launches() - before == 2 * 2  # with a gradient and without one


# Signalling NaN, which any product makes quiet.
SIGNALLING = {
    torch.float32: (torch.int32, 0x7F800001),
    torch.float16: (torch.int16, 0x7C01),
    torch.bfloat16: (torch.int16, 0x7F81),
}


@pytest.mark.parametrize("size", [1, 7, 8, 5000])
@pytest.mark.parametrize("dtype", SIGNALLING, ids=str)
def test_scaling_in_place(size: int, dtype: torch.dtype) -> None:
    gradient = (1 + torch.arange(size) / 7).to(dtype)
    scaled = gradient.clone()
    cuda_kernels.scale(scaled, torch.tensor(131072.0), 262144.0)
    assert torch.equal(scaled, (0.5 * gradient.float()).to(dtype))
    integer, bits = SIGNALLING[dtype]
    untouched = torch.full((size,), bits, dtype=integer)
    cuda_kernels.scale(untouched.view(dtype), torch.tensor(2.0), 2.0)
    assert (untouched == bits).all()


def test_what_is_left_to_triton() -> None:
    exposures = torch.zeros(1, 2, 20, 20)

    def covered(x: Tensor = exposures, *scales: float, window: int = 11, mask: Any = None) -> bool:
        return cuda_covers(None, x, mask, window=window, scales=scales or (1.0,))

    assert covered() and covered(exposures, 2.0, 0.0)
    assert not covered(exposures, 1.0, 1.0)
    assert covered(torch.zeros(1, 2, 21, 21), 1.0, 1.0)
    assert covered(torch.zeros(1, 3, 330, 330), *(1.0,) * 5)
    assert not covered(torch.zeros(1, 3, 990, 990), *(1.0,) * 7)
    assert not covered(torch.zeros(1, 2, 44, 44), 0.0, 1.0)
    assert not covered(window=9)
    assert not covered(mask=exposures[:, 0])
    assert not covered(exposures[..., :10])
    assert not covered(torch.zeros(1, 5, 20, 20))
