"""Limit the size of a network while it is built from options that are not trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fastmef.data.damage import Fault

_ALWAYS_ALLOWED = 1_000_000  # elements
_CREATORS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


class ElementBudget(TorchFunctionMode):
    """Raise a :class:`Fault` before the tensors created exceed a number of elements in total.

    Counting while the network is built needs no second network. A network on the meta device would
    show the same, but its initialisation loads PyTorch's decompositions, which takes 2 seconds.

    Args:
        elements: the number of elements that is expected; twice as many plus a million are allowed.
    """

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = 2 * elements + _ALWAYS_ALLOWED

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in _CREATORS:
            size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
            self.left -= math.prod(size)
            if self.left < 0:
                raise Fault("declares a network larger than its weights")
        return function(*args, **kwargs)
