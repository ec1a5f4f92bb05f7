"""Tests of the CUDA C++ kernels on the CPU; see tests/support/emulation.py."""

from __future__ import annotations

from types import ModuleType

import pytest

from fastmef import backends
from fastmef.ops.common import cuda


@pytest.fixture
def emulated(emulation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Install the compiled module in place of the real CUDA module."""
    monkeypatch.setattr(backends, "CUDA_MODULE", emulation)
    monkeypatch.setattr(cuda, "device_and_stream", lambda operation, *tensors: (0, 0))
    return emulation
