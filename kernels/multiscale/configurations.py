"""The variants of multiscale_fuse that are compiled ahead of time."""

from __future__ import annotations

from typing import Any

from ..common.configurations import configuration
from ..common.launching import (
    BYTES,
    BYTES_IN_FLIGHT,
    MANY_MAPS,
    SINGLE_VALUES,
    Configuration,
    Kernel,
)
from ..common.windows import COLUMNS
from .activity import activity_kernel
from .backward import blend_backward_kernel
from .blend import LAYOUTS, blend_kernel, columns_for
from .reduce import reduce_kernel

_FLOATS = ("scale", "floor", "fine_scale", "coarse_scale", "unit", "contrast", "low", "high")
STRIDES = ("", ", channels last", ", any strides")  # layouts of reduce and activity


def _configuration(
    name: str,
    kernel: Kernel,
    types: dict[str, str],
    constants: dict[str, Any],
    size: float,
    **others: Any,
) -> Configuration:
    """Return a variant with the float32 arguments that the kernel has."""
    given = {x: f"*{dtype}" for x, dtype in types.items()}
    given |= {x: "fp32" for x in _FLOATS if x in kernel.arg_names}
    return configuration(name, kernel, given, constants, size, **others)


def _reduce_configuration(dtype: str, to: str, layout: int = 0) -> Configuration:
    """Return a variant of the kernel for the next level."""
    return _configuration(
        f"reduce, {dtype} to {to}{STRIDES[layout]}",
        reduce_kernel,
        {"fine": dtype, "coarse": to},
        {"K": 2, "C": 3, "COLUMNS": 256},
        4 * BYTES[dtype] + BYTES[to],
        resident=SINGLE_VALUES,
        pixels=256,
        layout=layout,
    )


def _activity_configuration(dtype: str, layout: int = 0) -> Configuration:
    """Return a variant of the activity kernel for two RGB exposures."""
    colours = {"RED": 0.3, "GREEN": 0.59, "BLUE": 0.11}
    return _configuration(
        f"activity, {dtype}{STRIDES[layout]}",
        activity_kernel,
        {"fine": dtype, "activity": "fp32"},
        {"K": 2, "C": 3, "RADIUS": 4, "COLUMNS": COLUMNS, "shares": None, **colours},
        3 * BYTES[dtype] + 4,
        resident=MANY_MAPS,
        layout=layout,
    )


def _blend_configuration(
    fine: str,
    coarse: str,
    count: int,
    finest: bool = True,
    same_size: bool = False,
    layout: str = "vectors",
    with_slope: bool = False,
) -> Configuration:
    """Return a variant of the blend kernel for RGB exposures."""
    columns = columns_for(count)
    out = fine if finest else "fp32"
    return _configuration(
        f"blend, K={count}, {fine} over {coarse}"
        + ("" if finest else ", inner")
        + (", of one size" if same_size else "")
        + f", {layout}"
        + (", with slope" if with_slope else ""),
        blend_kernel,
        {"fine": fine, "coarse": coarse, "fused_coarse": "fp32", "activity": "fp32", "fused": out}
        | ({"slope": "fp32"} if with_slope else {}),
        {"K": count, "C": 3, "COLUMNS": columns, "COMPRESS": finest, "SAME": same_size}
        | ({} if with_slope else {"slope": None}),
        3 * (count * BYTES[coarse] + 4) * (1 if same_size else 1 / 4)
        + count * (3 * BYTES[fine] + 4)
        + 3 * BYTES[out]
        + 12 * with_slope,
        resident=BYTES_IN_FLIGHT if count <= 3 else MANY_MAPS,
        pixels=columns,
        layout=list(LAYOUTS).index(layout),
    )


def _backward_configuration(dtype: str, bends: bool, layout: int = 0) -> Configuration:
    """Return a variant of the backward kernel."""
    slope = {"slope": "fp32"} if bends else {}
    return _configuration(
        f"backward, {dtype}"
        + (", with slope" if bends else "")
        + (", any strides" if layout else ""),
        blend_backward_kernel,
        {"grad": dtype, "grad_coarse": "fp32", **slope},
        {"C": 3, "COLUMNS": 256, **({} if bends else {"slope": None})},
        4 * BYTES[dtype] + 16 * bends + 4,
        resident=BYTES_IN_FLIGHT,
        pixels=256,
        layout=layout,
    )


_OTHERS = list(LAYOUTS)[1:]
CONFIGURATIONS = [
    *(_reduce_configuration("u8", "u16", layout) for layout in (0, 1, 2)),
    *(_reduce_configuration(x, "fp32") for x in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_activity_configuration(x) for x in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_activity_configuration("u8", layout) for layout in (1, 2)),
    *(_blend_configuration("u8", "u16", count) for count in (2, 3, 5, 8)),
    *(_blend_configuration("u8", "u16", 2, layout=x) for x in _OTHERS),
    _blend_configuration("u16", "u16", 2, finest=False),
    _blend_configuration("fp32", "fp32", 2, finest=False, same_size=True),
    *(_blend_configuration(x, "fp32", 2) for x in ("fp16", "bf16", "fp32")),
    _blend_configuration("fp32", "fp32", 2, with_slope=True),
    *(_backward_configuration(x, True) for x in ("bf16", "fp32")),
    _backward_configuration("fp32", False),
    _backward_configuration("fp32", True, layout=1),
]
