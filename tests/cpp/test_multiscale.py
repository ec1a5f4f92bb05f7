"""Multiscale fusion on the C++ kernels: rows, threads, layouts and types beyond tests/ops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from brackets import SHAPES, bracket, check_fused, fused_in, small_logits, some_valid
from cases import INTEGERS, arrange, same_bits_in_threads

from fastmef import functional, reference
from fastmef.ops import multiscale_kernels as kernels
from fastmef.ops.common.operation import RefusedError
from fastmef.reference.multiscale import BandOptions

pytestmark = pytest.mark.usefixtures("kernels")

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LAYOUTS = ["planar", "channels_last", "strided", "transposed", "misaligned"]


def make(shape: tuple[int, ...], dtype: torch.dtype, batch: int = 2) -> torch.Tensor:
    return bracket(batch, *shape[:4], dtype=dtype)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_values(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    check_fused(make(shape, dtype), shape[-1])


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS[1:])
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4], SHAPES[6]])
def test_layouts(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    fused = check_fused(make(shape, dtype), shape[-1], layout)
    assert torch.equal(fused, check_fused(make(shape, dtype), shape[-1]))
    if layout == "channels_last":
        assert fused.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {"radius": 0},
        {"radius": 1, "floor": 1e-4},
        {"radius": 7},
        {"contrast": 1.5},
        {"contrast": (1.2, 0.0, -0.5)},
        {"knee": None},
        {"knee": (0.3, 0.5), "contrast": 3.0},
        {"shares": torch.tensor([[0.5, 0.5, 1], [0.0, 2, 1]])},
    ],
    ids=str,
)
def test_options(dtype: torch.dtype, options: dict[str, Any]) -> None:
    check_fused(make((3, 3, 45, 38), dtype), 3, **options)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("shape", SHAPES)
def test_valid(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    exposures = make(shape, dtype)
    valid = some_valid(exposures)
    check_fused(exposures, shape[-1], layout, valid=valid)
    shares = torch.linspace(0, 1, shape[0]).expand(2, -1)
    check_fused(exposures, shape[-1], layout, valid=valid, shares=shares)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize(
    ("levels", "size"), [(0, (31, 52)), (1, (20, 28)), (2, (11, 13)), (2, (10, 15)), (1, (23, 20))]
)
def test_a_base_between_two_levels(
    dtype: torch.dtype, layout: str, levels: int, size: tuple[int, int]
) -> None:
    """The base of exposures of 45×58 pixels is resampled from the level above it."""
    exposures = make((3, 3, 45, 58), dtype)
    check_fused(exposures, levels, layout, size=size, shares=torch.tensor([[0.5, 0.5, 1]] * 2))
    contrast = [1.2, 0.4, -0.5][: levels + 1]
    check_fused(
        exposures, levels, layout, size=size, contrast=contrast, valid=some_valid(exposures)
    )


def test_weights_of_one_frame_return_it() -> None:
    """With all the weight on one frame its bands add up to the frame, whatever the base's size."""
    exposures = make((3, 3, 45, 58), torch.float64)
    shares = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, -1)
    for size in [(45, 58), (40, 50), (23, 29), (20, 17), (3, 5), (1, 1)]:
        logits = torch.zeros(2, 3, *size, dtype=torch.float64)
        fused = functional.multiscale_fuse(logits, exposures, shares=shares, knee=None)
        torch.testing.assert_close(fused, exposures[:, 1], rtol=0, atol=1e-12)


def test_what_is_not_valid_contributes_nothing() -> None:
    exposures = make((3, 3, 40, 50), torch.float32)
    valid = some_valid(exposures)
    valid[:, 2] = True
    spoiled = exposures.clone()
    spoiled[(~valid).unsqueeze(2).expand_as(spoiled)] = torch.nan
    logits = small_logits(exposures, 2)
    expected = functional.multiscale_fuse(logits, exposures, valid=valid)
    assert torch.equal(functional.multiscale_fuse(logits, spoiled, valid=valid), expected)


def test_each_instruction_set(isa: str) -> None:
    for dtype in (torch.uint8, torch.uint16, torch.float16, torch.float32):
        for shape in (SHAPES[3], SHAPES[6], SHAPES[7]):
            for layout in ("planar", "channels_last"):
                check_fused(make(shape, dtype), shape[-1], layout)
        check_fused(make(SHAPES[4], dtype), SHAPES[4][-1], valid=some_valid(make(SHAPES[4], dtype)))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_levels_of_integers_are_exact(
    dtype: torch.dtype, layout: str, shape: tuple[int, ...]
) -> None:
    exposures, levels = make(shape, dtype), shape[-1]
    ours = functional.exposure_pyramid(arrange(exposures, layout), levels)
    expected = reference.exposure_pyramid(exposures, levels)
    assert all(map(torch.equal, ours.inner, expected.inner))
    assert len(ours.inner) == max(0, levels - 1)
    torch.testing.assert_close(ours.base, expected.base, rtol=2e-7, atol=0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_levels_of_floats(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    exposures, levels = make(shape, dtype), shape[-1]
    ours = functional.exposure_pyramid(arrange(exposures, "channels_last"), levels)
    exact = reference.exposure_pyramid(exposures.double(), levels)
    working = torch.float64 if dtype == torch.float64 else torch.float32
    for x, e in zip((*ours.inner, ours.base), (*exact.inner, exact.base), strict=True):
        assert x.dtype == working and x.shape == e.shape
        assert (x - e).abs().max() <= 4 * torch.finfo(working).eps


def test_a_pyramid_and_a_base_that_are_given() -> None:
    exposures, levels = make(SHAPES[4], torch.uint8), SHAPES[4][-1]
    logits = small_logits(exposures, levels)
    expected = functional.multiscale_fuse(logits, exposures)
    pyramid = functional.exposure_pyramid(exposures, levels)
    assert torch.equal(functional.multiscale_fuse(logits, exposures, pyramid=pyramid), expected)
    base = functional.softmax_fuse(logits, pyramid.base)
    found = functional.multiscale_fuse(None, exposures, base=base, pyramid=pyramid)
    assert torch.equal(found, expected)
    scattered = pyramid._replace(
        inner=tuple(arrange(x, "strided") for x in pyramid.inner),
        base=arrange(pyramid.base, "channels_last"),
    )
    assert torch.equal(functional.multiscale_fuse(logits, exposures, pyramid=scattered), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_a_frame_that_comes_twice_with_half_a_share_changes_nothing(dtype: torch.dtype) -> None:
    exposures = make((3, 3, 50, 60), dtype)
    logits = small_logits(exposures, 2)
    twice = [0, 1, 1, 2]
    shares = torch.tensor([1, 0.5, 0.5, 1]).expand(2, -1)
    alone = functional.multiscale_fuse(logits, exposures).double()
    both = functional.multiscale_fuse(logits[:, twice], exposures[:, twice], shares=shares)
    assert (both.double() - alone).abs().max() <= (1 if dtype == torch.uint8 else 2e-6)


def test_bright_flat_areas_are_weighted_by_their_detail() -> None:
    """Two weak textures on 0.9: squares of the values would leave nothing but rounding."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 2, 1, 64, 64, generator=generator, dtype=torch.float64)
    strength = torch.tensor([1e-4, 2e-4], dtype=torch.float64)[:, None, None, None]
    exposures = (0.9 + strength * noise).float()
    logits = torch.zeros(1, 2, 32, 32)
    options: dict[str, Any] = {"floor": 1e-12, "contrast": 100.0, "levels": 1, "knee": None}
    exact = fused_in(torch.float64, logits, exposures, **options)
    del options["levels"]
    fused = functional.multiscale_fuse(logits, exposures, **options)
    assert (fused - exact).abs().max() <= 100 * 3e-7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_same_bits_for_any_number_of_threads(dtype: torch.dtype, masked: bool) -> None:
    exposures = make((2, 3, 300, 700), dtype)
    logits = small_logits(exposures, 3)
    valid = some_valid(exposures) if masked else None
    same_bits_in_threads(
        lambda: [functional.multiscale_fuse(logits, exposures, valid=valid)], (1, 2, 5)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last"])
@pytest.mark.parametrize("radius", [4, 2])
def test_same_bits_for_any_division_into_rows(
    isa: str, dtype: torch.dtype, layout: str, radius: int
) -> None:
    exposures = arrange(make((2, 3, 151, 530), dtype), layout)
    pyramid = functional.exposure_pyramid(exposures, 1)
    fused_coarse = pyramid.base.mean(dim=1)
    band = kernels.Band(exposures, pyramid.base, fused_coarse, None, None, None)
    options = BandOptions(radius, finest=True, low=0.1, high=0.1)
    whole = torch.zeros_like(exposures[:, 0])
    kernels.cpp_band(band, options, whole, None)
    for cuts in ((0, 1, 151), (0, 75, 76, 140, 151), tuple(range(0, 151, 13)) + (151,)):
        parts = torch.zeros_like(whole)
        for begin, end in zip(cuts, cuts[1:], strict=False):
            kernels.cpp_band(band, options, parts[..., begin:end, :], None, begin)
        assert torch.equal(parts, whole)


@pytest.mark.parametrize("layout", ["planar", "channels_last"])
def test_exposures_that_lie_apart(isa: str, layout: str) -> None:
    exposures = arrange(make((3, 3, 71, 530), torch.uint8, batch=1), layout)
    pyramid = functional.exposure_pyramid(exposures, 1)
    band = kernels.Band(exposures, pyramid.base, pyramid.base.mean(dim=1), None, None, None)
    options = BandOptions(finest=True, low=0.1, high=0.1)
    expected, found = torch.zeros_like(exposures[:, 0]), torch.zeros_like(exposures[:, 0])
    kernels.cpp_band(band, options, expected, None)
    layers = [exposures[:, k : k + 1].clone() for k in range(3)]
    apart = band._replace(fine=layers[0].expand_as(exposures))
    kernels.cpp_band(apart, options, found, None, 0, layers)
    assert torch.equal(found, expected)
    for others in (layers[:2], [*layers[:2], layers[2].float()]):
        with pytest.raises(RefusedError, match="separate in memory must have one dtype and layout"):
            kernels.cpp_band(apart, options, found, None, 0, others)


def test_large_images_are_divided_alike_everywhere() -> None:
    """The division into blocks of columns and strips of rows changes no bit."""
    exposures = make((2, 3, 140, 1100), torch.float32, batch=1)
    logits = small_logits(exposures, 2)
    whole = functional.multiscale_fuse(logits, exposures)
    # This part of the image is compared where no window and no pixel of a level reaches the cut.
    part = functional.multiscale_fuse(logits[..., 64:], exposures[..., 256:])
    assert torch.equal(part[..., 64:], whole[..., 320:])
