"""Find operations that a CUDA graph cannot capture, without a GPU: "meta" tensors replace its own.

Meta tensors hold no values, so reading a value fails. :class:`Capturable` also refuses operations
that would go unnoticed: copies between host and device, operations without kernels, and memory
whose size depends on values. It lists the operations and the memory that each allocates; steps with
the same list can be the same graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# These functions read numbers from the host or return numbers to it.
HOST = (
    "tensor",
    "as_tensor",
    "asarray",
    "new_tensor",
    "from_numpy",
    "numpy",
    "tolist",
    "item",
    "cpu",
)
VARYING = ("nonzero", "masked_select", "unique", "_local_scalar_dense", "is_nonzero", "bincount")
NAMESPACES = ("aten", "fastmef", "prims", "profiler")
# This operation has no kernel for meta tensors; it changes its arguments in place.
OPTIMIZER = torch.ops.aten._fused_adamw_.tensor_lr


class NotCapturable(AssertionError):
    """The step contains an operation that a CUDA graph cannot capture."""


class _Functions(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in HOST:
            raise NotCapturable(f"{name} goes through the host")
        return function(*args, **(kwargs or {}))


class Capturable(TorchDispatchMode):
    """Refuse operations that cannot be captured, and list the others in ``steps``."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function.overloadpacket)
        if function.namespace not in NAMESPACES:
            raise NotCapturable(f"{name} is none of PyTorch's or fastmef's operations")
        if name.split(".")[-1] in VARYING:
            raise NotCapturable(f"{name} depends on values")
        given = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        results = None if function is OPTIMIZER else function(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(results) if isinstance(x, Tensor)]
        devices = {x.device.type for x in (*given, *made)}
        if devices - {"meta"}:
            raise NotCapturable(f"{name} uses tensors on {', '.join(sorted(devices))}")
        self.steps.append((name, tuple((x.shape, x.stride(), x.dtype) for x in made)))
        return results


@contextlib.contextmanager
def capturable() -> Iterator[Capturable]:
    """Refuse what a CUDA graph cannot capture, in Python functions and in dispatched operations."""
    with _Functions(), Capturable() as mode:
        yield mode
