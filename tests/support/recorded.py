"""Record calls of registered operations, as their autograd functions make them, and check them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


class RegisteredCalls(TorchDispatchMode):
    """Record one call for each kind of arguments: dtypes, layouts and options."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, tuple[Any, tuple[Any, ...]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "fastmef":
            copies = tuple(x.clone() if isinstance(x, Tensor) else x for x in args)
            self.made.setdefault((func, tuple(map(_kind, args))), (func, copies))
        return func(*args, **(kwargs or {}))

    @property
    def names(self) -> set[str]:
        return {func.name().split("::")[1] for func, _ in self.made.values()}


def _kind(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.dtype, argument.ndim, argument.is_contiguous()
    return argument if isinstance(argument, (bool, str)) else type(argument)


def opcheck(calls: RegisteredCalls, thoroughly: bool) -> None:
    """Run ``torch.library.opcheck`` on the recorded calls, with all or only its basic tests."""
    some = ("test_schema", "test_faketensor")
    for func, arguments in calls.made.values():
        options = {} if thoroughly else {"test_utils": some}
        torch.library.opcheck(func, arguments, **options)


def described(x: Tensor) -> tuple[Any, ...]:
    """Return shape, dtype and the strides of the axes that have several elements."""
    strides = tuple(s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1)
    return tuple(x.shape), x.dtype, strides


def check_fakes_on_a_gpu(calls: RegisteredCalls) -> None:
    """Check that fakes on a GPU have shapes, dtypes and strides of real results, and its device."""
    for func, arguments in calls.made.values():
        real = func(*arguments)
        with FakeTensorMode():
            fake = func(*(_on_gpu(x) if isinstance(x, Tensor) else x for x in arguments))
        if real is None:  # it changes its arguments
            assert fake is None
            continue
        pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (real, fake)), strict=True)
        for computed, announced in pairs:
            assert described(announced) == described(computed)
            assert str(announced.device) == "cuda:1"


def _on_gpu(x: Tensor) -> Tensor:
    """Return a fake GPU tensor with the shape, strides and dtype of ``x``."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda:1")
