"""Images of more than 2**31 pixels."""

from __future__ import annotations

import pytest
import torch

from fastmef import functional


def test_softmax_fuse_beyond_31_bits() -> None:
    height, width = 46350, 46350
    if torch.cuda.mem_get_info()[0] < 14 * 2**30:
        pytest.skip("14 GiB of GPU memory needed")
    assert height * width > 2**31
    exposures = torch.zeros((1, 1, 1, height, width), dtype=torch.uint8, device="cuda")
    exposures[..., -1, -1] = 200
    exposures[..., 0, 0] = 100
    logits = torch.zeros((1, 1, height, width), dtype=torch.float16, device="cuda")
    fused = functional.softmax_fuse(logits, exposures)
    assert fused[0, 0, 0, 0] == 100 and fused[0, 0, -1, -1] == 200
    assert int(fused.count_nonzero()) == 2
