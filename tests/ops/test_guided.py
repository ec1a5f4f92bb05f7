"""guided_upsample_fuse on every backend: fused image, gradients w.r.t. logits and exposures."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from cases import COLOR, INTEGERS, arrange, logits_for, stack, uniform
from conformance import Backend, Case, Conformance
from torch import Tensor

from fastmef import backends, functional
from fastmef.reference import guided as reference


def _inputs(count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    exposures = stack(2, count, 3, height, width, dtype=torch.float64)
    return logits_for(exposures[..., ::2, ::3]), exposures


def _bright_flat(height: int, width: int) -> tuple[Tensor, Tensor]:
    logits, exposures = _inputs(2, height, width)
    return logits + 20, 0.9 + 1e-3 * exposures


def _case(name: str, inputs: Any, thorough: bool = False, **options: Any) -> Case:
    return Case(
        name,
        partial(functional.guided_upsample_fuse, **options),
        partial(reference.guided_upsample_fuse, **options),
        inputs,
        grads=(0, 1),
        # The sum a g + b is rounded relative to a g, and the result changes by this much.
        noise=(5e-6, 1e-5),
        roundings=3,  # the guide's gradient, the sum's gradient, and their sum
        thorough=thorough,
        record_tensors=lambda logits, exposures: (exposures, logits),
    )


# For test_compile.py.
COMPILED = {
    "guided_upsample_fuse": (functional.guided_upsample_fuse, (uniform(2, 2, 6, 7), COLOR)),
}


class TestGuidedUpsampleFuse(Conformance):
    operation = "guided_upsample_fuse"
    layout_changes_no_bit = False  # means of the logits are sums in the order of memory
    cases = (
        _case("two exposures", partial(_inputs, 2), thorough=True),
        _case("three exposures", partial(_inputs, 3)),
        _case("five exposures", partial(_inputs, 5), thorough=not backends.INTERPRETED),
        _case("one exposure", partial(_inputs, 1)),
        _case("bright and flat", _bright_flat),
        _case("radius and eps", partial(_inputs, 2), radius=1, eps=1e-2),
    )

    def test_gray_is_fused_like_equal_channels(self, backend: Backend) -> None:
        for dtype in (*INTEGERS, torch.float32):
            gray = arrange(stack(2, 3, 6, 7, dtype=dtype), "transposed").to(backend.device)
            logits = logits_for(gray.cpu().unsqueeze(2)[..., ::2, ::3]).to(backend.device)
            rgb = gray.unsqueeze(2).repeat(1, 1, 3, 1, 1)
            expected = functional.guided_upsample_fuse(logits, rgb)
            found = functional.guided_upsample_fuse(logits, gray)
            with_axis = functional.guided_upsample_fuse(logits, gray.unsqueeze(2))
            assert torch.equal(found, expected[:, 0]) and torch.equal(with_axis[:, 0], found)
            assert found.dtype == dtype and with_axis.is_contiguous()

    def test_gradient_of_gray(self, backend: Backend) -> None:
        gray = stack(2, 2, 1, 6, 7, dtype=torch.float32).to(backend.device)
        logits = logits_for(gray.cpu()[..., ::2, ::3]).to(backend.device)
        results = []
        for channels in (1, 3):
            x = gray.clone().requires_grad_()
            images = x.expand(-1, -1, channels, -1, -1).clone()
            functional.guided_upsample_fuse(logits, images)[:, 0].square().sum().backward()
            results.append(x.grad)
        torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)

    def test_stored_types(self, backend: Backend) -> None:
        """Integers keep their dtype and layout and are rounded to the nearest."""
        for dtype, highest in INTEGERS.items():
            exposures = arrange(stack(1, 2, 3, 6, 7, dtype=dtype), "channels_last")
            logits = logits_for(exposures[..., ::2, ::3])
            on_device = logits.to(backend.device), exposures.to(backend.device)
            fused = functional.guided_upsample_fuse(*on_device)
            exact = reference.guided_upsample_fuse(logits.double(), exposures.double() / highest)
            assert fused.dtype == dtype and fused.permute(0, 2, 3, 1).is_contiguous()
            # Float32 may decide a tie differently.
            error = (fused.cpu().double() - highest * exact).abs().max()
            assert error <= 0.5 + 1e-5 * highest
