"""Which CUDA tensors the CUDA C++ kernels get, and which are left to Triton. No GPU is needed."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastmef import backends
from fastmef.ops import fusion, guided, loss


@pytest.fixture(autouse=True)
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "WHY_NO_CUDA", "")
    monkeypatch.setattr(backends, "WHY_NO_TRITON", "")
    monkeypatch.setattr(fusion._cuda, "has_kernels", lambda index: True)


def test_fusion_and_guided() -> None:
    with FakeTensorMode():
        for count, dtype, expected in (
            (2, torch.uint8, backends.CUDA),
            (8, torch.bfloat16, backends.CUDA),
            (9, torch.uint8, backends.TRITON),
            (2, torch.float64, backends.REFERENCE),
        ):
            logits = torch.empty(1, count, 4, 4, device="cuda")
            exposures = torch.empty(1, count, 3, 4, 4, device="cuda", dtype=dtype)
            assert fusion._backend(logits, exposures) == expected
            assert fusion._fuse_fits(logits, exposures, True) == (expected == backends.CUDA)
            assert guided._backend(exposures, logits) == expected


def test_loss() -> None:
    with FakeTensorMode():
        options = ("variance", False, 11, 1.5, 0.01, 0.03, 1e-4, 1e-12)
        for shape, scales, expected in (
            ((1, 2, 20, 20), (1.0,), True),
            ((1, 2, 20, 20), (1.0, 1.0), False),
            ((1, 2, 20, 10), (1.0,), False),
            ((1, 4, 20, 20), (1.0,), False),
        ):
            images = torch.empty(shape, device="cuda")
            assert loss._loss_fits(images, images, None, *options, scales, True) == expected
            fused = torch.empty(shape[:1] + shape[2:], device="cuda")
            assert loss._loss_fits(fused, images, None, *options, scales, True) == expected


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "WHY_NO_CUDA", "switched off by FASTMEF_CUDA=0")
    with FakeTensorMode():
        logits = torch.empty(1, 2, 4, 4, device="cuda")
        exposures = torch.empty(1, 2, 3, 4, 4, device="cuda")
        assert fusion._backend(logits, exposures) == backends.TRITON
