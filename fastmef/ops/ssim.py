"""ssim: the mean, whose gradients are computed with the value, and the map.

Images are flattened to ``(N, H, W)`` for the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef import backends, reference
from fastmef.ops.common.autograd import (
    detach_if_no_grad,
    gradient_in_forward,
    recompute,
    reference_gradients,
)
from fastmef.ops.common.operation import (
    FLOATS,
    GPU_FLOATS,
    LaunchError,
    Operation,
    Support,
    options_schema,
    triton_launcher,
)
from fastmef.ops.common.rings import WINDOW, rings_fit
from fastmef.ops.common.tensors import (
    BORDERS,
    axis_taps,
    flatten_planes,
    gradient_like,
    gray_stack,
    map_like,
    map_shape,
    require,
    scalar_dtype,
    window_taps,
)
from fastmef.ops.common.transforms import Function, once_differentiable, requires_grad


def _fits(*tensors: Any, window: int = WINDOW) -> bool:
    return rings_fit(tensors[0], window, maps=4)


SSIM = Operation("ssim", in_transforms=True, cpp=Support(FLOATS), triton=Support(GPU_FLOATS, _fits))


class SsimOptions(NamedTuple):
    """The options of ``ssim`` in the order of its schema."""

    window: int
    sigma: float | None
    c1: float
    c2: float
    luminance: bool
    border: str

    def as_kernel_arguments(self, a: Tensor) -> tuple[Any, ...]:
        """Return the arguments of the Triton launchers after the images."""
        return window_taps(a, self.window, self.sigma), *self[2:]


_COUNT = len(SsimOptions._fields)
_SCHEMA = f"Tensor a, Tensor b, {options_schema(SsimOptions)}"


def _run_cpp(
    a: Tensor,
    b: Tensor,
    options: SsimOptions,
    values: Tensor | None = None,
    grad_output: Tensor | None = None,
    weight: float = 0.0,
    grad_a: Tensor | None = None,
    grad_b: Tensor | None = None,
) -> float:
    """Fill the outputs that are given and return the sum of the map.

    The gradients are those of the sum over all windows, each weighted by ``grad_output`` if it is
    given and by ``weight`` otherwise.
    """
    window, sigma, c1, c2, luminance, border = options
    require(
        a.is_floating_point()
        and a.dtype == b.dtype
        and a.ndim == 3
        and a.shape == b.shape
        and a.numel() > 0
        and (grad_output is None or grad_output.shape == map_shape(a, window, border)),
        f"ssim of {tuple(a.shape)} and {tuple(b.shape)} is not defined, or a gradient does not fit",
    )
    return backends.CPU.ssim(  # type: ignore[union-attr]
        a.dtype == torch.float64,
        tuple(a.shape),
        axis_taps(window, sigma, a.shape[1]),
        axis_taps(window, sigma, a.shape[2]),
        BORDERS.index(border),
        luminance,
        c1,
        c2,
        gray_stack(a),
        gray_stack(b),
        gray_stack(values),
        gray_stack(grad_output),
        weight,
        gray_stack(grad_a),
        gray_stack(grad_b),
        torch.get_num_threads(),
    )


def _case(*arguments: Any) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    tensors = tuple(x for x in arguments if isinstance(x, Tensor))
    options = SsimOptions(*arguments[len(tensors) : len(tensors) + _COUNT])
    return tensors[-2:], {"window": options.window}


def _new_map(a: Tensor, b: Tensor, *given: Any) -> Tensor:
    options = SsimOptions(*given)
    return map_like(a, options.window, options.border)


def _map_cpp(a: Tensor, b: Tensor, *given: Any) -> Tensor:
    values = _new_map(a, b, *given)
    _run_cpp(a, b, SsimOptions(*given), values)
    return values


def _new_gradients(a: Tensor, b: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    *_, for_a, for_b = given
    return gradient_like(a, for_a), gradient_like(b, for_b)


def _gradients_cpp(
    a: Tensor, b: Tensor, *given: Any, grad_output: Tensor | None = None, weight: float = 0.0
) -> tuple[float, Tensor, Tensor]:
    """Return the sum of the map and the gradients, which are empty if not wanted."""
    *others, for_a, for_b = given
    grad_a, grad_b = _new_gradients(a, b, *given)
    wanted = grad_a if for_a else None, grad_b if for_b else None
    total = _run_cpp(a, b, SsimOptions(*others), None, grad_output, weight, *wanted)
    return total, grad_a, grad_b


def _map_backward_cpp(
    grad_output: Tensor, a: Tensor, b: Tensor, *given: Any
) -> tuple[Tensor, Tensor]:
    return _gradients_cpp(a, b, *given, grad_output=grad_output)[1:]


def _mean_cpp(a: Tensor, b: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    options = SsimOptions(*given[:_COUNT])
    share = 1 / max(1, math.prod(map_shape(a, options.window, options.border)))
    total, grad_a, grad_b = _gradients_cpp(a, b, *given, weight=share)
    return torch.tensor(share * total, dtype=scalar_dtype(a)), grad_a, grad_b


def _new_mean(a: Tensor, b: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty((), dtype=scalar_dtype(a)), *_new_gradients(a, b, *given)


def _triton(name: str) -> Callable[..., Any]:
    """Return a function that calls the launcher ``name`` with the arguments of the schema."""
    launch = triton_launcher("ssim.launchers", name)

    def run(*arguments: Any) -> Any:
        first = next(i for i, x in enumerate(arguments) if not isinstance(x, Tensor))
        images, others = arguments[:first], arguments[first:]
        options = SsimOptions(*others[:_COUNT])
        return launch(*images, *options.as_kernel_arguments(images[-1]), *others[_COUNT:])

    return run


_map = SSIM.register(
    f"ssim_map({_SCHEMA}) -> Tensor", _new_map, _case, cpp=_map_cpp, triton=_triton("ssim_map")
)
_map_backward = SSIM.register(
    f"ssim_map_backward(Tensor grad_output, {_SCHEMA}, bool for_a, bool for_b) -> (Tensor, Tensor)",
    lambda grad_output, *arguments: _new_gradients(*arguments),
    _case,
    cpp=_map_backward_cpp,
    triton=_triton("ssim_map_backward"),
)
_mean = SSIM.register(
    f"ssim_mean({_SCHEMA}, bool for_a, bool for_b) -> (Tensor, Tensor, Tensor)",
    _new_mean,
    _case,
    cpp=_mean_cpp,
    triton=_triton("ssim_mean"),
)


class SsimMap(Function):
    """Compute the map. The reference ``compute`` is used if no kernel can be started."""

    @staticmethod
    def forward(
        compute: Callable[..., Tensor], a: Tensor, b: Tensor, options: SsimOptions
    ) -> Tensor:
        return _map(a, b, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.compute, a, b, ctx.options = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        a, b = ctx.saved_tensors
        _, for_a, for_b, _ = ctx.needs_input_grad
        try:
            grad_a, grad_b = _map_backward(grad_output, a, b, *ctx.options, for_a, for_b)
        except LaunchError:
            grad_a, grad_b = reference_gradients(
                ctx.compute, (a, b), (for_a, for_b), (grad_output,)
            )
        return None, grad_a if for_a else None, grad_b if for_b else None, None


class SsimMean(Function):
    """Compute the mean and the wanted gradients, which the backward pass scales."""

    @staticmethod
    def forward(
        a: Tensor, b: Tensor, options: SsimOptions, for_a: bool, for_b: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        if (for_a or for_b) and a.dtype == torch.float16:
            # The weight of one pixel in the mean would underflow before grad_output scales it.
            a, b = a.float(), b.float()
        return _mean(a, b, *options, for_a, for_b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.dtype = inputs[0].dtype
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.save_for_backward(*outputs[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Any) -> Any:
        grads = [
            (grad_output * gradient).to(ctx.dtype) if needed else None
            for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        ]
        return *grads, None, None, None


def ssim(
    a: Tensor,
    b: Tensor,
    window: int,
    sigma: float | None,
    k1: float,
    k2: float,
    data_range: float,
    luminance: bool,
    border: str,
    reduction: str,
) -> Tensor:
    a, b = detach_if_no_grad(a), detach_if_no_grad(b)
    compute = partial(
        reference.ssim,
        window=window,
        sigma=sigma,
        k1=k1,
        k2=k2,
        data_range=data_range,
        luminance=luminance,
        border=border,
        reduction=reduction,
    )
    if SSIM.has_kernels_for(a, b, window=window):
        c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
        options = SsimOptions(window, sigma, c1, c2, luminance, border)
        planes = flatten_planes(a), flatten_planes(b)
        try:
            if reduction == "mean":
                wanted = requires_grad(a), requires_grad(b)
                return SsimMean.apply(*planes, options, *wanted)[0]
            values = SsimMap.apply(compute, *planes, options)
            return values.reshape(*a.shape[:-2], *values.shape[-2:])
        except LaunchError:
            pass
    function = gradient_in_forward if reduction == "mean" else recompute
    return function(compute, a, b)
