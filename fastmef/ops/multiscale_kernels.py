"""Call the kernels of multiscale_fuse, which fill allocated tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import triton_launcher
from fastmef.ops.common.tensors import (
    ABSENT,
    Stack,
    color_stack,
    fused_stack,
    gray_stack,
    require,
)
from fastmef.reference.color import GRAY_COEFFICIENTS
from fastmef.reference.multiscale import BandOptions, highest_value, working_dtype
from fastmef.reference.pyramid import halved_size


class Band(NamedTuple):
    """The tensors that :func:`fastmef.reference.multiscale.blend_band` reads."""

    fine: Tensor
    coarse: Tensor
    fused_coarse: Tensor
    shares: Tensor | None
    validity: Tensor | None
    coarse_validity: Tensor | None

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype that sums are formed in."""
        return working_dtype(self.fine, self.coarse, self.fused_coarse)

    @property
    def same_size(self) -> bool:
        """Return whether the next level already has the size of this one."""
        return self.coarse.shape[-2:] == self.fine.shape[-2:]

    def require_fit(self, options: BandOptions) -> None:
        """Refuse tensors whose shapes do not fit each other."""
        fine, coarse, fused_coarse, shares, validity, coarse_validity = self
        require_stack(fine)
        small = fine.shape[-2:] if self.same_size else halved_size(fine.shape[-2:], 1)
        require(
            coarse.shape == (*fine.shape[:3], *small)
            and fused_coarse.shape == (fine.shape[0], fine.shape[2], *small),
            f"the next level {tuple(coarse.shape)} and its fused image {tuple(fused_coarse.shape)} "
            f"do not fit exposures {tuple(fine.shape)}",
        )
        require(shares is None or shares.shape == fine.shape[:2], "shares must be (B, K)")
        require_validity(validity, fine)
        require_validity(coarse_validity, coarse)
        require((validity is None) == (coarse_validity is None), "both levels need a validity")
        require(options.radius >= 0, "the radius must not be negative")


def require_stack(exposures: Tensor) -> None:
    require(
        exposures.ndim == 5 and exposures.numel() > 0,
        f"exposures must be (B, K, C, H, W) and not empty, got {tuple(exposures.shape)}",
    )


def require_validity(validity: Tensor | None, exposures: Tensor) -> None:
    require(
        validity is None or validity.shape == exposures.shape[:2] + exposures.shape[3:],
        "a validity must have the shape (B, K, H, W) of its level",
    )


def _validity_stack(validity: Tensor | None) -> Stack:
    """Return a validity ``(B, K, H, W)`` as a stack; booleans are viewed as uint8."""
    if validity is not None and validity.dtype == torch.bool:
        validity = validity.view(torch.uint8)
    return gray_stack(validity)


def cpp_reduce(
    fine: Tensor,
    validity: Tensor | None,
    coarse: Tensor,
    coarse_validity: Tensor | None,
    first: int = 0,
) -> None:
    """Fill ``coarse`` with rows of the next level, starting with row ``first``."""
    rows = first, first + coarse.shape[-2]
    _cpu("pyramid_reduce")(
        coarse.dtype == torch.float64,
        tuple(fine.shape),
        rows,
        color_stack(fine),
        _validity_stack(validity),
        _starting_at(first, color_stack(coarse), coarse),
        _starting_at(first, _validity_stack(coarse_validity), coarse_validity),
        torch.get_num_threads(),
    )


def cpp_band(
    band: Band,
    options: BandOptions,
    fused: Tensor,
    slope: Tensor | None,
    first: int = 0,
    layers: Sequence[Tensor] = (),
) -> None:
    """Fill ``fused`` and ``slope`` with rows of the level, starting with row ``first``.

    ``layers`` are the exposures, ``(1, 1, C, H, W)`` each, if they are separate in memory; ``fine``
    then only provides their shape, dtype and strides.
    """
    fine, shares = band.fine, band.shares
    alike = all(x.stride()[2:] == fine.stride()[2:] and x.dtype == fine.dtype for x in layers)
    require(
        not layers or (fine.shape[0] == 1 and len(layers) == fine.shape[1] and alike),
        "exposures that are separate in memory must have one dtype and layout",
    )
    _cpu("blend_band")(
        band.dtype == torch.float64,
        tuple(band.fine.shape),
        (first, first + fused.shape[-2]),
        color_stack(band.fine),
        [layer.data_ptr() for layer in layers],
        color_stack(band.coarse),
        fused_stack(band.fused_coarse),
        ABSENT if shares is None else gray_stack(shares[:, :, None, None]),
        _validity_stack(band.validity),
        _validity_stack(band.coarse_validity),
        options.radius,
        options.floor,
        options.contrast,
        band.same_size,
        options.finest,
        options.low if options.finest else 0.0,
        options.high,
        _starting_at(first, fused_stack(fused), fused),
        _starting_at(first, fused_stack(slope), slope),
        torch.get_num_threads(),
    )


def _starting_at(first: int, stack: Stack, tensor: Tensor | None) -> Stack:
    """Return ``stack`` with the address that row 0 would have if ``tensor`` starts at ``first``."""
    if tensor is None:
        return stack
    address, dtype, plane, layer, channel, row, column = stack
    return address - first * row * tensor.element_size(), dtype, plane, layer, channel, row, column


def cpp_band_backward(grad_fused: Tensor, slope: Tensor | None, grad_coarse: Tensor) -> None:
    _cpu("blend_band_backward")(
        grad_coarse.dtype == torch.float64,
        tuple(grad_fused.shape),
        fused_stack(grad_fused),
        fused_stack(slope),
        fused_stack(grad_coarse),
        torch.get_num_threads(),
    )


# With a larger radius the Triton kernels would hold too many rows in registers.
LARGEST_TRITON_RADIUS = 7

_triton_reduce = triton_launcher("multiscale.reduce", "reduce")
_triton_activity = triton_launcher("multiscale.activity", "activity")
_triton_blend = triton_launcher("multiscale.blend", "blend")
_triton_blend_backward = triton_launcher("multiscale.backward", "blend_backward")


def triton_reduce(
    fine: Tensor, validity: Tensor | None, coarse: Tensor, coarse_validity: Tensor | None
) -> None:
    require(validity is None, "the Triton kernels do not support a validity")
    _triton_reduce(fine, coarse, highest_value(coarse.dtype) / highest_value(fine.dtype))


def triton_band(band: Band, options: BandOptions, fused: Tensor, slope: Tensor | None) -> None:
    require(band.validity is None, "the Triton kernels do not support a validity")
    require(options.radius <= LARGEST_TRITON_RADIUS, "the radius is too large for Triton")
    fine, shares = band.fine, band.shares
    if shares is not None:
        # Shares that are all 0 are ignored.
        counts = (shares > 0).any(dim=1, keepdim=True)
        shares = torch.where(counts, shares.float(), 1.0).contiguous()
    unit = highest_value(fine.dtype) if options.finest else 1
    knee = options.knee if options.finest else None
    scale, coarse_scale = (unit / highest_value(x.dtype) for x in (fine, band.coarse))
    activity = fine.new_empty((*fine.shape[:2], *fine.shape[3:]), dtype=torch.float32)
    _triton_activity(
        fine, shares, activity, scale / unit, options.floor, options.radius, GRAY_COEFFICIENTS
    )
    _triton_blend(
        fine,
        band.coarse,
        band.fused_coarse,
        activity,
        fused,
        slope,
        (scale, coarse_scale, float(unit)),
        options.contrast,
        knee,
        band.same_size,
    )
    if slope is not None and knee is None:
        slope.fill_(1.0)


def triton_band_backward(grad_fused: Tensor, slope: Tensor | None, grad_coarse: Tensor) -> None:
    _triton_blend_backward(grad_fused, None if slope is None else slope.contiguous(), grad_coarse)


def _cpu(kernel: str) -> Any:
    """Return a function of the compiled module."""
    return getattr(backends.CPU, kernel)
