"""The variants of multiscale_fuse that are compiled ahead of time."""

from __future__ import annotations

from typing import Any

from ..common.configurations import configuration
from ..common.launching import BYTES, BYTES_IN_FLIGHT, MANY_MAPS, SINGLE_VALUES, Configuration
from ..common.windows import COLUMNS
from .activity import activity_kernel
from .backward import blend_backward_kernel
from .blend import blend_kernel, columns_for
from .reduce import reduce_kernel


def _types(**pointers: str) -> dict[str, str]:
    """Return the types of aligned pointers to these dtypes."""
    return {name: f"*{dtype}:16" for name, dtype in pointers.items()}


_FLOATS = ("scale", "floor", "fine_scale", "coarse_scale", "unit", "contrast", "low", "high")


def _configuration(
    name: str,
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    bytes_per_pixel: float,
    **options: Any,
) -> Configuration:
    """Return a variant with the float32 arguments that the kernel has."""
    numbers = {x: "fp32" for x in _FLOATS if x in kernel.arg_names}
    return configuration(name, kernel, {**types, **numbers}, constants, bytes_per_pixel, **options)


def _reduce_configuration(dtype: str, to: str, interleaved: bool = False) -> Configuration:
    """Return a variant of the kernel for the next level."""
    constants = {"K": 2, "C": 3, "COLUMNS": 256}
    constants |= {"fine_channel" if interleaved else "fine_column": 1}
    return _configuration(
        f"reduce, {dtype} to {to}" + (", channels last" if interleaved else ""),
        reduce_kernel,
        _types(fine=dtype, coarse=to),
        constants,
        4 * BYTES[dtype] + BYTES[to],
        resident=SINGLE_VALUES,
        pixels=256,
    )


def _activity_configuration(dtype: str, interleaved: bool = False) -> Configuration:
    """Return a variant of the activity kernel for two RGB exposures."""
    colours = {"RED": 0.3, "GREEN": 0.59, "BLUE": 0.11}
    constants = {"K": 2, "C": 3, "RADIUS": 4, "COLUMNS": COLUMNS, "shares": None, **colours}
    constants |= {"fine_channel" if interleaved else "fine_column": 1}
    return _configuration(
        f"activity, {dtype}" + (", channels last" if interleaved else ""),
        activity_kernel,
        _types(fine=dtype, activity="fp32"),
        constants,
        3 * BYTES[dtype] + 4,
        resident=MANY_MAPS,
    )


def _blend_configuration(
    fine: str,
    coarse: str,
    count: int,
    finest: bool = True,
    interleaved: bool = False,
    same_size: bool = False,
) -> Configuration:
    """Return a variant of the blend kernel for RGB exposures."""
    columns = columns_for(count)
    constants: dict[str, Any] = {"K": count, "C": 3, "COLUMNS": columns, "COMPRESS": finest}
    constants |= {"SAME": same_size, "slope": None, "coarse_column": 1, "fused_coarse_column": 1}
    unit = "channel" if interleaved else "column"
    constants |= {f"fine_{unit}": 1, f"fused_{unit}": 1}
    out = fine if finest else "fp32"
    types = _types(fine=fine, coarse=coarse, fused_coarse="fp32", activity="fp32", fused=out)
    return _configuration(
        f"blend, K={count}, {fine} over {coarse}"
        + ("" if finest else ", inner")
        + (", of one size" if same_size else "")
        + (", channels last" if interleaved else ""),
        blend_kernel,
        types,
        constants,
        3 * (count * BYTES[coarse] + 4) * (1 if same_size else 1 / 4)
        + count * (3 * BYTES[fine] + 4)
        + 3 * BYTES[out],
        resident=BYTES_IN_FLIGHT if count <= 3 else MANY_MAPS,
        pixels=columns,
    )


def _backward_configuration(dtype: str, with_slope: bool) -> Configuration:
    """Return a variant of the backward kernel."""
    constants = {
        "C": 3,
        "COLUMNS": 256,
        "grad_column": 1,
        **({} if with_slope else {"slope": None}),
    }
    types = _types(grad=dtype, grad_coarse="fp32", **({"slope": "fp32"} if with_slope else {}))
    return _configuration(
        f"backward, {dtype}" + (", with slope" if with_slope else ""),
        blend_backward_kernel,
        types,
        constants,
        4 * BYTES[dtype] + 16 * with_slope + 4,
        resident=BYTES_IN_FLIGHT,
        pixels=256,
    )


CONFIGURATIONS = [
    _reduce_configuration("u8", "u16"),
    _reduce_configuration("u8", "u16", interleaved=True),
    *(_reduce_configuration(x, "fp32") for x in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_activity_configuration(x) for x in ("u8", "u16", "fp16", "bf16", "fp32")),
    _activity_configuration("u8", interleaved=True),
    *(_blend_configuration("u8", "u16", count) for count in (2, 3, 5, 8)),
    _blend_configuration("u8", "u16", 2, interleaved=True),
    _blend_configuration("u16", "u16", 2, finest=False),
    _blend_configuration("fp32", "fp32", 2, finest=False, same_size=True),
    *(_blend_configuration(x, "fp32", 2) for x in ("fp16", "bf16", "fp32")),
    *(_backward_configuration(x, True) for x in ("bf16", "fp32")),
    _backward_configuration("fp32", False),
]
