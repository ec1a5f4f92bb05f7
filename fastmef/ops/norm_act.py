"""norm_act: batch normalisation, ReLU and the steps after them, of channels-last images.

PyTorch's own modules compute the same; :mod:`fastmef.nn.norm_act` chooses between them. ``then`` is
the steps after the ReLU, as in :func:`fastmef.reference.norm_act.norm_act`: ``""``, ``"pool"`` or
``"bilinear"``, and with the C++ kernels also ``"border"``, alone or after one of these. Statistics
are float32 ``(3, C)``: mean, biased variance and count of every channel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends
from fastmef.ops.common.operation import GPU_FLOATS, Operation, Support, triton_launcher
from fastmef.ops.common.tensors import ABSENT, Stack, color_stack, require

NORM_ACT = Operation("norm_act", cpp=Support(GPU_FLOATS), triton=Support(GPU_FLOATS))

_moments = triton_launcher("norm_act.statistics", "moments")
_slabs = triton_launcher("norm_act.activation", "slabs")
_merge = triton_launcher("norm_act.statistics", "merge")
_apply = triton_launcher("norm_act.activation", "apply")
_backward = triton_launcher("norm_act.activation", "backward")
_pool = triton_launcher("norm_act.pool", "apply")
_pool_slabs = triton_launcher("norm_act.pool", "slabs")
_pool_backward = triton_launcher("norm_act.pool", "backward")
_upsample = triton_launcher("norm_act.upsample", "apply")
_strips = triton_launcher("norm_act.upsample", "strips")
_gather = triton_launcher("norm_act.upsample", "gather")

Group = Any  # dist.ProcessGroup is missing from builds of torch without distributed


# The positions are the numbers of NormActStep and NormActThen in csrc/cpu/norm_act/norm_act.h.
_STEPS = ("statistics", "forward", "sums", "gradient")
_SIZES = ("", "pool", "bilinear")

BORDER = "border"


def _parse(then: str) -> tuple[str, int]:
    """Return the step that changes the size, one of :data:`_SIZES`, and the width of the border."""
    return then.removesuffix(BORDER).rstrip(), int(then.endswith(BORDER))


def _size_after(x: Tensor, then: str) -> tuple[int, int]:
    """Return the height and width of the result of ``then``, with its border."""
    size, margin = _parse(then)
    rows, columns = (
        side // 2 if size == "pool" else 2 * side if size == "bilinear" else side
        for side in x.shape[2:]
    )
    return rows + 2 * margin, columns + 2 * margin


def _vector(values: Tensor | None) -> Stack:
    """Return a tensor with one or more values for each channel as a stack of one row."""
    return ABSENT if values is None else color_stack(values.reshape(1, 1, 1, 1, -1))


def _images(x: Tensor | None) -> Stack:
    """Return channels-last images as a stack, and empty ones as absent."""
    return ABSENT if x is None or x.ndim == 1 else color_stack(x.unsqueeze(1))


def _run_cpp(
    step: str,
    x: Tensor,
    out: Tensor,
    affine: tuple[Tensor | None, ...] = (None,) * 4,
    eps: float = 0.0,
    then: str = "",
    grad_y: Tensor | None = None,
    grad_after: Tensor | None = None,
    sums: Tensor | None = None,
    count: Tensor | None = None,
    after: Tensor | None = None,
) -> None:
    """Run one of the steps of the C++ kernel and fill ``out`` and ``after``."""
    size, margin = _parse(then)
    goes_back = step in ("sums", "gradient")
    require(
        x.ndim == 4
        and size in _SIZES
        and _is_dense(x, x, x.shape[2:])
        and (grad_y is None or _is_dense(grad_y, x, x.shape[2:]))
        and (grad_after is None or _is_dense(grad_after, x, _size_after(x, then)))
        and not (goes_back and (grad_after if then else grad_y) is None)
        and min(_size_after(x, size)) > 0
        and all(value is None or value.numel() == x.shape[1] for value in (*affine, count)),
        f"norm_act of {tuple(x.shape)} then {then!r} is not defined, is not channels last, or a "
        "tensor does not fit it",
    )
    batch, channels, height, width = x.shape
    backends.CPU.norm_act(  # type: ignore[union-attr]
        _STEPS.index(step),
        (batch, height, width, channels),
        _SIZES.index(size),
        margin,
        _images(x),
        tuple(map(_vector, affine)),
        eps,
        _images(grad_y),
        _images(grad_after),
        _vector(sums),
        _vector(count),
        _images(out) if step in ("forward", "gradient") else _vector(out),
        _images(after),
        torch.get_num_threads(),
    )


def _is_dense(images: Tensor, x: Tensor, size: tuple[int, ...]) -> bool:
    """Return whether images of a size are channels last, and otherwise like ``x``."""
    shape = (*x.shape[:2], *size)
    fits = images.shape == shape and images.dtype == x.dtype and images.numel() > 0
    return fits and images.is_contiguous(memory_format=torch.channels_last)


def _statistics_cpp(
    x: Tensor, running_mean: Tensor | None, running_variance: Tensor | None, momentum: float
) -> Tensor:
    statistics = x.new_empty((3, x.shape[1]), dtype=torch.float32)
    _run_cpp("statistics", x, statistics)
    mean, variance, count = statistics.unbind()
    if running_mean is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    if running_variance is not None:
        unbiased = variance * (count / (count - 1))
        running_variance.lerp_(unbiased.to(running_variance.dtype), momentum)
    return statistics


def _forward_cpp(x: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    *affine, eps, then, keep = options
    y, after = _new_outputs(x, then, keep)
    _run_cpp("forward", x, y, tuple(affine), eps, then, after=after)
    return y, after


def _sums_cpp(
    grad_y: Tensor | None, grad_after: Tensor | None, x: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    *affine, eps, then = options
    sums, grad = _sums_fake(grad_y, grad_after, x, *options)
    _run_cpp("sums", x, sums, tuple(affine), eps, then, grad_y, grad_after, after=grad)
    return sums, grad


def _gradient_cpp(
    grad_y: Tensor | None, grad_after: Tensor | None, x: Tensor, *options: Any
) -> Tensor:
    *affine, eps, then, sums, count = options
    grad_x = torch.empty_like(x)
    _run_cpp("gradient", x, grad_x, tuple(affine), eps, then, grad_y, grad_after, sums, count)
    return grad_x


def _statistics_triton(
    x: Tensor, running_mean: Tensor | None, running_variance: Tensor | None, momentum: float
) -> Tensor:
    channels = x.shape[1]
    parts, _ = _slabs(x.numel() // channels, channels)
    moments = x.new_empty((parts, 3, channels), dtype=torch.float32)
    _moments(x, moments)
    return _merge_triton(moments, running_mean, running_variance, momentum)


def _merge_triton(
    parts: Tensor, running_mean: Tensor | None, running_variance: Tensor | None, momentum: float
) -> Tensor:
    merged = parts.new_empty(parts.shape[1:])
    _merge(parts, merged, running_mean, running_variance, momentum)
    return merged


def _new_outputs(x: Tensor, then: str, keep: bool) -> tuple[Tensor, Tensor]:
    """Allocate y and the result of ``then``; those that are not wanted are empty."""
    batch, channels = x.shape[:2]
    empty = x.new_empty((0,))
    if then == "":
        return torch.empty_like(x), empty
    after = x.new_empty((batch, *_size_after(x, then), channels)).permute(0, 3, 1, 2)
    return torch.empty_like(x) if keep and then.startswith("pool") else empty, after


# The schemas below list the arguments after x, which are ``options`` here.


def _forward_triton(x: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    *affine, then, keep = options
    y, after = _new_outputs(x, then, keep)
    if then == "pool":
        _pool(x, y if keep else None, after, *affine)
    elif then == "bilinear":
        _upsample(x, after, *affine)
    else:
        _apply(x, y, *affine)
    return y, after


def _sums_fake(
    grad_y: Tensor | None, grad_after: Tensor | None, x: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    """Allocate the sums and z, which is empty unless ``then`` is ``"bilinear"``."""
    then = options[-1]
    grad_z = torch.empty_like(x) if then.startswith("bilinear") else x.new_empty((0,))
    return x.new_empty((2, x.shape[1]), dtype=torch.float32), grad_z


def _sums_triton(
    grad_y: Tensor | None, grad_after: Tensor | None, x: Tensor, *options: Any
) -> tuple[Tensor, Tensor]:
    *affine, then = options
    channels = x.shape[1]

    def new_parts(count: int) -> Tensor:
        return x.new_empty((count, 2, channels), dtype=torch.float32)

    grad_z = x.new_empty((0,))
    if then == "pool":
        parts = new_parts(_pool_slabs(x)[0])
        _pool_backward(x, grad_y, grad_after, None, parts, *affine, None, None)
    elif then == "bilinear":
        parts, grad_z = new_parts(_strips(x)[0]), torch.empty_like(x)
        _gather(x, grad_after, grad_z, parts, *affine)
    else:
        parts = new_parts(_slabs(x.numel() // channels, channels)[0])
        _backward(x, grad_y, None, parts, *affine, None, None)
    return parts.sum(0), grad_z


def _gradient_triton(
    grad_y: Tensor | None, grad_after: Tensor | None, x: Tensor, *options: Any
) -> Tensor:
    *affine, then, sums, count = options
    grad_x = torch.empty_like(x)
    if then == "pool":
        _pool_backward(x, grad_y, grad_after, grad_x, None, *affine, sums, count)
    else:
        _backward(x, grad_y, grad_x, None, *affine, sums, count)
    return grad_x


_AFFINE = "Tensor mean, Tensor variance, Tensor? weight, Tensor? bias, float eps, str then"
_RUNNING = "Tensor(a!)? running_mean, Tensor(b!)? running_variance, float momentum"

# These two also update the running statistics, with the unbiased variance as in nn.BatchNorm2d.
statistics = NORM_ACT.register(
    f"norm_statistics(Tensor x, {_RUNNING}) -> Tensor",
    lambda x, *running: x.new_empty((3, x.shape[1]), dtype=torch.float32),
    cpp=_statistics_cpp,
    triton=_statistics_triton,
)
merge_statistics = NORM_ACT.register(
    f"norm_merge_statistics(Tensor parts, {_RUNNING}) -> Tensor",
    lambda parts, *running: parts.new_empty(parts.shape[1:]),
    triton=_merge_triton,
)
_norm_act = NORM_ACT.register(
    f"norm_act(Tensor x, {_AFFINE}, bool keep) -> (Tensor, Tensor)",
    lambda x, *options: _new_outputs(x, *options[-2:]),
    cpp=_forward_cpp,
    triton=_forward_triton,
)
# Returns the sums of z, the gradient w.r.t. the values before ReLU; see kernels/norm_act.
# For "bilinear" it also returns z, from which norm_act_backward continues with then="".
_sums = NORM_ACT.register(
    f"norm_act_sums(Tensor? grad_y, Tensor? grad_after, Tensor x, {_AFFINE}) -> (Tensor, Tensor)",
    _sums_fake,
    cpp=_sums_cpp,
    triton=_sums_triton,
)
_gradient = NORM_ACT.register(
    f"norm_act_backward(Tensor? grad_y, Tensor? grad_after, Tensor x, {_AFFINE}, "
    "Tensor? sums, Tensor? count) -> Tensor",
    lambda grad_y, grad_after, x, *options: torch.empty_like(x),
    cpp=_gradient_cpp,
    triton=_gradient_triton,
)


def shared_statistics(
    x: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    momentum: float,
    group: Group,
) -> Tensor:
    """Return :func:`statistics` of the images of all processes of ``group``."""
    own = statistics(x, None, None, 0.0)
    parts = own.new_empty((dist.get_world_size(group), *own.shape))
    dist.all_gather(list(parts.unbind(0)), own, group=group)
    return merge_statistics(parts, running_mean, running_variance, momentum)


def _channels_last(grad: Tensor | None) -> Tensor | None:
    """Return a gradient in channels-last layout, or ``None`` for that of an empty result."""
    # torch.compile also passes gradients of empty results.
    if grad is None or grad.ndim == 1:
        return None
    return grad.contiguous(memory_format=torch.channels_last)


class NormAct(torch.autograd.Function):
    """Save x and the parameters of its channels, and recompute y in the backward pass.

    If ``count`` is given, the statistics are those of x over all processes of ``group``, and the
    gradient w.r.t. x includes the gradient through them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor | None,
        eps: float,
        then: str,
        keep: bool,
        group: Group,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, mean, variance, count)
        ctx.eps, ctx.then, ctx.group = eps, then, group
        y, after = _norm_act(x, mean, variance, weight, bias, eps, then, keep)
        ctx.mark_non_differentiable(*(out for out in (y, after) if out.ndim == 1))
        return y, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor | None, grad_after: Tensor | None) -> Any:
        if grad_y is None and grad_after is None:
            return (None,) * 10
        x, weight, bias, mean, variance, count = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad_y, grad_after = _channels_last(grad_y), _channels_last(grad_after)
        then = ctx.then if grad_after is not None else ""
        affine = (mean, variance, weight, bias, ctx.eps)
        gathers = then.startswith("bilinear")
        sums: Any = None
        grad_x = None
        if for_weight or for_bias or count is not None or gathers:
            sums, grad_z = _sums(grad_y, grad_after, x, *affine, then)
            if gathers:
                grad_y, grad_after, then = grad_z, None, ""
        if for_x:
            total = sums if count is not None else None
            if ctx.group is not None:
                total = sums.clone()
                dist.all_reduce(total, group=ctx.group)
            grad_x = _gradient(grad_y, grad_after, x, *affine, then, total, count)
        grad_weight = grad_bias = None
        if for_weight:
            grad_weight = (sums[1] * torch.rsqrt(variance + ctx.eps)).to(weight.dtype)
        if for_bias:
            grad_bias = sums[0].to(bias.dtype)
        return grad_x, grad_weight, grad_bias, *(None,) * 7


def norm_act(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: Tensor | None,
    eps: float,
    then: str = "",
    keep: bool = True,
    group: Group = None,
) -> tuple[Tensor, Tensor]:
    """Return y and the result of ``then``, which is empty for ``""``.

    y is empty if there is a next step, unless that is a pool and ``keep`` is true.
    """
    return NormAct.apply(x, weight, bias, mean, variance, count, eps, then, keep, group)
