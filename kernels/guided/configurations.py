"""The variants of guided_upsample_fuse that are compiled ahead of time."""

from __future__ import annotations

from typing import Any

from ..common.launching import BYTES, BYTES_IN_FLIGHT, MANY_MAPS, SINGLE_VALUES, Configuration
from .fuse import WARPS, fuse_kernel, tile_size
from .guide import SMALL_COLUMNS, guide_kernel


def _configuration(kernel: Any, dtype: str, count: int, interleaved: bool = False) -> Configuration:
    """Return a variant for RGB exposures and small images of a quarter of each side."""
    size = BYTES[dtype]
    lines, columns = tile_size(count)
    unit = "channel" if interleaved else "column"
    constants: dict[str, Any] = {"K": count, "RED": 0.1, "GREEN": 0.2, "BLUE": 0.04}
    constants |= {f"{unit}_stride": 1, "COLUMNS": columns}
    if kernel is fuse_kernel:
        constants |= {f"fused_{unit}": 1, "LINES": lines}
    else:
        constants["COLUMNS"] = columns = SMALL_COLUMNS
    images = {"exposures": f"*{dtype}:16", "fused": f"*{dtype}:16"}
    images |= dict.fromkeys(("slopes", "offsets", "guide"), "*fp32:16")
    sizes = ("height", "width", "rows", "columns", "most")
    types = {**images, **dict.fromkeys(sizes, "i32")}
    if interleaved:
        types |= {"column_stride": "i32", "fused_column": "i32"}
    full, small = kernel is fuse_kernel, 1 / 16
    return Configuration(
        name=f"{'fuse' if full else 'guide'}, K={count}, {dtype}"
        + (", channels last" if interleaved else ""),
        kernel=kernel,
        signature={x: types.get(x, "i32:16") for x in kernel.arg_names if x not in constants},
        constants=constants,
        pixels=columns,
        bytes_per_pixel=3 * size * (count + full) + small * 4 * (2 * count if full else 1),
        resident=SINGLE_VALUES if not full else BYTES_IN_FLIGHT if count == 2 else MANY_MAPS,
        num_warps=WARPS,
    )


CONFIGURATIONS = [
    *(_configuration(fuse_kernel, dtype, 2) for dtype in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_configuration(fuse_kernel, "u8", count) for count in (3, 5, 8)),
    _configuration(fuse_kernel, "u8", 2, interleaved=True),
    *(_configuration(guide_kernel, dtype, 2) for dtype in ("u8", "fp32")),
    _configuration(guide_kernel, "u8", 2, interleaved=True),
]
