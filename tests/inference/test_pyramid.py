"""Laplacian blending against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from fastmef.inference.pyramid import pyramid_blend
from fastmef.reference.pyramid import expand, reduce

SIZES = [(1, 1), (1, 9), (2, 2), (3, 5), (17, 33), (64, 64), (250, 251)]


def stack(height, width, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    exposures = torch.rand(1, count, 3, height, width, generator=generator, dtype=torch.float64)
    weights = torch.rand(1, count, height, width, generator=generator, dtype=torch.float64)
    return weights / weights.sum(1, keepdim=True), exposures


def dense_reduce(size):
    """The matrix of the binomial mean around the middle of every pair, written out tap by tap."""
    matrix = torch.zeros((size + 1) // 2, size, dtype=torch.float64)
    for row in range(matrix.shape[0]):
        for offset, tap in zip(range(-1, 3), (1, 3, 3, 1), strict=True):
            matrix[row, min(max(2 * row + offset, 0), size - 1)] += tap / 8
    return matrix


def dense_expand(size):
    """Each pixel lies a quarter of a coarse pixel away from the middle of its own."""
    count = (size + 1) // 2
    matrix = torch.zeros(size, count, dtype=torch.float64)
    for row in range(size):
        neighbour = row // 2 + (1 if row % 2 else -1)
        matrix[row, row // 2] += 0.75
        matrix[row, min(max(neighbour, 0), count - 1)] += 0.25
    return matrix


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_levels_by_their_matrices(height, width):
    image = stack(height, width)[1][:, 0]
    rows, columns = dense_reduce(height), dense_reduce(width)
    coarse = reduce(image)
    torch.testing.assert_close(coarse, rows @ image @ columns.mT)
    expected = dense_expand(height) @ coarse @ dense_expand(width).mT
    torch.testing.assert_close(expand(coarse, (height, width)), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("count", [2, 3])
def test_by_definition(height, width, count):
    weights, exposures = stack(height, width, count)
    blended = torch.zeros(())
    for k in range(count):
        gauss, weight = exposures[:, k], weights[:, k : k + 1]
        total, levels = torch.zeros(()), []
        for _ in range(int(math.log2(min(height, width)))):
            coarse = reduce(gauss)
            levels.append((weight * (gauss - expand(coarse, gauss.shape[-2:])), gauss.shape[-2:]))
            gauss, weight = coarse, reduce(weight)
        total = weight * gauss
        for band, size in reversed(levels):
            total = band + expand(total, size)
        blended = blended + total
    torch.testing.assert_close(pyramid_blend(weights, exposures), blended.clamp(0, 1))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equal_exposures_come_back(height, width):
    weights, exposures = stack(height, width)
    exposures = exposures[:, :1].expand(-1, 2, -1, -1, -1)
    torch.testing.assert_close(pyramid_blend(weights, exposures), exposures[:, 0])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_constant_weights_are_the_weighted_sum(height, width):
    _, exposures = stack(height, width)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64).reshape(1, 2, 1, 1)
    weights = weights.expand(1, 2, height, width)
    expected = (weights.unsqueeze(2) * exposures).sum(1)
    torch.testing.assert_close(pyramid_blend(weights, exposures), expected)


def test_mirrored_images_give_mirrored_results():
    weights, exposures = stack(64, 128)
    expected = pyramid_blend(weights, exposures).flip(-1, -2)
    torch.testing.assert_close(
        pyramid_blend(weights.flip(-1, -2), exposures.flip(-1, -2)), expected
    )


def test_a_seam_of_the_weights_is_not_one_of_the_result():
    """Flat exposures have no detail at any scale: jumping weights cannot put any there."""
    exposures = torch.tensor([0.2, 0.8]).reshape(1, 2, 1, 1, 1).expand(1, 2, 3, 64, 64)
    weights = torch.zeros(1, 2, 64, 64)
    weights[:, 0, :, :32] = 1
    weights[:, 1, :, 32:] = 1
    torch.testing.assert_close(pyramid_blend(weights, exposures), torch.full((1, 3, 64, 64), 0.5))


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_clamped(background):
    """A spot of one exposure on the flat background of the other overshoots: its contrast adds."""
    exposures = torch.full((1, 2, 3, 32, 32), background)
    exposures[:, 1] = 1 - background
    exposures[:, 1, :, 16, 16] = background
    weights = torch.zeros(1, 2, 32, 32)
    weights[:, 1, 16, 16] = 1
    weights[:, 0] = 1 - weights[:, 1]
    blended = pyramid_blend(weights, exposures)
    assert blended.min() >= 0
    assert blended.max() <= 1
    assert (blended[..., 16, 16] == background).all()
