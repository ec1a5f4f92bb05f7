"""Build a network that may not be larger than expected, whatever its options ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fastmef.data.damage import Fault

_UNQUESTIONED = 1_000_000  # elements
_CREATORS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


class ElementBudget(TorchFunctionMode):
    """Raise a :class:`Fault` before tensors of together more elements are created.

    Counting while the network is built needs no second network. One on the meta device would
    show the same, but its initialisation loads PyTorch's decompositions, which takes 2 seconds.

    Args:
        elements: what is expected; twice as many and a million are allowed.
    """

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = 2 * elements + _UNQUESTIONED

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
