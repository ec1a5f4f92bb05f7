"""Powers and tangents of the C++ kernels against libm, by the gains of single windows."""

from __future__ import annotations

import math

import pytest
import torch

from fastmef import ops

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
def test_powers_and_tangents_equal_libm(dtype: torch.dtype, accuracy: float, isa: str) -> None:
    # One window a pair of exposures, of known norms and angle between them.
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn((2, 121), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr((patterns - patterns.mean(dim=1, keepdim=True)).T)[0]
    norms = 10 ** (4 * torch.rand((400, 2), generator=generator, dtype=torch.float64) - 1)
    angle = torch.linspace(0.05, 3.1, 400, dtype=torch.float64)
    second = norms[:, 1:] * torch.stack((angle.cos(), angle.sin()), dim=1) @ basis.T
    exposures = torch.stack((norms[:, :1] * basis[:, 0], second), dim=1).reshape(400, 2, 11, 11)
    gains = ops.mef_ssim.ma2015_level(exposures.to(dtype)).gains[:, :, 0, 0]
    for (a, b), (gain_a, gain_b), t in zip(
        norms.tolist(), gains.tolist(), angle.tolist(), strict=True
    ):
        agreement = math.sqrt(a * a + b * b + 2 * a * b * math.cos(t)) / (a + b)
        exponent = min(math.tan(math.pi / 2 * min(agreement, 0.99)), 10)
        e = (a + 0.001, b + 0.001)
        weights = [(x / 11) ** exponent + 2.0**-52 for x in e]
        ratio = weights[0] / weights[1] * e[1] / e[0]
        assert gain_a / gain_b == pytest.approx(ratio, rel=accuracy)
