"""Find without a GPU what a CUDA graph cannot capture: "meta" tensors stand for those on one.

Such tensors hold no values, so all that reads one fails. :class:`Capturable` also refuses what
would go unnoticed: copies between host and device, operations without kernels, and memory whose
size depends on values. It keeps a list of operations and of the memory that each takes: two steps
that agree in it can be the same graph.
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

# These take numbers from the host, or give them to it.
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
# Meta tensors have no kernel of it: it changes its arguments in place.
OPTIMIZER = torch.ops.aten._fused_adamw_.tensor_lr


class NotCapturable(AssertionError):
    """The step does what no CUDA graph holds."""


class _Functions(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in HOST:
            raise NotCapturable(f"{name} goes through the host")
        return function(*args, **(kwargs or {}))


class Capturable(TorchDispatchMode):
    """Refuses operations, and lists the others in ``steps``."""

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
    """Refuse what a CUDA graph cannot hold, in calls from Python and in operations below."""
    with _Functions(), Capturable() as mode:
        yield mode
