"""Call the kernels of the steps of MEF-SSIM.

``new_*`` allocate the results of ``cpp_*`` and ``triton_*``. The C++ kernels take contiguous
tensors; others are copied first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import triton_launcher
from fastmef.ops.common.prepared import Prepared
from fastmef.ops.common.tensors import gradient_like, map_shape, require, window_taps
from fastmef.reference import mef_color2018, mef_ma2015, mef_mefnet
from fastmef.reference.mef_ma2015 import SIGMA, WINDOW

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def _mef_shape(images: Tensor, sigma: float | None, window: int = WINDOW) -> Any:
    """Return the sizes and window taps of ``(B, K, H, W)`` for the C++ kernels."""
    require(
        images.ndim == 4 and images.numel() > 0 and images.dtype in (torch.float32, torch.float64),
        f"scores of {images.dtype} {tuple(images.shape)} are not defined",
    )
    taps = window_taps(images, window, sigma)
    return backends.CPU.MefShape(  # type: ignore[union-attr]
        tuple(images.shape), *taps, torch.get_num_threads()
    )


def _addresses(*tensors: Tensor | None) -> tuple[int, ...]:
    """Return the addresses of tensors, 0 for those that are ``None`` or empty."""
    return tuple(0 if x is None or not x.numel() else x.data_ptr() for x in tensors)


def _require_fit(exposures: Tensor, planes: dict[tuple[int, ...], Sequence[Tensor]]) -> None:
    """Require that tensors have the shape they are listed under and the dtype of the exposures."""
    require(
        all(
            x.shape == shape and x.dtype == exposures.dtype
            for shape, tensors in planes.items()
            for x in tensors
        ),
        f"a map or the fused image does not fit exposures {tuple(exposures.shape)}",
    )


def _plane_shape(exposures: Tensor) -> tuple[int, ...]:
    """Return ``(B, H, W)`` of exposures ``(B, K, H, W)``."""
    require(exposures.ndim == 4, f"scores of {tuple(exposures.shape)} are not defined")
    return (exposures.shape[0], *exposures.shape[2:])


def new_level(images: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Four:
    """Allocate centred exposures, means, gains and variance."""
    batch, count, height, width = images.shape
    *_, rows, columns = map_shape(images, window, "valid")
    return (
        images.new_empty((batch, count, height, width)),
        images.new_empty((batch, count, rows, columns)),
        images.new_empty((batch, count, rows, columns)),
        images.new_empty((batch, rows, columns)),
    )


def cpp_level(images: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Four:
    images = images.contiguous()
    maps = new_level(images, window)
    backends.CPU.ma2015_level(  # type: ignore[union-attr]
        images.dtype == torch.float64,
        _mef_shape(images, sigma, window),
        images.data_ptr(),
        _addresses(*maps),
    )
    return maps


class QualityArguments(NamedTuple):
    """The arguments of ``ma2015_quality``. PyTorch leaves out those that are the default."""

    exposures: Tensor
    means: Tensor | None
    gains: Tensor | None
    variance: Tensor | None
    fused: Tensor
    with_gradient: bool
    window: int = WINDOW
    sigma: float = SIGMA


def _new_score(fused: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor]:
    """Allocate the score ``(B,)`` and its gradient, which is empty if it is not wanted."""
    return fused.new_empty(fused.shape[:1]), gradient_like(fused, with_gradient)


def new_quality(*arguments: Any) -> tuple[Tensor, Tensor]:
    given = QualityArguments(*arguments)
    return _new_score(given.fused, given.with_gradient)


def cpp_quality(*arguments: Any) -> tuple[Tensor, ...]:
    prepared = prepare_quality(*arguments)
    prepared.call()
    return prepared.results


def prepare_quality(*arguments: Any) -> Prepared:
    *stored, with_gradient, window, sigma = QualityArguments(*arguments)
    given: list[Any] = [None if x is None else x.contiguous() for x in stored]
    exposures, *maps, fused = given
    plane = _plane_shape(exposures)
    _require_fit(exposures, {plane: [fused]})
    maps = [x for x in maps if x is not None]
    if maps:
        require(len(maps) == 3, "means, gains and variance must be given together")
        windows = map_shape(exposures, window, "valid")
        _require_fit(exposures, {windows: maps[:2], (plane[0], *windows[2:]): maps[2:]})
    unit = 1 if maps else mef_ma2015.WHITE
    quality, gradient = _new_score(fused, with_gradient)
    call = partial(
        backends.CPU.ma2015_quality,  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        _mef_shape(exposures, sigma, window),
        _addresses(exposures, *maps, *[None] * (3 - len(maps))),
        unit,
        (*_addresses(fused, quality), 0, *_addresses(gradient), 0),
        mef_ma2015.C / unit**2,
    )
    return Prepared(call, given, (quality, gradient))


def new_mefnet_sources(exposures: Tensor) -> Four:
    """Allocate index, mean, variance and desired luminance."""
    batch, _, height, width = exposures.shape
    reference = exposures.new_empty((batch, 1, height, width), dtype=torch.int64)
    mean, variance, luminance = (exposures.new_empty((batch, height, width)) for _ in range(3))
    return reference, mean, variance, luminance


def cpp_mefnet_sources(exposures: Tensor) -> Four:
    exposures = exposures.contiguous()
    maps = new_mefnet_sources(exposures)
    backends.CPU.mefnet_sources(  # type: ignore[union-attr]
        exposures.dtype == torch.float64,
        _mef_shape(exposures, mef_mefnet.SIGMA),
        _addresses(exposures, *maps),
    )
    return maps


def new_mefnet_factors(*arguments: Any) -> Four:
    """Allocate both factors ``(B,)`` and their gradients, empty if not wanted."""
    *_, fused, with_gradient = arguments
    values = fused.new_empty(fused.shape[:1]), fused.new_empty(fused.shape[:1])
    return *values, gradient_like(fused, with_gradient), gradient_like(fused, with_gradient)


def cpp_mefnet_factors(*arguments: Any) -> Four:
    *maps, fused = (x.contiguous() for x in arguments[:-1])
    exposures, reference, *planes = maps
    plane = _plane_shape(exposures)
    _require_fit(exposures, {plane: [*planes, fused]})
    require(
        reference.dtype == torch.int64 and reference.shape == (plane[0], 1, *plane[1:]),
        f"the reference does not fit exposures {tuple(exposures.shape)}",
    )
    factors = new_mefnet_factors(*arguments)
    luminance, structure, grad_luminance, grad_structure = _addresses(*factors)
    backends.CPU.mefnet_factors(  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        _mef_shape(maps[0], mef_mefnet.SIGMA),
        _addresses(*maps),
        (fused.data_ptr(), structure, luminance, grad_structure, grad_luminance),
        mef_mefnet.C1,
        mef_mefnet.C2,
    )
    return factors


def _first_channels(exposures: Tensor) -> Tensor:
    """Return the first channel of ``(B, K, 3, H, W)``, for its sizes."""
    require(
        exposures.ndim == 5 and exposures.shape[2] == 3,
        f"color2018 of {tuple(exposures.shape)} is not defined",
    )
    return exposures[:, :, 0]


def new_color2018_sources(exposures: Tensor) -> Four:
    """Allocate index, mean, variance and desired luminance."""
    shape = map_shape(exposures, mef_color2018.WINDOW, "valid")
    batch, _, _, height, width = shape
    reference = exposures.new_empty((batch, 1, height, width), dtype=torch.int64)
    mean, variance, luminance = (exposures.new_empty((batch, height, width)) for _ in range(3))
    return reference, mean, variance, luminance


def cpp_color2018_sources(exposures: Tensor) -> Four:
    exposures = exposures.contiguous()
    shape = _mef_shape(_first_channels(exposures), None, mef_color2018.WINDOW)
    maps = new_color2018_sources(exposures)
    backends.CPU.color2018_sources(  # type: ignore[union-attr]
        exposures.dtype == torch.float64, shape, _addresses(exposures, *maps)
    )
    return maps


def new_color2018_score(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _new_score(*arguments[-2:])


def cpp_color2018_score(*arguments: Any) -> tuple[Tensor, Tensor]:
    *maps, fused = (x.contiguous() for x in arguments[:-1])
    exposures, reference, *planes = maps
    first = _first_channels(exposures)
    batch, _, *windows = map_shape(first, mef_color2018.WINDOW, "valid")
    colors = (batch, *exposures.shape[2:])
    _require_fit(exposures, {(batch, *windows): planes, colors: [fused]})
    require(
        reference.dtype == torch.int64 and reference.shape == (batch, 1, *windows),
        f"the reference does not fit exposures {tuple(exposures.shape)}",
    )
    score, gradient = new_color2018_score(*arguments)
    backends.CPU.color2018_score(  # type: ignore[union-attr]
        fused.dtype == torch.float64,
        _mef_shape(first, None, mef_color2018.WINDOW),
        _addresses(*maps),
        (*_addresses(fused, score), 0, *_addresses(gradient), 0),
        mef_color2018.C1,
        mef_color2018.C2,
    )
    return score, gradient


def new_half(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return images.new_empty((*images.shape[:-2], (height + 1) // 2, (width + 1) // 2))


def cpp_halve(images: Tensor) -> Tensor:
    prepared = prepare_halve(images)
    prepared.call()
    return prepared.results[0]


def prepare_halve(images: Tensor) -> Prepared:
    images = images.contiguous()
    require(
        images.ndim >= 2 and images.numel() > 0 and images.dtype in (torch.float32, torch.float64),
        f"half of {images.dtype} {tuple(images.shape)} is not defined",
    )
    out = new_half(images)
    height, width = images.shape[-2:]
    call = partial(
        backends.CPU.halve,  # type: ignore[union-attr]
        images.dtype == torch.float64,
        (images.numel() // (height * width), height, width),
        *_addresses(images, out),
        torch.get_num_threads(),
    )
    return Prepared(call, (images,), (out,))


_launch_level = triton_launcher("mef_ssim.ma2015_level", "ma2015_level")
_launch_quality = triton_launcher("mef_ssim.scores", "ma2015_quality")
_launch_mefnet_sources = triton_launcher("mef_ssim.mefnet_sources", "mefnet_sources")
_launch_mefnet_factors = triton_launcher("mef_ssim.scores", "mefnet_factors")


def triton_level(images: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Four:
    return _launch_level(images, window_taps(images, window, sigma))


def triton_quality(*arguments: Any) -> tuple[Tensor, Tensor]:
    given = QualityArguments(*arguments)
    require(given.means is not None, "the Triton kernels need the maps of the exposures")
    taps = window_taps(given.exposures, given.window, given.sigma)
    return _launch_quality(*given[:-2], taps, mef_ma2015.C)


def triton_mefnet_sources(exposures: Tensor) -> Four:
    return _launch_mefnet_sources(exposures, window_taps(exposures, WINDOW, mef_mefnet.SIGMA))


def triton_mefnet_factors(*arguments: Any) -> Four:
    taps = window_taps(arguments[0], WINDOW, mef_mefnet.SIGMA)
    return _launch_mefnet_factors(*arguments, taps, mef_mefnet.C1, mef_mefnet.C2)
