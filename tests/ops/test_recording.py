"""Under torch.no_grad() nothing is computed for gradients, whether or not a tensor requires one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import scene
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastmef import backends, functional


class Calls(TorchDispatchMode):
    """Return the operations that are called, with their options."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten.detach.default:
            self.made.append((func, [x for x in args if not isinstance(x, (Tensor, list))]))
        return func(*args, **(kwargs or {}))


def calls(function: Callable[..., Any], *inputs: Tensor) -> list[Any]:
    with torch.no_grad(), Calls() as found:
        function(*inputs)
    return found.made


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "weighted_ssim_loss": functional.weighted_ssim_loss,
    "weighted_ssim_loss, map": lambda f, x: functional.weighted_ssim_loss(f, x, reduction="none"),
    "fusion_loss": lambda f, x: functional.fusion_loss(torch.stack([f, 1 - f], dim=1), x),
    "ssim": lambda f, x: functional.ssim(f, x[:, 0]),
    "ma2015": lambda f, x: functional.mef_ssim(f, x),
    "mefnet": lambda f, x: functional.mef_ssim(f, x, "mefnet"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kernels", [True, False])
def test_no_grad(operation: str, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels:
        monkeypatch.setattr(backends, "CPU", None)
    exposures = scene(1, 2, 32, 32).float()
    fused = exposures.mean(dim=1)
    function = OPERATIONS[operation]
    expected = calls(function, fused, exposures)
    assert calls(function, fused.clone().requires_grad_(), exposures) == expected
    assert calls(function, fused, exposures.clone().requires_grad_()) == expected
