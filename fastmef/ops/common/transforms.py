"""Run kernels under transforms of ``torch.func``.

``grad`` and ``vmap`` in any order run the kernels, as long as nothing is differentiated twice;
second derivatives fall back to plain PyTorch. A batched call is one call for each sample, and its
results are bit-identical to those calls.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef import backends

_functorch: Any = torch._C._functorch
_PRE_DISPATCH = torch._C.DispatchKey.PreDispatch


def _gradient_levels(tensor: Tensor) -> set[int]:
    """Return the transform levels that differentiate w.r.t. the tensor; 0 is plain autograd."""
    levels = set()
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if tensor.requires_grad:
            levels.add(_functorch.maybe_get_level(tensor))
        tensor = _functorch.get_unwrapped(tensor)
    return levels | {0} if tensor.requires_grad and torch.is_grad_enabled() else levels


def requires_grad(tensor: Tensor) -> bool:
    """Return whether autograd or an active transform records a gradient w.r.t. the tensor."""
    if not backends.transforms_active():
        return tensor.requires_grad
    return bool(_gradient_levels(tensor))


# Types whose values only a kernel looks at. Subclasses of tensors are none of them.
TENSORS = (Tensor, torch.nn.Parameter)
_PLAIN = frozenset((*TENSORS, type(None), bool, int, float, str, tuple, list))


def nothing_watches() -> bool:
    """Return whether no compiler, transform, mode, tracer or profiler is active.

    They see the calls of registered operations.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._dispatch_tls_is_dispatch_key_included(_PRE_DISPATCH)
        or torch._C._is_tracing()
        or torch.autograd._profiler_enabled()
    )


def called_eagerly(arguments: Sequence[Any]) -> bool:
    """Return whether nothing but a kernel has to see a call with these arguments.

    Subclasses of tensors see the calls of registered operations, too. PyTorch's dispatcher negates
    tensors whose memory holds the negative values.
    """
    if not nothing_watches():
        return False
    for x in arguments:
        kind = type(x)
        if kind not in _PLAIN or (kind in TENSORS and x.is_neg()):
            return False
    return True


def kernels_suffice(tensors: list[Tensor]) -> bool:
    """Return whether the active transforms need only batches and first derivatives."""
    transforms = {x.key() for x in _functorch.get_interpreter_stack() or ()}
    allowed = {_functorch.TransformType.Grad, _functorch.TransformType.Vmap}
    return transforms <= allowed and len(set().union(*map(_gradient_levels, tensors))) <= 1


def call_each(
    function: Callable[..., Any], info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[Any, Any]:
    """Implement the rule for ``vmap``: call ``function`` for each sample of a batch."""
    results = [
        function(
            *(
                x.select(dim, sample) if isinstance(x, Tensor) and dim is not None else x
                for x, dim in zip(arguments, in_dims, strict=True)
            )
        )
        for sample in range(info.batch_size)
    ]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    stacked = tuple(torch.stack(outputs) for outputs in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


class Function(torch.autograd.Function):
    """An ``autograd.Function`` with ``setup_context`` that ``vmap`` calls for each sample."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # PyTorch reads the signature in every call; computing it takes a fifth of the host time.
        forward: Any = cls.forward
        forward.__signature__ = inspect.signature(forward)

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        """Call the function. Outside of transforms its arguments are not bound to names."""
        if backends.transforms_active():
            return super().apply(*arguments)
        return super(torch.autograd.Function, cls).apply(*arguments)  # type: ignore[misc]

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return call_each(cls.apply, info, in_dims, *arguments)


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a backward pass as not differentiable; unlike PyTorch's decorator, allow transforms.

    If no output has a gradient, the backward pass is skipped.
    """
    marked = torch.autograd.function.once_differentiable(backward)

    @functools.wraps(backward)
    def run(ctx: Any, *grad_outputs: Any) -> Any:
        # An iteration takes longer than the first test.
        if grad_outputs[0] is None and all(x is None for x in grad_outputs):
            return (None,) * len(ctx.needs_input_grad)
        if not torch.is_grad_enabled():
            return backward(ctx, *grad_outputs)
        if not backends.transforms_active():
            return marked(ctx, *grad_outputs)
        with torch.no_grad():
            return backward(ctx, *grad_outputs)

    return run
