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


@pytest.fixture
def scene() -> Callable[..., Tensor]:
    return cases.scene


def _evaluate(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], dtype: torch.dtype
) -> list[Tensor]:
    """The value and its gradients w.r.t. every input, for one ``grad_output``, in float64."""
    fresh = [x.detach().to(dtype).requires_grad_() for x in inputs]
    value = function(*fresh)
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    gradients = torch.autograd.grad(value, fresh, weights)
    return [x.detach().double() for x in (value, *gradients)]


@pytest.fixture
def agree() -> Callable[..., None]:
    """Checks values and gradients of an op against the reference in float64.

    In float64 they differ by rounding. In float32 they are no further from float64 than the
    reference in float32 is, twice over, plus rounding: 1e-6 of the largest, and the noise (of the
    value, of gradients) that rounding leaves where terms cancel.
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
