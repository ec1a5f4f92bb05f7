"""The variants of softmax_fuse that are compiled ahead of time."""

from __future__ import annotations

from ..common.launching import ARITHMETIC, BYTES, BYTES_IN_FLIGHT, Configuration
from .backward import LAYOUTS as BACKWARD_LAYOUTS
from .backward import fuse_backward_kernel
from .forward import LAYOUTS, fuse_kernel
from .rows import WARPS, columns_for


def _configuration(
    exposures: str,
    count: int,
    backward: bool = False,
    layout: str = "one row, vectors",
    every: bool = False,
) -> Configuration:
    """List a variant for RGB exposures and float32 logits.

    With ``every`` gradient: w.r.t. the exposures too, and of the weights.
    """
    kernel, layouts = (
        (fuse_backward_kernel, BACKWARD_LAYOUTS) if backward else (fuse_kernel, LAYOUTS)
    )
    columns = columns_for(count)
    size = BYTES[exposures]
    absent = () if every else ("grad_weights", "grad_exposures") if backward else ("weights",)
    images = ("exposures", "fused", "grad_fused", "grad_exposures")
    types = dict.fromkeys(("logits", "grad_logits", "grad_weights"), "*fp32")
    return kernel.configuration(
        f"{'backward' if backward else 'forward'}, K={count}, {exposures}, {layout}"
        + (", every gradient" if every else ""),
        types | dict.fromkeys(images, f"*{exposures}"),
        {"K": count, "C": 3, "COLUMNS": columns, **dict.fromkeys(absent)},
        list(layouts).index(layout),
        pixels=columns,
        bytes_per_pixel=4 * count * (1 + backward + every) + 3 * size * (count + 1 + count * every),
        # Single values and every gradient take more registers.
        resident=ARITHMETIC if every and "vectors" not in layout else BYTES_IN_FLIGHT,
        num_warps=WARPS,
    )


_OTHERS = list(LAYOUTS)[1:]
CONFIGURATIONS = [
    *(_configuration(dtype, 2) for dtype in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_configuration(dtype, 2, layout=x) for dtype in ("u8", "fp32") for x in _OTHERS),
    *(_configuration("fp32", count) for count in (3, 5, 8)),
    *(_configuration("fp32", count, backward=True) for count in (2, 3, 5, 8)),
    *(_configuration("fp32", 2, backward=True, layout=x, every=True) for x in _OTHERS),
    _configuration("fp32", 2, backward=True, every=True),
    _configuration("bf16", 2, backward=True),
]
