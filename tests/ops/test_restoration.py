"""fuse_restored on every backend: the fused image with its colour given back, and the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from cases import INTEGERS, arrange, logits_for, stack
from conformance import Backend, Case, Conformance
from torch import Tensor

from fastmef import reference
from fastmef.ops.restoration import fuse_restored
from fastmef.reference.restoration import restore_color


def _inputs(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    exposures = stack(2, count, 3, height, width, dtype=torch.float64)
    return logits_for(exposures), exposures


def _by_reference(logits: Tensor, exposures: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    fused, weights = reference.softmax_fuse(logits, exposures)
    return restore_color(fused, weights, exposures, strength), weights


def _case(name: str, count: int, strength: float = 0.5, **options: Any) -> Case:
    return Case(
        name,
        partial(fuse_restored, strength=strength),
        partial(_by_reference, strength=strength),
        partial(_inputs, count),
        grads=(),
        noise=(1e-6, 0.0),  # two channels may reach the limit together, and luma cancels
        **options,
    )


class TestFuseRestored(Conformance):
    operation = "fuse_restored"
    layout_changes_no_bit = False  # vectors and single values use another exponential
    cases = (
        _case("two exposures", 2, thorough=True),
        _case("three exposures", 3, thorough=True),
        _case("one exposure", 1),
        _case("all of it", 2, 1.0),
    )

    @pytest.mark.parametrize("layout", ["planar", "channels_last"])
    def test_stored_types(self, backend: Backend, layout: str) -> None:
        """Integers keep their dtype and layout and are rounded once, to the nearest."""
        for dtype, highest in INTEGERS.items():
            exposures = arrange(stack(1, 2, 3, 6, 700, dtype=dtype), layout)
            logits = arrange(logits_for(exposures), "channels_last")
            given = logits.to(backend.device), exposures.to(backend.device)
            fused, weights = fuse_restored(*given, 0.7)
            exact, exact_weights = _by_reference(logits.double(), exposures.double() / highest, 0.7)
            assert fused.dtype == dtype and weights.dtype == logits.dtype
            assert fused.stride()[1] == (1 if layout == "channels_last" else 6 * 700)
            # Float32 may decide a tie differently.
            error = (fused.cpu().double() - highest * exact).abs().max()
            assert error <= 0.5 + 3e-6 * highest
            torch.testing.assert_close(weights.cpu().double(), exact_weights, rtol=0, atol=1e-6)

    def test_unwanted_weights_change_nothing(self, backend: Backend) -> None:
        logits, exposures = (x.float().to(backend.device) for x in _inputs(2, 6, 7))
        fused, weights = fuse_restored(logits, exposures, 0.5, want_weights=False)
        assert torch.equal(fused, fuse_restored(logits, exposures, 0.5)[0])
        assert weights.numel() in (0, logits.numel())

    def test_strength_zero_is_the_weighted_sum(self, backend: Backend) -> None:
        logits, exposures = _inputs(2, 6, 7)
        gray = exposures[:, :, :1]
        for images in (exposures, gray):
            given = logits.to(backend.device), images.to(backend.device)
            expected, _ = reference.softmax_fuse(logits, images)
            torch.testing.assert_close(fuse_restored(*given, 0.0)[0].cpu(), expected)

    def test_alike_exposures_stay(self, backend: Backend) -> None:
        """Exposures that are alike are returned unchanged, also where all are clipped."""
        for level in (0.0, 0.4, 1.0):
            images = torch.full((1, 2, 3, 4, 5), level, device=backend.device)
            images[:, :, 0] *= 0.5
            fused, _ = fuse_restored(torch.zeros_like(images[:, :, 0]), images, 1.0)
            torch.testing.assert_close(fused, images[:, 0])
