from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from fastmef import backends


@pytest.fixture
def kernels() -> ModuleType:
    """The compiled module; tests of it are skipped where it was not built."""
    module = backends.CPU
    if module is None:
        pytest.skip(f"C++ kernels: {backends.cpu_status()}")
    return module


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def isa(request: pytest.FixtureRequest, kernels: ModuleType) -> Iterator[str]:
    """Runs the test once for every instruction set of this processor."""
    before = kernels.active_isa()
    if not kernels.use_isa(request.param):
        pytest.skip(f"this processor or build has no {request.param} variant")
    yield request.param
    kernels.use_isa(before)
