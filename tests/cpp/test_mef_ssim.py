"""C++ MEF-SSIM: more sizes, maps, threads; tests/ops holds what every backend promises."""

from __future__ import annotations

import pytest
import torch
from cases import same_bits_in_threads
from torch import Tensor

from fastmef import ops
from fastmef.ops.mef_ssim import STEPS, ma2015_without_maps
from fastmef.reference import mef_ma2015, mef_mefnet
from fastmef.reference.filters import halve
from fastmef.reference.mef_ssim import REFERENCE, Steps, mef_ssim_score, mef_ssim_sources

pytestmark = pytest.mark.usefixtures("kernels")

# "ma2015" keeps maps of the exposures; "ma2015_without_maps" computes them again.
VARIANTS = ("ma2015", "ma2015_without_maps", "mefnet", "mefnet_cs")
SIZES = [(1, 1), (2, 2), (5, 7), (11, 11), (1, 3000), (3000, 1), (12, 37), (129, 270)]


def stack(count: int, height: int, width: int, seed: int = 0, batch: int = 1) -> Tensor:
    """Exposures of one scene: edges and noise, partly black and partly clipped to white."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((batch, height, width), generator=generator, dtype=torch.float64)
    ramp = torch.linspace(0, 1, width, dtype=torch.float64)
    scene = 0.6 * ramp * (torch.arange(height) % 7 > 2)[:, None] + 0.4 * noise
    gains = torch.linspace(0.3, 2.4, count, dtype=torch.float64) if count > 1 else torch.ones(1)
    return (gains[:, None, None] * scene.unsqueeze(1) - 0.1).clamp(0, 1)


def fuse(exposures: Tensor, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(exposures[:, 0].shape, generator=generator, dtype=torch.float64)
    return exposures.mean(dim=1) + 0.1 * noise


def score(
    by: Steps, variant: str, exposures: Tensor, fused: Tensor, scales: int | None = None
) -> Tensor:
    name = variant.removesuffix("_without_maps")
    if by is STEPS and name != variant:
        return ops.mef_ssim.mef_ssim(fused, exposures, name, scales)
    return mef_ssim_score(mef_ssim_sources(exposures, name, scales, by), fused, by)


def evaluate(
    by: Steps,
    variant: str,
    exposures: Tensor,
    fused: Tensor,
    dtype: torch.dtype,
    scales: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return score and gradient of one implementation as float64."""
    fused = fused.detach().to(dtype).requires_grad_()
    only = variant.startswith("ma2015")
    scores = score(by, variant, exposures.to(dtype), fused, scales if only else None)
    scores.backward(torch.linspace(0.5, 1.5, len(scores), dtype=dtype))
    assert fused.grad is not None
    return scores.detach().double(), fused.grad.double()


def check(variant: str, exposures: Tensor, fused: Tensor) -> None:
    """Check that the error is at most twice that of the reference in float32, plus rounding."""
    exact = evaluate(REFERENCE, variant, exposures, fused, torch.float64)
    double = evaluate(STEPS, variant, exposures, fused, torch.float64)
    single = evaluate(REFERENCE, variant, exposures, fused, torch.float32)
    ours = evaluate(STEPS, variant, exposures, fused, torch.float32)
    # The derivative of one window's score reaches 1 / C2 = 1000 and cancels where nothing varies.
    pixels = fused[0].numel()
    rounding = (2e-7 + 5e-6 / pixels, 1e-6 * float(exact[1].abs().max()) + 1e-4 / pixels)
    for e, d, s, o, extra in zip(exact, double, single, ours, rounding, strict=True):
        assert (d - e).abs().max() <= 1e-11 * (1 + e.abs().max())
        assert (o - e).abs().max() <= 2 * (s - e).abs().max() + extra


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_sizes(variant: str, size: tuple[int, int], count: int) -> None:
    exposures = stack(count, *size)
    check(variant, exposures, fuse(exposures))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (25, 2100)])
def test_long_and_wide(variant: str, shape: tuple[int, int]) -> None:
    exposures = stack(2, *shape)
    check(variant, exposures, fuse(exposures))


@pytest.mark.parametrize("variant", ["ma2015", "ma2015_without_maps"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (37, 50), (150, 531)])
def test_three_scales(variant: str, size: tuple[int, int]) -> None:
    exposures = stack(2, *size, batch=2)
    fused = fuse(exposures)
    ours = evaluate(STEPS, variant, exposures, fused, torch.float64, 3)
    exact = evaluate(REFERENCE, variant, exposures, fused, torch.float64, 3)
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (6, 8), (7, 9), (33, 70)])
def test_halves(size: tuple[int, int], isa: str) -> None:
    for dtype in (torch.float32, torch.float64):
        images = stack(3, *size, batch=2).to(dtype)
        torch.testing.assert_close(torch.ops.fastmef.halve(images), halve(images))


@pytest.mark.parametrize("variant", VARIANTS)
def test_batches_do_not_mix(variant: str) -> None:
    exposures = stack(3, 61, 47, batch=3)
    fused = fuse(exposures)
    check(variant, exposures, fused)
    together = score(STEPS, variant, exposures, fused)
    alone = [
        score(STEPS, variant, x[None], y[None]).item()
        for x, y in zip(exposures, fused, strict=True)
    ]
    assert together.tolist() == alone


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_instruction_set(variant: str, isa: str) -> None:
    for count, window in ((2, (40, 290)), (3, (9, 45))):
        exposures = stack(count, *window)
        check(variant, exposures, fuse(exposures))


def test_maps_equal_the_reference() -> None:
    exposures = stack(4, 50, 61, batch=2)
    for ours, exact in (
        (ops.mef_ssim.ma2015_level(255 * exposures), mef_ma2015.ma2015_level(255 * exposures)),
        (STEPS.mefnet_sources(exposures), mef_mefnet.mefnet_sources(exposures)),
    ):
        for name, o, e in zip(exact._fields, ours, exact, strict=True):
            torch.testing.assert_close(
                o, e, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_flat_frames() -> None:
    textured = stack(1, 40, 44)
    black, white, gray = (torch.full_like(textured, value) for value in (0.0, 1.0, 0.5))
    for exposures in (
        torch.cat((textured, white), 1),
        torch.cat((black, textured, white), 1),
        torch.cat((black, white), 1),
        torch.cat((gray, gray), 1),
    ):
        for variant in VARIANTS:
            check(variant, exposures, fuse(exposures))
            check(variant, exposures, exposures[:, 0])


def test_identical_exposures_score_themselves_as_perfect() -> None:
    exposures = stack(1, 40, 44).repeat(1, 3, 1, 1)
    for variant in VARIANTS:
        check(variant, exposures, fuse(exposures))
    value, _ = evaluate(STEPS, "ma2015", exposures, exposures[:, 0], torch.float32)
    assert value.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exposures_that_cancel_leave_no_structure(dtype: torch.dtype) -> None:
    x = stack(1, 40, 44)[:, 0].to(dtype)
    level = ops.mef_ssim.ma2015_level(255 * torch.stack((x, 1 - x), dim=1))
    flat = torch.full_like(x, 127.5)
    assert ops.mef_ssim.ma2015_quality(level, flat).item() == pytest.approx(1, abs=1e-6)
    assert 0 < ops.mef_ssim.ma2015_quality(level, 255 * x).item() < 1
    exposures = torch.stack((x, 1 - x), dim=1)
    assert ma2015_without_maps(torch.full_like(x, 0.5), exposures, 1).item() == pytest.approx(
        1, abs=1e-6
    )
    assert 0 < ma2015_without_maps(x, exposures, 1).item() < 1


def test_bright_flat_area_keeps_its_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    exposures = 0.9 + 1e-3 * torch.randn(1, 2, 64, 64, generator=generator, dtype=torch.float64)
    exposures = exposures.float().double()
    fused = exposures.mean(dim=1).float().double()
    for variant in VARIANTS:
        exact, _ = evaluate(REFERENCE, variant, exposures, fused, torch.float64)
        ours, _ = evaluate(STEPS, variant, exposures, fused, torch.float32)
        assert (ours - exact).abs().max() < 1e-6


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradcheck(variant: str) -> None:
    exposures = stack(2, 27, 30)
    fused = fuse(exposures).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: score(STEPS, variant, exposures, y), fused, fast_mode=True
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_exposure_that_is_read_several_times(variant: str) -> None:
    exposures = stack(3, 80, 90)
    check(variant, exposures[:, :1].expand_as(exposures), fuse(exposures))


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_bits_for_any_number_of_threads(variant: str) -> None:
    exposures = stack(2, 150, 1100, batch=2)
    fused = fuse(exposures)
    # Rounding to float32 would hide another order of the sums.
    same_bits_in_threads(lambda: evaluate(STEPS, variant, exposures, fused, torch.float64))


def test_without_gradient_the_value_is_the_same() -> None:
    exposures = stack(2, 150, 300)
    fused = fuse(exposures)
    for variant in VARIANTS:
        value, _ = evaluate(STEPS, variant, exposures, fused, torch.float64)
        scales = 1 if variant.startswith("ma2015") else None
        assert torch.equal(score(STEPS, variant, exposures, fused, scales), value)


def test_no_gradient_reaches_the_exposures() -> None:
    exposures = stack(2, 20, 21).requires_grad_()
    fused = fuse(exposures).detach().requires_grad_()
    for variant in VARIANTS:
        score(STEPS, variant, exposures, fused).sum().backward()
    assert exposures.grad is None and fused.grad is not None


@pytest.mark.parametrize("variant", VARIANTS)
def test_color_images_of_8_bit(variant: str) -> None:
    generator = torch.Generator().manual_seed(0)
    exposures = torch.randint(256, (1, 2, 3, 40, 43), generator=generator, dtype=torch.uint8)
    fused = torch.randint(256, (1, 40, 43, 3), generator=generator, dtype=torch.uint8)
    fused = fused.permute(0, 3, 1, 2)
    results = [score(by, variant, exposures, fused) for by in (STEPS, REFERENCE)]
    assert results[0].dtype == torch.float64
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-11)
