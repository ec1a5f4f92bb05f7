"""The choice of CUDA C++ kernels, Triton or the reference for CUDA tensors, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastmef import backends
from fastmef.ops.common.operation import OPERATIONS, LaunchError, Operation, RefusedError, Support
from fastmef.ops.fusion import SOFTMAX_FUSE
from fastmef.ops.guided import GUIDED_UPSAMPLE_FUSE
from fastmef.ops.loss import FUSION_LOSS, WEIGHTED_SSIM_LOSS


@pytest.fixture(autouse=True)
def new_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both kinds of GPU kernels are available, on a GPU that runs both."""
    monkeypatch.setattr(backends, "WHY_NO_CUDA", "")
    monkeypatch.setattr(backends, "WHY_NO_TRITON", "")
    monkeypatch.setattr(backends, "FAILED", {})
    monkeypatch.setattr(backends, "capability", lambda gpu: (9, 0))
    with FakeTensorMode():
        yield


def fusion_inputs(count: int = 2, dtype: torch.dtype = torch.uint8) -> tuple[Any, Any]:
    logits = torch.empty(1, count, 4, 4, device="cuda")
    return logits, torch.empty(1, count, 3, 4, 4, device="cuda", dtype=dtype)


def test_fusion_and_guided() -> None:
    for count, dtype, expected in (
        (2, torch.uint8, backends.CUDA),
        (8, torch.bfloat16, backends.CUDA),
        (9, torch.uint8, backends.TRITON),
        (2, torch.float64, backends.REFERENCE),
    ):
        logits, exposures = fusion_inputs(count, dtype)
        assert SOFTMAX_FUSE.backend(logits, exposures) == expected
        assert GUIDED_UPSAMPLE_FUSE.backend(exposures, logits) == expected


def test_loss() -> None:
    for shape, scales, reduction, expected in (
        ((1, 2, 20, 20), (1.0,), "mean", backends.CUDA),
        ((1, 2, 20, 20), (1.0,), "none", backends.TRITON),
        ((1, 2, 20, 20), (1.0, 1.0), "mean", backends.TRITON),
        ((8, 2, 250, 250), (1.0, 0.5, 0.25), "mean", backends.CUDA),
        ((1, 2, 20, 10), (1.0,), "mean", backends.TRITON),
        ((1, 4, 20, 20), (1.0,), "mean", backends.TRITON),
    ):
        images = torch.empty(shape, device="cuda")
        limits = {"window": 11, "scales": scales, "reduction": reduction}
        assert FUSION_LOSS.backend(images, images, None, **limits) == expected
        fused = torch.empty(shape[:1] + shape[2:], device="cuda")
        assert WEIGHTED_SSIM_LOSS.backend(fused, images, None, **limits) == expected


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "WHY_NO_CUDA", "switched off by FASTMEF_CUDA=0")
    assert SOFTMAX_FUSE.backend(*fusion_inputs()) == backends.TRITON


def test_old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "capability", lambda gpu: (7, 5))
    assert SOFTMAX_FUSE.backend(*fusion_inputs()) == backends.TRITON
    monkeypatch.setattr(backends, "WHY_NO_TRITON", "no C compiler")
    assert SOFTMAX_FUSE.backend(*fusion_inputs()) == backends.REFERENCE


@pytest.fixture
def operation() -> Iterator[Operation]:
    """An operation of its own, with the kernels of both GPU backends."""
    every = Support((torch.float32,))
    yield Operation("tested", cuda=every, triton=every)
    del OPERATIONS["tested"]


def fails(*arguments: Any) -> Any:
    raise RuntimeError("no kernel image is available for execution")


def test_dispatch_reads_the_record(operation: Operation) -> None:
    """Below sm_80 without Triton, the choice and the dispatch must agree on CUDA."""
    images = torch.empty(2, device="cuda")
    kernels = {"cuda": lambda x: "cuda", "triton": lambda x: "triton"}
    run = operation.dispatcher("tested", kernels, lambda x: ((x,), {}))
    assert run(images) == operation.backend(images) == backends.CUDA
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "capability", lambda gpu: (7, 5))
        assert run(images) == operation.backend(images) == backends.TRITON
        patch.setattr(backends, "WHY_NO_TRITON", "no C compiler")
        assert operation.backend(images) == backends.REFERENCE
        with pytest.raises(LaunchError, match="no GPU kernel of tested"):
            run(images)


def test_failed_launch_falls_back(operation: Operation) -> None:
    images = torch.empty(2, device="cuda")
    kernels = {"cuda": fails, "triton": lambda x: "triton"}
    run = operation.dispatcher("tested", kernels, lambda x: ((x,), {}))
    with pytest.warns(RuntimeWarning, match="cuda kernels of tested failed .* no kernel image"):
        assert run(images) == "triton"
    assert operation.backend(images) == backends.TRITON
    assert "cuda failed: no kernel image" in backends._backends_of(operation)
    kernels["triton"] = fails
    with pytest.warns(RuntimeWarning, match="triton"), pytest.raises(LaunchError):
        run(images)
    assert operation.backend(images) == backends.REFERENCE


@pytest.mark.parametrize("error", [RefusedError("shapes"), torch.OutOfMemoryError("GPU memory")])
def test_refusals_and_memory_are_errors(operation: Operation, error: Exception) -> None:
    def refuses(x: Any) -> None:
        raise error

    kernels = {"cuda": refuses, "triton": lambda x: "triton"}
    with pytest.raises(type(error)):
        operation.dispatcher("tested", kernels, lambda x: ((x,), {}))(torch.empty(2, device="cuda"))
    assert not backends.FAILED
