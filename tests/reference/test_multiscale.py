"""Multiscale fusion against its definition, written out pixel by pixel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import functional, reference
from fastmef.errors import InputError
from fastmef.reference.color import GRAY_COEFFICIENTS
from fastmef.reference.multiscale import compress_overshoot
from fastmef.reference.pyramid import halved_size

SIZES = [(1, 1, 0), (2, 3, 1), (2, 3, 2), (9, 6, 0), (13, 10, 2), (8, 16, 3)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix_of_reduce(size: int) -> Tensor:
    matrix = torch.zeros((size + 1) // 2, size, dtype=torch.float64)
    for row in range(matrix.shape[0]):
        for offset, tap in zip(range(-1, 3), (1, 3, 3, 1), strict=True):
            matrix[row, min(max(2 * row + offset, 0), size - 1)] += tap / 8
    return matrix


def matrix_of_expand(size: int) -> Tensor:
    count = (size + 1) // 2
    matrix = torch.zeros(size, count, dtype=torch.float64)
    for row in range(size):
        matrix[row, row // 2] += 0.75
        matrix[row, min(max(row // 2 + (1 if row % 2 else -1), 0), count - 1)] += 0.25
    return matrix


def both(matrix: Any, images: Tensor, size: tuple[int, int]) -> Tensor:
    return matrix(size[0]) @ images @ matrix(size[1]).mT


def mean_around(image: Tensor, y: int, x: int, radius: int) -> Tensor:
    rows = torch.arange(y - radius, y + radius + 1).clamp(0, image.shape[0] - 1)
    columns = torch.arange(x - radius, x + radius + 1).clamp(0, image.shape[1] - 1)
    return image[rows][:, columns].mean()


def gamma_of(images: Tensor, radius: int, floor: float, shares: list[float], m: Tensor) -> Tensor:
    """Reduce ``(K, C, H, W)`` with validity ``(K, H, W)``."""
    if images.shape[1] == 3:
        gray = sum(c * images[:, i] for i, c in enumerate(GRAY_COEFFICIENTS))
    else:
        gray = images.mean(1)
    activity = torch.zeros_like(m)
    for k in range(len(gray)):
        for y in range(gray.shape[1]):
            for x in range(gray.shape[2]):
                weight = mean_around(m[k], y, x, radius)
                if weight == 0:
                    continue
                mean = mean_around(m[k] * gray[k], y, x, radius) / weight
                second = mean_around(m[k] * gray[k] ** 2, y, x, radius) / weight
                variance = max(float(second - mean**2), 0.0)
                activity[k, y, x] = shares[k] * m[k, y, x] * (variance + floor) ** 2
    return activity / activity.sum(0)


def fuse_by_definition(
    logits: Tensor,
    exposures: Tensor,
    levels: int,
    radius: int,
    floor: float,
    contrast: list[float],
    shares: list[float],
    valid: Tensor,
) -> Tensor:
    """Return ``(C, H, W)`` from ``(K, h, w)`` and ``(K, C, H, W)``, without compression."""
    sizes = [halved_size(exposures.shape[-2:], n) for n in range(levels + 1)]
    valid = valid | ~valid.any(0)
    masks, stacks = [valid.double()], [exposures]
    for size in sizes[:-1]:
        m = masks[-1].unsqueeze(1)
        total = both(matrix_of_reduce, m, size)
        stacks.append((both(matrix_of_reduce, m * stacks[-1], size) / total).nan_to_num(0.0))
        masks.append(total[:, 0])
    weights = torch.tensor(shares).double()[:, None, None] * masks[-1] * logits.exp()
    fused = ((weights / weights.sum(0)).unsqueeze(1) * stacks[-1]).sum(0)
    for level in range(levels - 1, -1, -1):
        size, m = sizes[level], masks[level + 1].unsqueeze(1)
        total = both(matrix_of_expand, m, size)
        below = (both(matrix_of_expand, m * stacks[level + 1], size) / total).nan_to_num(0.0)
        gamma = gamma_of(stacks[level], radius, floor, shares, masks[level])
        detail = (gamma.unsqueeze(1) * (stacks[level] - below)).sum(0)
        fused = both(matrix_of_expand, fused, size) + contrast[level] * detail
    return fused


@pytest.mark.parametrize(("height", "width", "levels"), SIZES)
@pytest.mark.parametrize(("count", "channels"), [(2, 3), (3, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_by_definition(
    height: int, width: int, levels: int, count: int, channels: int, masked: bool
) -> None:
    exposures = random(1, count, channels, height, width)
    logits = 4 * random(1, count, *halved_size((height, width), levels), seed=1)
    shares = [0.5, 1.0, 0.25][:count]
    valid = random(1, count, height, width, seed=2) < (0.6 if masked else 2.0)
    contrast = [1.2, 0.7, 1.0][:levels]
    for radius in (0, 2):
        expected = fuse_by_definition(
            logits[0], exposures[0], levels, radius, 1e-4, contrast, shares, valid[0]
        )
        found = reference.multiscale_fuse(
            logits,
            exposures,
            levels,
            shares=torch.tensor([shares]),
            contrast=contrast,
            radius=radius,
            floor=1e-4,
            knee=None,
            valid=valid if masked else None,
        )
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-6)


def test_compression() -> None:
    x = torch.linspace(-1, 2, 3001, dtype=torch.float64).requires_grad_()
    y = compress_overshoot(x, (0.1, 0.2))
    (slope,) = torch.autograd.grad(y.sum(), x)
    x, y = x.detach(), y.detach()
    inside = (x >= 0.1) & (x <= 0.8)
    assert torch.equal(y[inside], x[inside])
    assert y.min() == pytest.approx(0, abs=1e-12) and y.max() == pytest.approx(1)
    assert (y.diff() >= -1e-12).all() and (slope >= -1e-12).all() and (slope <= 1).all()
    assert (y[x <= -0.1].abs() < 1e-12).all() and ((y[x >= 1.2] - 1).abs() < 1e-12).all()
    # Smooth: no step of the slope.
    assert slope.diff().abs().max() < 0.006
    assert torch.equal(compress_overshoot(x, None), x)


def test_equal_exposures_come_back() -> None:
    exposures = (255 * random(1, 1, 3, 37, 50)).round().to(torch.uint8).expand(-1, 3, -1, -1, -1)
    logits = random(1, 3, 10, 13)
    fused = functional.multiscale_fuse(logits, exposures, knee=None)
    # Levels in 16 bits hold 8-bit images to 1/514 of a level.
    assert torch.equal(fused, exposures[:, 0])


def test_order_of_the_frames_changes_nothing() -> None:
    exposures, logits = random(1, 4, 3, 20, 30), random(1, 4, 5, 8)
    order = [2, 0, 3, 1]
    fused = functional.multiscale_fuse(logits, exposures)
    found = functional.multiscale_fuse(logits[:, order], exposures[:, order])
    torch.testing.assert_close(found, fused, rtol=0, atol=1e-12)


def test_mirrored_exposures_give_the_mirrored_image() -> None:
    exposures, logits = random(1, 2, 3, 32, 48), random(1, 2, 8, 12)
    fused = functional.multiscale_fuse(logits, exposures)
    mirrored = functional.multiscale_fuse(logits.flip(-1, -2), exposures.flip(-1, -2))
    torch.testing.assert_close(mirrored, fused.flip(-1, -2), rtol=0, atol=1e-12)


def test_shares_of_nothing_but_zeros_are_ignored_where_nobody_can_read_them() -> None:
    exposures, logits = random(1, 2, 3, 8, 8), random(1, 2, 4, 4)
    fused = reference.multiscale_fuse(logits, exposures, 1, shares=torch.zeros(1, 2))
    torch.testing.assert_close(fused, reference.multiscale_fuse(logits, exposures, 1))


EXPOSURES, LOGITS = torch.rand(1, 2, 3, 20, 30), torch.rand(1, 2, 5, 8)
PYRAMID = functional.exposure_pyramid(EXPOSURES, 2)
VALID = torch.ones(1, 2, 20, 30, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((LOGITS, EXPOSURES[0]), {}, r"exposures must be \(B, K, C, H, W\)"),
        ((LOGITS, EXPOSURES.int()), {}, "exposures must be one of uint8, uint16"),
        ((LOGITS.int(), EXPOSURES), {}, "logits must be one of float16"),
        ((LOGITS[:, :1], EXPOSURES), {}, r"logits must be \(B, K, h, w\)"),
        (
            (torch.rand(1, 2, 5, 31), EXPOSURES),
            {},
            "must not be larger than the exposures, 20 x 30 pixels, got 5 x 31",
        ),
        ((LOGITS[..., :0], EXPOSURES), {}, r"not empty, got \(1, 2, 5, 0\)"),
        ((None, EXPOSURES), {"base": LOGITS[:, :1, :0].expand(-1, 3, -1, -1)}, "not empty"),
        ((None, EXPOSURES), {}, "one of logits and base must be given, got neither"),
        ((LOGITS, EXPOSURES), {"base": LOGITS}, "must be given, got both"),
        ((None, EXPOSURES), {"base": LOGITS}, r"base must be \(B, C, h, w\)"),
        ((LOGITS, EXPOSURES), {"shares": torch.ones(2)}, r"shares must be \(B, K\)"),
        ((LOGITS, EXPOSURES), {"shares": torch.zeros(1, 2)}, "one above 0"),
        ((LOGITS, EXPOSURES), {"shares": torch.tensor([[1.0, -1.0]])}, "at least 0"),
        ((LOGITS, EXPOSURES), {"shares": torch.tensor([[1.0, torch.inf]])}, "finite"),
        ((LOGITS, EXPOSURES), {"contrast": (1.0,)}, "one for each of 2 bands, got 1"),
        (
            (LOGITS, EXPOSURES),
            {"contrast": float("nan")},
            "contrast must be a finite number, got nan",
        ),
        ((LOGITS, EXPOSURES), {"contrast": "1"}, "contrast must be a finite number, got '1'"),
        ((LOGITS, EXPOSURES), {"radius": True}, "radius must be an integer .* got True"),
        ((LOGITS, EXPOSURES), {"knee": 0.1}, "knee must be .* got 0.1"),
        ((LOGITS, EXPOSURES), {"knee": ("a", 0.1)}, "knee must be .* got .'a', 0.1."),
        ((LOGITS, EXPOSURES), {"pyramid": [1]}, r"must come from exposure_pyramid, got \[1\]"),
        ((LOGITS, EXPOSURES), {"contrast": torch.ones(2)}, "contrast must have one element"),
        ((LOGITS, EXPOSURES), {"radius": -1}, "radius must be an integer of at least 0"),
        ((LOGITS, EXPOSURES), {"floor": 0.0}, "floor must be a finite number of at least 1e-12"),
        ((LOGITS, EXPOSURES), {"knee": (0.0, 0.1)}, "knee must be"),
        ((LOGITS, EXPOSURES), {"knee": (0.6, 0.6)}, "sum at most 1"),
        ((LOGITS, EXPOSURES), {"valid": VALID.float()}, "valid must be bool"),
        ((LOGITS, EXPOSURES), {"valid": VALID[..., 1:]}, "valid must be bool"),
        ((LOGITS, EXPOSURES), {"pyramid": PYRAMID._replace(inner=())}, "pyramid must hold levels"),
        ((LOGITS, EXPOSURES), {"pyramid": PYRAMID, "valid": VALID}, "the same valid"),
    ],
)
def test_errors(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        functional.multiscale_fuse(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [-1, 6, 1.0])
def test_levels_out_of_range(levels: Any) -> None:
    with pytest.raises(InputError, match="levels must be an integer from 0 to 5"):
        functional.exposure_pyramid(EXPOSURES, levels)
