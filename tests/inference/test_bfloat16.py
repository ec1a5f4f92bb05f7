"""The network in bfloat16: weights that differ by its rounding, a picture that looks the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef.inference import models
from fastmef.inference.fuse import fuse_with_weights
from tests.support.photographs import photographs, random_network


@pytest.fixture
def bfloat16(float32, monkeypatch):
    return lambda: monkeypatch.setattr(models, "has_bfloat16", lambda _device: True)


@pytest.mark.parametrize("size", [(40, 51), (301, 500)])
@pytest.mark.parametrize("refine", [0, 20])
def test_close_to_float32(bfloat16, size, refine):
    images, network = photographs(*size, 3), random_network("any")
    fused, weights = fuse_with_weights(images, network, device="cpu", refine=refine)
    bfloat16()
    ready, _ = models.ready_model(network, "cpu")
    assert next(ready.body.parameters()).dtype == torch.bfloat16
    again, rounded = fuse_with_weights(images, network, device="cpu", refine=refine)
    assert weights.dtype == rounded.dtype == np.float32
    assert not np.array_equal(rounded, weights)
    assert np.abs(rounded - weights).mean() < 0.01
    assert np.abs(again.astype(int) - fused).mean() < 0.5


def test_order_does_not_matter(bfloat16):
    bfloat16()
    images, network = photographs(60, 85, 5), random_network("any")
    fused, weights = fuse_with_weights(images, network, device="cpu")
    turned, moved = fuse_with_weights(images[::-1], network, device="cpu")
    assert np.array_equal(turned, fused)
    assert np.array_equal(moved, weights[::-1])


@pytest.mark.parametrize("level", [0, 255])
def test_an_empty_frame_changes_nothing(bfloat16, level):
    bfloat16()
    images, network = photographs(60, 85, 3), random_network("any")
    fused, _ = fuse_with_weights(images, network, device="cpu")
    again, _ = fuse_with_weights([*images, np.full_like(images[0], level)], network, device="cpu")
    assert np.array_equal(again, fused)


def test_a_network_for_two_stays_in_float32(bfloat16):
    bfloat16()
    ready, _ = models.ready_model(random_network(2), "cpu")
    assert {parameter.dtype for parameter in ready.parameters()} == {torch.float32}
