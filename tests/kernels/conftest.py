"""Tests of the Triton kernels: on a GPU if there is one, otherwise in Triton's interpreter.

The interpreter must be selected before the kernels are imported, so it runs in a process of its
own: ``TRITON_INTERPRET=1 pytest tests/kernels``, which tests/test_interpreter.py starts. It is
slow: use images of a few hundred pixels. Tests create their tensors on ``device``, so the same
tests run on a GPU and in the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastmef import backends

HERE = backends.INTERPRETED or torch.cuda.is_available()
collect_ignore_glob = [] if HERE and not backends.WHY_NO_TRITON else ["test_*.py"]


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if backends.INTERPRETED else "cuda")


@pytest.fixture
def far(tmp_path: Path, device: torch.device) -> Callable[[Tensor, int], Tensor]:
    """Return a function that copies ``x`` into memory with a large stride along ``axis``.

    The last element along the axis has an offset of more than 2**31 from the first. The axis must
    have three or more elements, so that the stride itself fits into 32 bits. Without a GPU, the
    memory is a sparse file, of which only a few pages are touched.
    """

    def far_apart(x: Tensor, axis: int) -> Tensor:
        x = x.contiguous()
        strides = list(x.stride())
        strides[axis] = 2**31 // (x.shape[axis] - 1) + 64
        size = 1 + sum((n - 1) * stride for n, stride in zip(x.shape, strides, strict=True))
        if device.type == "cpu":
            name = str(tmp_path / f"sparse{len(list(tmp_path.iterdir()))}")
            memory = torch.from_file(name, shared=True, size=size, dtype=x.dtype)
        else:
            if torch.cuda.mem_get_info(device)[0] < 1.1 * size * x.element_size():
                pytest.skip(f"{size * x.element_size() / 2**30:.0f} GiB of GPU memory needed")
            memory = torch.empty(size, dtype=x.dtype, device=device)
        result = memory.as_strided(x.shape, strides)
        return result.copy_(x)

    return far_apart
