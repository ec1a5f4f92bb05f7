"""multiscale_fuse: softmax weights for the base, bands of detail by the variance of luma.

Two kernels are called once for each level: ``pyramid_reduce`` makes the next level of the
exposures, ``blend_band`` the fused image of a level from the fused image of the next. They read
uint8, uint16, float16, bfloat16, float32 and, on the CPU, float64 levels as they are, planar or
channels last. Sums are formed in float32, for float64 tensors in float64.
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
    """Return whether the case has no mask, and windows that the Triton kernels can hold."""
    return validity is None and radius <= kernels.LARGEST_TRITON_RADIUS


_CPP, _TRITON = Support(STORED), Support(GPU_STORED, _triton_covers)
EXPOSURE_PYRAMID = Operation("exposure_pyramid", cpp=_CPP, triton=_TRITON)
MULTISCALE_FUSE = Operation("multiscale_fuse", cpp=_CPP, triton=_TRITON)


def _next_level(
    fine: Tensor, is_base: bool, validity: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    size = halved_size(fine.shape[-2:], 1)
    dtype = multiscale.working_dtype(fine)
    shape = (*fine.shape[:2], *size) if validity is not None else (0,)
    return (
        fine.new_empty((*fine.shape[:3], *size), dtype=multiscale.reduced_dtype(fine, is_base)),
        fine.new_empty(shape, dtype=dtype),
    )


def _reduce_by(
    run: Callable[..., None], fine: Tensor, is_base: bool, validity: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    kernels.require_stack(fine)
    kernels.require_validity(validity, fine)
    coarse, coarse_validity = _next_level(fine, is_base, validity)
    run(fine, validity, coarse, None if validity is None else coarse_validity)
    return coarse, coarse_validity


def _split(arguments: tuple[Any, ...]) -> tuple[kernels.Band, BandOptions, bool]:
    count = len(kernels.Band._fields)
    *numbers, want_slope = arguments[count:]
    return kernels.Band(*arguments[:count]), BandOptions(*numbers), want_slope


def _band_like(*arguments: Any) -> tuple[Tensor, Tensor]:
    band, options, want_slope = _split(arguments)
    batch, _, channels, height, width = band.fine.shape
    shape = (batch, channels, height, width)
    if options.finest:
        fused = fused_like(band.fine)
    else:
        fused = band.fine.new_empty(shape, dtype=band.dtype)
    return fused, band.fine.new_empty(shape if want_slope else (0,), dtype=band.dtype)


def _band_by(run: Callable[..., None], *arguments: Any) -> tuple[Tensor, Tensor]:
    band, options, want_slope = _split(arguments)
    band.require_fit(options)
    fused, slope = _band_like(*arguments)
    run(band, options, fused, slope if want_slope else None)
    return fused, slope


def _coarse_gradient(grad_fused: Tensor, slope: Tensor | None, in_double: bool) -> Tensor:
    dtype = torch.float64 if in_double else torch.float32
    size = halved_size(grad_fused.shape[-2:], 1)
    return grad_fused.new_empty((*grad_fused.shape[:2], *size), dtype=dtype)


def _band_backward_by(
    run: Callable[..., None], grad_fused: Tensor, slope: Tensor | None, in_double: bool
) -> Tensor:
    require(
        grad_fused.ndim == 4
        and grad_fused.numel() > 0
        and (slope is None or slope.shape == grad_fused.shape),
        f"a gradient {tuple(grad_fused.shape)} and its slope do not fit",
    )
    grad_coarse = _coarse_gradient(grad_fused, slope, in_double)
    run(grad_fused, slope, grad_coarse)
    return grad_coarse


_reduce = EXPOSURE_PYRAMID.register(
    "pyramid_reduce(Tensor fine, bool is_base, Tensor? validity=None) -> (Tensor, Tensor)",
    _next_level,
    case=lambda fine, is_base, validity=None: ((fine,), {"validity": validity}),
    cpp=partial(_reduce_by, kernels.cpp_reduce),
    triton=partial(_reduce_by, kernels.triton_reduce),
)
_band = MULTISCALE_FUSE.register(
    "blend_band(Tensor fine, Tensor coarse, Tensor fused_coarse, Tensor? shares, "
    f"Tensor? validity, Tensor? coarse_validity, {options_schema(BandOptions)}, bool want_slope) "
    "-> (Tensor, Tensor)",
    _band_like,
    case=lambda *given: (given[:3], {"validity": given[4], "radius": given[6]}),
    cpp=partial(_band_by, kernels.cpp_band),
    triton=partial(_band_by, kernels.triton_band),
)
_band_backward = MULTISCALE_FUSE.register(
    "blend_band_backward(Tensor grad_fused, Tensor? slope, bool in_double) -> Tensor",
    _coarse_gradient,
    cpp=partial(_band_backward_by, kernels.cpp_band_backward),
    triton=partial(_band_backward_by, kernels.triton_band_backward),
)


class PyramidReduce(torch.autograd.Function):
    """Saves its input; the backward pass is that of the reference."""

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
    """Saves its inputs, and the slope of the compression where that is needed.

    The gradient w.r.t. ``fused_coarse`` has a kernel, the others are those of the reference.
    """

    @staticmethod
    def forward(ctx: Any, options: BandOptions, *tensors: Tensor | None) -> Tensor:
        fine: Any = tensors[0]
        # w.r.t. fused_coarse alone
        ctx.uses_kernel = ctx.needs_input_grad[1:5] == (False, False, True, False)
        bends = options.finest and options.knee is not None and fine.is_floating_point()
        fused, slope = _band(*tensors, *options, ctx.uses_kernel and bends)
        ctx.options = options
        ctx.save_for_backward(*tensors, slope)
        if not fused.is_floating_point():
            ctx.mark_non_differentiable(fused)
        return fused

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_fused: Tensor) -> Any:
        *inputs, slope = ctx.saved_tensors
        fused_coarse = inputs[2]
        if ctx.uses_kernel:
            in_double = fused_coarse.dtype == torch.float64
            bent = slope if slope.numel() else None
            if fused_coarse.shape == grad_fused.shape:  # nothing was expanded
                slanted = grad_fused if bent is None else grad_fused * bent
                return None, None, None, slanted.to(fused_coarse.dtype), None, None, None
            try:
                grad_coarse = _band_backward(grad_fused, bent, in_double)
                return None, None, None, grad_coarse, None, None, None
            except LaunchError:
                pass
        compute = partial(multiscale.blend_band, options=ctx.options)
        needed = (*ctx.needs_input_grad[1:5], False, False)
        return None, *gradients(compute, tuple(inputs), needed, (grad_fused,))


def reduce_level(
    fine: Tensor, is_base: bool, validity: Tensor | None
) -> tuple[Tensor, Tensor | None]:
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
    """Return the levels below the exposures, made by one sweep over each level."""
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
    """Fill ``coarse`` with the rows of the next level of ``fine`` from row ``first`` on.

    For images that are too large for the memory: ``fine`` is a window of rows of theirs, whose
    first row is even. All rows of ``coarse`` whose sources lie inside the window are those of the
    whole image, bit for bit. ``coarse`` has the dtype of the next level; nothing is recorded for
    autograd.
    """
    if EXPOSURE_PYRAMID.backend(fine, validity=validity) == backends.CPP:
        require(
            first + coarse.shape[-2] <= halved_size(fine.shape[-2:], 1)[0],
            "the rows of the next level do not fit the window",
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
    """Fill ``fused`` with the rows of one level from row ``first`` of the window ``fine`` on.

    As :func:`reduce_rows`; ``coarse`` and ``fused_coarse`` are the window of the next level that
    begins at half the first row of ``fine`` and is half as high. ``fine`` may be a list of the
    exposures, ``(1, 1, C, rows, W)`` each and of one layout, which the C++ kernels read where they
    are.
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
            "the rows of the result do not fit the window",
        )
        kernels.cpp_band(band, options, fused, None, first, layers)
        return
    if layers:
        band = band._replace(fine=torch.cat(layers, dim=1))
    whole = _blend_band(*band, options)
    fused.copy_(whole[..., first : first + fused.shape[-2], :])
