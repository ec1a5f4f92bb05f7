"""softmax_fuse on every backend: fused image and weights, gradients w.r.t. logits and exposures."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from cases import COLOR, EXPOSURES, INTEGERS, arrange, logits_for, stack
from conformance import Backend, Case, Conformance
from torch import Tensor

from fastmef import functional, reference


def _inputs(count: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    exposures = stack(2, count, channels, height, width, dtype=torch.float64)
    return logits_for(exposures), exposures


def _case(
    name: str, count: int = 2, channels: int = 3, thorough: bool = False, **options: Any
) -> Case:
    return Case(
        name,
        partial(functional.softmax_fuse, return_weights=True, **options),
        partial(reference.softmax_fuse, **options),
        partial(_inputs, count, channels),
        grads=(0, 1),
        thorough=thorough,
    )


# For test_compile.py.
COMPILED = {
    "softmax_fuse": (
        lambda x, images: functional.softmax_fuse(x, images, True, 0.5),
        (EXPOSURES, COLOR),
    ),
    "softmax_fuse-alone": (functional.softmax_fuse, (EXPOSURES, COLOR)),
}


class TestSoftmaxFuse(Conformance):
    operation = "softmax_fuse"
    layout_changes_no_bit = False  # vectors and single values use another exponential
    cases = (
        _case("two exposures", thorough=True),
        _case("three exposures", 3, thorough=True),
        _case("eight exposures", 8),
        _case("one exposure", 1),
        _case("one channel", 2, 1),
        _case("temperature", temperature=0.3),
    )

    def make_every_call(self, backend: Backend) -> None:
        super().make_every_call(backend)
        logits, exposures = (x.float().to(backend.device) for x in _inputs(2, 3, 6, 7))
        functional.softmax_fuse(
            logits.requires_grad_(), exposures, temperature=0.5, valid=exposures[:, :, 0] > 0.3
        ).sum().backward()

    def test_stored_types(self, backend: Backend) -> None:
        """Integers keep their dtype and layout and are rounded to the nearest."""
        for dtype, highest in INTEGERS.items():
            exposures = arrange(stack(1, 2, 3, 6, 7, dtype=dtype), "channels_last")
            logits = logits_for(exposures)
            on_device = logits.to(backend.device), exposures.to(backend.device)
            fused = functional.softmax_fuse(*on_device)
            exact, _ = reference.softmax_fuse(logits.double(), exposures.double())
            assert fused.dtype == dtype and fused.permute(0, 2, 3, 1).is_contiguous()
            # Float32 may decide a tie differently.
            error = (fused.cpu().double() - exact).abs().max()
            assert error <= 0.5 + 1e-6 * highest

    def test_validity(self, backend: Backend) -> None:
        """Invalid exposures have a weight of 0, unless no exposure of the pixel is valid."""
        logits, exposures = (x.float() for x in _inputs(3, 3, 6, 7))
        valid = logits > 0
        valid[0, :, 0, 0] = False
        given = logits.to(backend.device), exposures.to(backend.device)
        fused, weights = functional.softmax_fuse(
            *given, return_weights=True, valid=valid.to(backend.device)
        )
        exact, exact_weights = reference.softmax_fuse(logits, exposures, valid=valid)
        torch.testing.assert_close(fused.cpu(), exact)
        torch.testing.assert_close(weights.cpu(), exact_weights)
        assert not weights.cpu()[~valid & valid.any(dim=1, keepdim=True)].any()
