"""The variants of guided_upsample_fuse that are compiled ahead of time."""

from __future__ import annotations

from typing import Any

from ..common.launching import (
    BYTES,
    BYTES_IN_FLIGHT,
    MANY_MAPS,
    SINGLE_VALUES,
    Configuration,
    Kernel,
)
from .fuse import WARPS, fuse_kernel, tile_size
from .guide import SMALL_COLUMNS, guide_kernel

LAYOUTS = ("planar", "channels last", "any strides")  # of both kernels


def _configuration(kernel: Kernel, dtype: str, count: int, layout: int = 0) -> Configuration:
    """Return a variant for RGB exposures and small images of a quarter of each side."""
    size = BYTES[dtype]
    full, small = kernel is fuse_kernel, 1 / 16
    lines, columns = tile_size(count) if full else (0, SMALL_COLUMNS)
    constants: dict[str, Any] = {"K": count, "RED": 0.1, "GREEN": 0.2, "BLUE": 0.04}
    constants |= {"COLUMNS": columns, **({"LINES": lines} if full else {})}
    types = {"exposures": f"*{dtype}", "fused": f"*{dtype}"}
    return kernel.configuration(
        f"{'fuse' if full else 'guide'}, K={count}, {dtype}"
        + (f", {LAYOUTS[layout]}" if layout else ""),
        types | dict.fromkeys(("slopes", "offsets", "guide"), "*fp32"),
        constants,
        layout,
        pixels=columns,
        bytes_per_pixel=3 * size * (count + full) + small * 4 * (2 * count if full else 1),
        resident=SINGLE_VALUES if not full else BYTES_IN_FLIGHT if count == 2 else MANY_MAPS,
        num_warps=WARPS,
    )


CONFIGURATIONS = [
    *(_configuration(fuse_kernel, dtype, 2) for dtype in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_configuration(fuse_kernel, "u8", count) for count in (3, 5, 8)),
    *(_configuration(fuse_kernel, "u8", 2, layout) for layout in (1, 2)),
    *(_configuration(guide_kernel, dtype, 2) for dtype in ("u8", "fp32")),
    *(_configuration(guide_kernel, "u8", 2, layout) for layout in (1, 2)),
]
