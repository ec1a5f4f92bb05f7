"""softmax_fuse at a temperature and without some exposures: C++ against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from cases import INTEGERS, arrange, logits_for, stack
from torch import Tensor

from fastmef import ops, reference

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _valid(exposures: Tensor, layout: str) -> Tensor:
    """Return a mask with pixels of all, a few and no valid exposures."""
    shape = exposures.shape[:2] + exposures.shape[3:]
    flags = torch.rand(shape, generator=torch.Generator().manual_seed(7)) < 0.5
    return arrange(flags, "transposed" if layout == "strided" else "planar")


def _error(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).abs().max())


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_values(isa: str, dtype: torch.dtype, layout: str, count: int) -> None:
    exposures = arrange(stack(2, count, 3, 3, 530, dtype=dtype), layout)
    logits, valid = logits_for(exposures), _valid(exposures, layout)
    for temperature, flags in ((0.3, None), (2.5, None), (1.0, valid), (0.3, valid)):
        ours = ops.fusion.softmax_fuse(logits, exposures, True, temperature, flags)
        exact = reference.softmax_fuse(logits.double(), exposures.double(), temperature, flags)
        float32 = reference.softmax_fuse(logits.float(), exposures.float(), temperature, flags)
        for x, e, single in zip(ours, exact, float32, strict=True):
            rounding = 0.5 if x.dtype in INTEGERS else 0.51 * torch.finfo(x.dtype).eps
            arithmetic = 0 if dtype == torch.float64 else _error(single, e)
            unit = 2**-53 if dtype == torch.float64 else 2**-24
            scale = max(1.0, float(e.abs().max()))
            assert _error(x, e) <= 2 * arithmetic + rounding + 16 * unit * scale
        if flags is not None:
            assert not ours[1][~flags & flags.any(1, keepdim=True)].any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", ["planar", "channels_last", "strided"])
@pytest.mark.parametrize("count", [2, 3])
def test_gradients(isa: str, dtype: torch.dtype, layout: str, count: int) -> None:
    base = stack(2, count, 3, 9, 40, dtype=dtype)
    grad_output = (
        stack(2, 3, 9, 40, dtype=dtype, seed=5),
        stack(2, count, 9, 40, dtype=dtype, seed=6),
    )
    valid = _valid(base, layout)
    for options in ((0.3, None), (1.0, valid), (2.5, valid)):
        results = []
        for run, to in (
            (reference.softmax_fuse, torch.float64),
            (ops.fusion.softmax_fuse, dtype),
        ):
            exposures = arrange(base.to(to), layout).detach().requires_grad_()
            logits = logits_for(base).to(to).requires_grad_()
            outputs = run(logits, exposures, temperature=options[0], valid=options[1])
            torch.autograd.backward(outputs, [x.to(to) for x in grad_output])
            results.append((logits.grad, exposures.grad))
        for exact, ours in zip(*results, strict=True):
            assert ours is not None and exact is not None
            budget = 6 * torch.finfo(dtype).eps * (1 + float(exact.abs().max()))
            assert _error(ours, exact) <= budget
