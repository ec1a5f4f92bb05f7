"""weighted_ssim_loss and fusion_loss: scalar losses whose gradient is computed with the value.

One sweep computes the value and the gradient w.r.t. F or the logits; the backward pass only scales
the gradient. With ``reduction="none"`` the backward pass sweeps again and weights the windows with
``grad_output``. :mod:`fastmef.ops.loss_from_maps` computes gradients w.r.t. the exposures and the
mask.

float16 and bfloat16 are read without a conversion and computed in float32. Gradients and maps are
rounded once, to the input's dtype; the value is float32. With several levels the finest is swept
last: the gradients of the coarser levels are summed in float32, in the memory of its final 16-bit
gradient. No copy of an image is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastmef import backends, reference
from fastmef.ops import filters, fusion, loss_from_maps, ssim
from fastmef.ops import loss_kernels as kernels
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
)
from fastmef.ops.common.tensors import gradient_like
from fastmef.ops.common.transforms import Function, once_differentiable, requires_grad
from fastmef.ops.loss_kernels import gradient_scale
from fastmef.reference.filters import crop_to_centers
from fastmef.reference.loss import LossOptions

_SUPPORT = {
    "cpp": Support(FLOATS),
    "cuda": Support(GPU_FLOATS, kernels.cuda_covers),
    "triton": Support(GPU_FLOATS, kernels.triton_covers),
}
WEIGHTED_SSIM_LOSS = Operation("weighted_ssim_loss", in_transforms=True, **_SUPPORT)
FUSION_LOSS = Operation("fusion_loss", in_transforms=True, **_SUPPORT)

_SCHEMA = options_schema(LossOptions)


def _case(source: Tensor, exposures: Tensor, mask: Tensor | None, *given: Any) -> Any:
    """Return the tensors and options that decide which backend computes the scalar loss."""
    *options, scales, _ = given
    limits = {"window": LossOptions(*options).window, "scales": scales}
    return (source, exposures, mask), limits


def _map_case(*given: Any) -> Any:
    """Return the tensors and options that decide which backend computes the map."""
    tensors = [x for x in given if isinstance(x, Tensor)]
    window = LossOptions(*given[len(tensors) :]).window
    limits = {"window": window, "scales": (1.0,), "reduction": "none"}
    return (*tensors[-2:], None), limits


# F and logits share one registered operation; both records support the same cases.
WEIGHTED_SSIM_LOSS.register(
    f"weighted_ssim_loss(Tensor source, Tensor exposures, Tensor? mask, {_SCHEMA}, "
    "float[] scales, bool with_gradient) -> (Tensor, Tensor)",
    kernels.new_loss,
    case=_case,
    cpp=kernels.loss_cpp,
    cuda=kernels.loss_cuda,
    triton=kernels.loss_triton,
)
_loss = WEIGHTED_SSIM_LOSS.eager("weighted_ssim_loss")
_loss_map = WEIGHTED_SSIM_LOSS.register(
    f"weighted_ssim_map(Tensor fused, Tensor exposures, {_SCHEMA}) -> Tensor",
    kernels.new_map,
    case=_map_case,
    cpp=kernels.map_cpp,
    triton=kernels.map_triton,
)
_loss_map_backward = WEIGHTED_SSIM_LOSS.register(
    f"weighted_ssim_map_backward(Tensor grad_output, Tensor fused, Tensor exposures, {_SCHEMA}) "
    "-> Tensor",
    lambda grad_output, fused, *others: gradient_like(fused),
    case=_map_case,
    cpp=kernels.map_backward_cpp,
    triton=kernels.map_backward_triton,
)


SCALE_GRADIENT = Operation("scale_gradient", cuda=Support(GPU_FLOATS), triton=Support(GPU_FLOATS))
SCALE_GRADIENT.register(
    "scale_gradient_(Tensor(a!) gradient, Tensor grad_output, float divisor) -> ()",
    lambda *given: None,
    cuda=kernels.scale_cuda,
    triton=kernels.scale_triton,
)
_scale_gradient = SCALE_GRADIENT.eager("scale_gradient_")


class Loss(Function):
    """Compute the loss, and if wanted its gradient w.r.t. ``source`` (F or the logits).

    The backward pass scales the gradient, in place unless the graph is retained.
    """

    @staticmethod
    def forward(
        source: Tensor, exposures: Tensor, mask: Tensor | None, backend: str, given: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor]:
        """Call the registered operation on ``backend``; ``given`` is what follows the mask."""
        return _loss(backend, source, exposures, mask, *given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
        source, _, mask, ctx.backend, _ = inputs
        gradient = outputs[1]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(gradient)
        ctx.save_for_backward(gradient)
        ctx.scale = gradient_scale(source, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, _: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return _scaled(ctx.backend, gradient, grad_output, ctx.scale), None, None, None, None


def _scaled(backend: str, gradient: Tensor, grad_output: Tensor, divisor: float) -> Tensor:
    """Return ``gradient * grad_output / divisor``, in place unless the graph is retained.

    ``backward()`` starts with ``grad_output`` = 1, which the host cannot read without waiting for
    the GPU. So one kernel is launched, which returns at once if the factor is 1.
    """
    if (
        backend in backends.ON_GPU
        and not torch.compiler.is_compiling()
        and not backends.transforms_active()
        and not torch._C._autograd._get_current_graph_task_keep_graph()  # type: ignore[attr-defined]
    ):
        try:
            _scale_gradient(backend, gradient, grad_output, divisor)
        except LaunchError:
            pass
        else:
            return gradient
    grad_output = grad_output / divisor
    if gradient.is_cuda and gradient.dtype == torch.float16:
        # PyTorch would first round the scalar to float16, where 65536, the usual start of loss
        # scaling, is infinite. On the CPU it rounds only a scalar on the left.
        return (gradient.float() * grad_output).half()
    return gradient * grad_output


class LossMap(Function):
    """Compute the map 1 - q. The reference ``compute`` is used if no kernel can be started."""

    @staticmethod
    def forward(
        compute: Callable[..., Tensor], fused: Tensor, exposures: Tensor, options: LossOptions
    ) -> Tensor:
        return _loss_map(fused, exposures, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.compute, fused, exposures, ctx.options = inputs
        ctx.save_for_backward(fused, exposures)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        fused, exposures = ctx.saved_tensors
        try:
            grad_fused = _loss_map_backward(grad_output, fused, exposures, *ctx.options)
        except LaunchError:
            compute = partial(ctx.compute, mask=None)
            needed = (True, False)
            grads = (grad_output,)
            grad_fused, _ = reference_gradients(compute, (fused, exposures), needed, grads)
        return None, grad_fused, None, None


def _backend(
    operation: Operation,
    source: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    reduction: str,
    options: LossOptions,
    scales: Sequence[float],
) -> str:
    """Return the backend that makes the loss in one sweep; the reference where none does."""
    if requires_grad(exposures) or (mask is not None and requires_grad(mask)):
        return backends.REFERENCE
    return operation.backend(
        source, exposures, mask, window=options.window, scales=scales, reduction=reduction
    )


def _mean(
    operation: Operation,
    source: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    options: LossOptions,
    scales: Sequence[float],
) -> Tensor | None:
    """Return the mean by one sweep; ``None`` where no kernel makes it that way."""
    backend = _backend(operation, source, exposures, mask, "mean", options, scales)
    if backend == backends.REFERENCE:
        return None
    given = (*options, scales, requires_grad(source))
    try:
        return Loss.apply(source, exposures, mask, backend, given)[0]
    except LaunchError:
        return None


def _map(
    compute: Callable[..., Tensor],
    fused: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    options: LossOptions,
) -> Tensor | None:
    """Compute the map in one sweep of a kernel, or return ``None`` if no kernel handles it."""
    case = fused, exposures, mask, "none", options, (1.0,)
    if _backend(WEIGHTED_SSIM_LOSS, *case) == backends.REFERENCE:
        return None
    try:
        values = LossMap.apply(compute, fused, exposures, options)
    except LaunchError:
        return None
    return values if mask is None else values * crop_to_centers(mask, options.window)


def _maps_have_kernels(
    source: Tensor, exposures: Tensor, mask: Tensor | None, options: LossOptions
) -> bool:
    """Return whether the operations that :mod:`fastmef.ops.loss_from_maps` calls have kernels."""
    limits = {"window": options.window}
    return filters.GAMMA_WEIGHTS.has_kernels_for(
        source, mask, exposures, **limits
    ) and ssim.SSIM.has_kernels_for(exposures, source, mask, **limits)


def weighted_ssim_loss(
    fused: Tensor,
    exposures: Tensor,
    mask: Tensor | None,
    reduction: str,
    options: LossOptions,
    scales: Sequence[float],
) -> Tensor:
    """See :func:`fastmef.functional.weighted_ssim_loss`; images are grey."""
    fused, exposures = detach_if_no_grad(fused), detach_if_no_grad(exposures)
    mask = None if mask is None else detach_if_no_grad(mask)
    tensors = fused, exposures, mask
    if reduction == "mean":
        value = _mean(WEIGHTED_SSIM_LOSS, *tensors, options, scales)
        if value is not None:
            return value
    given = {**options._asdict(), "scales": scales}

    def compute(fused: Tensor, exposures: Tensor, mask: Tensor | None) -> Tensor:
        return reference.weighted_ssim_loss(
            fused, exposures, mask=mask, reduction=reduction, **given
        )

    if reduction == "none":
        values = _map(compute, *tensors, options)
        if values is not None:
            return values
    if _maps_have_kernels(*tensors, options):
        return loss_from_maps.weighted_ssim_loss(*tensors, reduction, **given)
    function = recompute if reduction == "none" else gradient_in_forward
    return function(compute, *tensors)


def weighted_ssim_gradient(fused: Tensor, exposures: Tensor, options: LossOptions) -> Tensor:
    """Return the gradient of :func:`weighted_ssim_loss` w.r.t. ``fused``, grey as the exposures.

    It calls the C++ kernel, for float32 and float64, without PyTorch's dispatcher.
    """
    return kernels.loss_cpp(fused, exposures, None, *options, (1.0,), True)[1]


def fusion_loss(
    logits: Tensor, exposures: Tensor, options: LossOptions, scales: Sequence[float]
) -> Tensor:
    """See :func:`fastmef.functional.fusion_loss`; exposures are grey."""
    logits, exposures = detach_if_no_grad(logits), detach_if_no_grad(exposures)
    value = _mean(FUSION_LOSS, logits, exposures, None, options, scales)
    if value is not None:
        return value
    given = {**options._asdict(), "scales": scales}
    fuses = fusion.SOFTMAX_FUSE.has_kernels_for(logits, exposures)
    if fuses and _maps_have_kernels(logits, exposures, None, options):
        return loss_from_maps.fusion_loss(logits, exposures, **given)
    return gradient_in_forward(partial(reference.fusion_loss, **given), logits, exposures)
