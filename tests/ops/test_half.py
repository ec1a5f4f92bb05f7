"""Half precision in, float32 inside: maps in the input's dtype, scalars in float32."""

from __future__ import annotations

import pytest
import torch

from fastmef import functional


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scalar_losses_and_maps(dtype: torch.dtype) -> None:
    exposures = torch.rand(1, 2, 20, 21).to(dtype)
    fused = exposures.mean(dim=1).requires_grad_()
    loss = functional.weighted_ssim_loss(fused, exposures)
    exact = functional.weighted_ssim_loss(fused.detach().double(), exposures.double())
    assert loss.dtype == torch.float32
    assert abs(loss.double() - exact) < 1e-6
    loss.backward()
    assert fused.grad is not None and fused.grad.dtype == dtype
    assert functional.ssim(fused, exposures[:, 0]).dtype == torch.float32
    similarity = functional.ssim(fused, exposures[:, 0], reduction="none")
    assert similarity.dtype == functional.gamma_weights(exposures).dtype == dtype
