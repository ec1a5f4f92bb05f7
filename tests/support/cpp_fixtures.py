"""Fixtures of the tests of the C++ kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import cases
import pytest
import torch
from torch import Tensor

from fastmef import backends


@pytest.fixture
def kernels() -> ModuleType:
    """Return the compiled module; skip the test if it was not built."""
    module = backends.CPU
    if module is None:
        pytest.skip(f"C++ kernels: {backends.cpu_status()}")
    return module


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def isa(request: pytest.FixtureRequest, kernels: ModuleType) -> Iterator[str]:
    """Run the test once with every instruction set of this processor."""
    before = kernels.active_isa()
    if not kernels.use_isa(request.param):
        pytest.skip(f"this processor or build has no {request.param} variant")
    yield request.param
    kernels.use_isa(before)


@pytest.fixture
def scene() -> Callable[..., Tensor]:
    return cases.scene


def _evaluate(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], dtype: torch.dtype
) -> list[Tensor]:
    """Return value and gradients w.r.t. all inputs as float64, for a fixed ``grad_output``."""
    fresh = [x.detach().to(dtype).requires_grad_() for x in inputs]
    value = function(*fresh)
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    gradients = torch.autograd.grad(value, fresh, weights)
    return [x.detach().double() for x in (value, *gradients)]


@pytest.fixture
def agree() -> Callable[..., None]:
    """Return a function that compares values and gradients with the reference in float64.

    In float64 only rounding may differ. In float32 the error may be twice that of the reference in
    float32, plus rounding: 1e-6 of the largest value, and ``noise`` (of the value, of gradients)
    that rounding leaves if terms cancel.
    """

    def check(
        function: Callable[..., Tensor],
        reference: Callable[..., Tensor],
        *inputs: Tensor,
        noise: tuple[float, float] = (1e-8, 5e-8),
    ) -> None:
        inputs = tuple(x.float().double() for x in inputs)
        exact = _evaluate(reference, inputs, torch.float64)
        double = _evaluate(function, inputs, torch.float64)
        single = _evaluate(reference, inputs, torch.float32)
        ours = _evaluate(function, inputs, torch.float32)
        for index, (e, d, s, o) in enumerate(zip(exact, double, single, ours, strict=True)):
            assert d.shape == o.shape == e.shape
            largest, extra = float(e.abs().max()), noise[min(index, 1)]
            errors = [float((x - e).abs().max()) for x in (d, s, o)]
            assert errors[0] <= 1e-12 * largest + 1e-5 * extra
            assert errors[2] <= 2 * errors[1] + 1e-6 * largest + extra

    return check
