"""stored_luma on every backend: luma of stored exposures, in the middle of other memory."""

from __future__ import annotations

from functools import partial

import torch
from cases import INTEGERS, arrange, stack
from conformance import Backend, Case, Conformance
from torch import Tensor

from fastmef.ops.luma import stored_luma
from fastmef.reference.color import rgb_to_gray


def _inputs(count: int, height: int, width: int) -> tuple[Tensor]:
    return (stack(2, count, 3, height, width, dtype=torch.float64),)


def _filled(exposures: Tensor) -> Tensor:
    out = exposures.new_empty(exposures.shape[:2] + exposures.shape[3:])
    stored_luma(exposures, out)
    return out


class TestStoredLuma(Conformance):
    operation = "stored_luma"
    cases = tuple(
        Case(f"{count} exposures", _filled, rgb_to_gray, partial(_inputs, count), (), thorough=True)
        for count in (1, 2)
    )

    def test_stored_types(self, backend: Backend) -> None:
        """Into a frame, channels last, in another type; what lies around it stays."""
        for dtype, highest in INTEGERS.items():
            for layout in ("planar", "channels_last"):
                exposures = arrange(stack(1, 2, 3, 6, 1500, dtype=dtype), layout)
                frame = torch.full((1, 8, 1502, 2), -1.0, dtype=torch.bfloat16)
                frame = frame.to(backend.device).permute(0, 3, 1, 2)
                stored_luma(exposures.to(backend.device), frame[..., 1:-1, 1:-1])
                expected = rgb_to_gray(exposures.double() / highest)
                found = frame[..., 1:-1, 1:-1].cpu().double()
                assert (found - expected).abs().max() <= 2**-9 + 1e-6
                assert (frame == -1).sum() == 2 * 2 * (1502 + 6)
