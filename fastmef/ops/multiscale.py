"""multiscale_fuse: softmax weights for the base, bands of detail weighted by the variance of luma.

Two kernels are called once for each level: ``pyramid_reduce`` computes the next level of the
exposures, ``blend_band`` computes the fused image of a level from that of the next. They read
uint8, uint16, float16, bfloat16, float32 and, on the CPU, float64 levels without a conversion,
planar or channels last. Sums are formed in float32, for float64 tensors in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastmef import backends
from fastmef.ops import fusion
from fastmef.ops import multiscale_kernels as kernels
from fastmef.ops.common.autograd import detach_if_no_grad, gradients
from fastmef.ops.common.operation import (
    GPU_STORED,
    STORED,
    LaunchError,
    Operation,
    Support,
    options_schema,
)
from fastmef.ops.common.tensors import fused_like, require
from fastmef.reference import multiscale
from fastmef.reference.multiscale import BandOptions, ExposurePyramid
from fastmef.reference.pyramid import halved_size


def _triton_covers(*tensors: Tensor, validity: Tensor | None = None, radius: int = 0) -> bool:
    """Return whether the case has no mask and a radius that the Triton kernels support."""
    return validity is None and radius <= kernels.LARGEST_TRITON_RADIUS


_CPP, _TRITON = Support(STORED), Support(GPU_STORED, _triton_covers)
EXPOSURE_PYRAMID = Operation("exposure_pyramid", cpp=_CPP, triton=_TRITON)
MULTISCALE_FUSE = Operation("multiscale_fuse", cpp=_CPP, triton=_TRITON)


def _next_level(
    fine: Tensor, is_base: bool, validity: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Allocate the next level and its validity, which is empty if ``validity`` is ``None``."""
    size = halved_size(fine.shape[-2:], 1)
    dtype = multiscale.working_dtype(fine)
    shape = (*fine.shape[:2], *size) if validity is not None else (0,)
    return (
        fine.new_empty((*fine.shape[:3], *size), dtype=multiscale.reduced_dtype(fine, is_base)),
        fine.new_empty(shape, dtype=dtype),
    )


def _run_reduce(
    run: Callable[..., None], fine: Tensor, is_base: bool, validity: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Allocate the next level and fill it with the kernel ``run``."""
    kernels.require_stack(fine)
    kernels.require_validity(validity, fine)
    coarse, coarse_validity = _next_level(fine, is_base, validity)
    run(fine, validity, coarse, None if validity is None else coarse_validity)
    return coarse, coarse_validity


def _split(arguments: tuple[Any, ...]) -> tuple[kernels.Band, BandOptions, bool]:
    """Split the arguments of ``blend_band`` into tensors, options and ``want_slope``."""
    count = len(kernels.Band._fields)
    *numbers, want_slope = arguments[count:]
    return kernels.Band(*arguments[:count]), BandOptions(*numbers), want_slope


def _new_band(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Allocate the fused image of a level and the slope, which is empty if it is not wanted."""
    band, options, want_slope = _split(arguments)
    batch, _, channels, height, width = band.fine.shape
    shape = (batch, channels, height, width)
    if options.finest:
        fused = fused_like(band.fine)
    else:
        fused = band.fine.new_empty(shape, dtype=band.dtype)
    return fused, band.fine.new_empty(shape if want_slope else (0,), dtype=band.dtype)


def _run_band(run: Callable[..., None], *arguments: Any) -> tuple[Tensor, Tensor]:
    """Allocate the fused image and the slope and fill them with the kernel ``run``."""
    band, options, want_slope = _split(arguments)
    band.require_fit(options)
    fused, slope = _new_band(*arguments)
    run(band, options, fused, slope if want_slope else None)
    return fused, slope


def _new_grad_coarse(grad_fused: Tensor, slope: Tensor | None, in_double: bool) -> Tensor:
    """Allocate the gradient w.r.t. the fused image of the next level."""
    dtype = torch.float64 if in_double else torch.float32
    size = halved_size(grad_fused.shape[-2:], 1)
    return grad_fused.new_empty((*grad_fused.shape[:2], *size), dtype=dtype)


def _run_band_backward(
    run: Callable[..., None], grad_fused: Tensor, slope: Tensor | None, in_double: bool
) -> Tensor:
    """Allocate the gradient and fill it with the kernel ``run``."""
    require(
        grad_fused.ndim == 4
        and grad_fused.numel() > 0
        and (slope is None or slope.shape == grad_fused.shape),
        f"the slope does not fit the gradient {tuple(grad_fused.shape)}",
    )
    grad_coarse = _new_grad_coarse(grad_fused, slope, in_double)
    run(grad_fused, slope, grad_coarse)
    return grad_coarse


_reduce = EXPOSURE_PYRAMID.register(
    "pyramid_reduce(Tensor fine, bool is_base, Tensor? validity=None) -> (Tensor, Tensor)",
    _next_level,
    case=lambda fine, is_base, validity=None: ((fine,), {"validity": validity}),
    cpp=partial(_run_reduce, kernels.cpp_reduce),
    triton=partial(_run_reduce, kernels.triton_reduce),
)
_band = MULTISCALE_FUSE.register(
    "blend_band(Tensor fine, Tensor coarse, Tensor fused_coarse, Tensor? shares, "
    f"Tensor? validity, Tensor? coarse_validity, {options_schema(BandOptions)}, bool want_slope) "
    "-> (Tensor, Tensor)",
    _new_band,
    case=lambda *given: (given[:3], {"validity": given[4], "radius": given[6]}),
    cpp=partial(_run_band, kernels.cpp_band),
    triton=partial(_run_band, kernels.triton_band),
)
_band_backward = MULTISCALE_FUSE.register(
    "blend_band_backward(Tensor grad_fused, Tensor? slope, bool in_double) -> Tensor",
    _new_grad_coarse,
    cpp=partial(_run_band_backward, kernels.cpp_band_backward),
    triton=partial(_run_band_backward, kernels.triton_band_backward),
)


class PyramidReduce(torch.autograd.Function):
    """Save the input and differentiate the reference in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, fine: Tensor, is_base: bool, validity: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(fine, validity)
        ctx.is_base = is_base
        coarse, coarse_validity = _reduce(fine, is_base, validity)
        ctx.mark_non_differentiable(coarse_validity)
        return coarse, coarse_validity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_coarse: Tensor, _: Any) -> Any:
        fine, validity = ctx.saved_tensors

        def compute(images: Tensor) -> Tensor:
            return multiscale.pyramid_reduce(images, ctx.is_base, validity)[0]

        return *gradients(compute, (fine,), (True,), (grad_coarse,)), None, None


class BlendBand(torch.autograd.Function):
    """Save the inputs, and the slope of the compression if it is needed.

    A kernel computes the gradient w.r.t. ``fused_coarse``, the reference computes the others.
    """

    @staticmethod
    def forward(ctx: Any, options: BandOptions, *tensors: Tensor | None) -> Tensor:
        fine: Any = tensors[0]
        # The kernel computes the gradient w.r.t. fused_coarse only.
        ctx.uses_kernel = ctx.needs_input_grad[1:5] == (False, False, True, False)
        compresses = options.finest and options.knee is not None and fine.is_floating_point()
        fused, slope = _band(*tensors, *options, ctx.uses_kernel and compresses)
        ctx.options = options
        ctx.save_for_backward(*tensors, slope)
        if not fused.is_floating_point():
            ctx.mark_non_differentiable(fused)
        return fused

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fused: Tensor) -> Any:
        *inputs, saved_slope = ctx.saved_tensors
        fused_coarse = inputs[2]
        if ctx.uses_kernel:
            in_double = fused_coarse.dtype == torch.float64
            slope = saved_slope if saved_slope.numel() else None
            if fused_coarse.shape == grad_fused.shape:  # fused_coarse was not expanded
                grad_coarse = grad_fused if slope is None else grad_fused * slope
                return None, None, None, grad_coarse.to(fused_coarse.dtype), None, None, None
            try:
                grad_coarse = _band_backward(grad_fused, slope, in_double)
                return None, None, None, grad_coarse, None, None, None
            except LaunchError:
                pass
        compute = partial(multiscale.blend_band, options=ctx.options)
        needed = (*ctx.needs_input_grad[1:5], False, False)
        return None, *gradients(compute, tuple(inputs), needed, (grad_fused,))


def reduce_level(
    fine: Tensor, is_base: bool, validity: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """See :func:`fastmef.reference.multiscale.pyramid_reduce`."""
    fine = detach_if_no_grad(fine)
    # torch.compile differentiates the reference itself: it cannot trace a nested backward pass.
    traced = fine.requires_grad and torch.compiler.is_compiling()
    if traced or not EXPOSURE_PYRAMID.has_kernels_for(fine, validity=validity):
        return multiscale.pyramid_reduce(fine, is_base, validity)
    try:
        if fine.requires_grad:
            coarse, coarse_validity = PyramidReduce.apply(fine, is_base, validity)
        else:
            coarse, coarse_validity = _reduce(fine, is_base, validity)
    except LaunchError:
        return multiscale.pyramid_reduce(fine, is_base, validity)
    return coarse, None if validity is None else coarse_validity


def exposure_pyramid(exposures: Tensor, levels: int, valid: Tensor | None) -> ExposurePyramid:
    """Return the levels below the exposures; each level is read once."""
    return multiscale.build_pyramid(exposures, levels, valid, reduce_level)


def _blend_band(
    fine: Tensor,
    coarse: Tensor,
    fused_coarse: Tensor,
    shares: Tensor | None,
    validity: Tensor | None,
    coarse_validity: Tensor | None,
    options: BandOptions,
) -> Tensor:
    """See :func:`fastmef.reference.multiscale.blend_band`."""
    fine, coarse, fused_coarse = map(detach_if_no_grad, (fine, coarse, fused_coarse))
    band = kernels.Band(fine, coarse, fused_coarse, shares, validity, coarse_validity)
    # torch.compile differentiates the reference itself: it cannot trace a nested backward pass.
    needs_reference = any(x is not None and x.requires_grad for x in (fine, coarse, shares))
    traced = needs_reference and torch.compiler.is_compiling()
    limits = {"validity": validity, "radius": options.radius}
    has_kernels = MULTISCALE_FUSE.has_kernels_for(*band[:3], **limits)
    if has_kernels and not traced and not isinstance(options.contrast, Tensor):
        try:
            return BlendBand.apply(options, *band)
        except LaunchError:
            pass
    return multiscale.blend_band(*band, options)


blend_base = partial(multiscale.blend_base, _blend_band)
multiscale_fuse = partial(
    multiscale.multiscale_fuse,
    fuse=partial(fusion.softmax_fuse, want_weights=False),
    band=_blend_band,
)


def reduce_rows(
    fine: Tensor,
    validity: Tensor | None,
    first: int,
    coarse: Tensor,
    coarse_validity: Tensor | None,
) -> None:
    """Fill ``coarse`` with rows of the next level of ``fine``, starting with row ``first``.

    This function handles images that are too large for the memory: ``fine`` is a strip of rows of
    such an image that starts with an even row. All rows of ``coarse`` whose sources lie inside the
    strip are bit-identical to those of the whole image. ``coarse`` has the dtype of the next level;
    nothing is recorded for autograd.
    """
    if EXPOSURE_PYRAMID.backend(fine, validity=validity) == backends.CPP:
        require(
            first + coarse.shape[-2] <= halved_size(fine.shape[-2:], 1)[0],
            "the rows of the next level do not fit the strip",
        )
        kernels.cpp_reduce(fine, validity, coarse, coarse_validity, first)
        return
    is_base = not fine.is_floating_point() and coarse.is_floating_point()
    reduced, reduced_validity = reduce_level(fine, is_base, validity)
    rows = slice(first, first + coarse.shape[-2])
    coarse.copy_(reduced[..., rows, :])
    if coarse_validity is not None and reduced_validity is not None:
        coarse_validity.copy_(reduced_validity[..., rows, :])


def blend_rows(
    fine: Tensor | Sequence[Tensor],
    coarse: Tensor,
    fused_coarse: Tensor,
    shares: Tensor | None,
    validity: Tensor | None,
    coarse_validity: Tensor | None,
    options: BandOptions,
    first: int,
    fused: Tensor,
) -> None:
    """Fill ``fused`` with rows of one level, starting with row ``first`` of the strip ``fine``.

    See :func:`reduce_rows` for strips. ``coarse`` and ``fused_coarse`` are the strip of the next
    level that starts at half the first row of ``fine`` and is half as high. ``fine`` may be a list
    of exposures ``(1, 1, C, rows, W)`` with the same strides, which the C++ kernels read without a
    copy.
    """
    layers: tuple[Tensor, ...] = ()
    if not isinstance(fine, Tensor):
        layers = tuple(fine)
        fine = layers[0].expand(-1, len(layers), -1, -1, -1)
    band = kernels.Band(fine, coarse, fused_coarse, shares, validity, coarse_validity)
    limits = {"validity": validity, "radius": options.radius}
    if MULTISCALE_FUSE.backend(*band[:3], **limits) == backends.CPP:
        band.require_fit(options)
        require(
            fused.dtype == (fine.dtype if options.finest else band.dtype)
            and first + fused.shape[-2] <= fine.shape[-2],
            "the rows of the result do not fit the strip",
        )
        kernels.cpp_band(band, options, fused, None, first, layers)
        return
    if layers:
        band = band._replace(fine=torch.cat(layers, dim=1))
    whole = _blend_band(*band, options)
    fused.copy_(whole[..., first : first + fused.shape[-2], :])
