"""The variants of softmax_fuse that are compiled ahead of time."""

from __future__ import annotations

from typing import Any

from ..common.launching import BYTES, BYTES_IN_FLIGHT, Configuration
from .backward import fuse_backward_kernel
from .forward import fuse_kernel
from .rows import WARPS, columns_for


def _configuration(
    exposures: str, count: int, backward: bool = False, interleaved: bool = False
) -> Configuration:
    """Return a variant for RGB exposures in long rows and float32 logits, without weights."""
    columns = columns_for(count)
    image = "grad_fused" if backward else "fused"
    dense = ["width", "pixels", "logits_layer", "logits_batch", "logits_row", "fused_row"]
    dense += ["exposures_batch", "exposures_layer", "exposures_row"]
    dense += ["fused_batch"] if backward else []
    addresses = ["logits", "grad_logits"] if backward else ["logits"]
    signature = {
        **dict.fromkeys(addresses, "*fp32:16"),
        **dict.fromkeys(("exposures", image), f"*{exposures}:16"),
        **dict.fromkeys(dense, "i32:16"),
    }
    unit, other = ("channel", "column") if interleaved else ("column", "channel")
    constants: dict[str, Any] = {"K": count, "C": 3, "COLUMNS": columns}
    constants |= {"height": 1, "logits_column": 1}
    for x in ("exposures", "fused"):
        constants[f"{x}_{unit}"] = 1
        signature[f"{x}_{other}"] = "i32" if interleaved else "i32:16"
    absent = ("grad_weights", "grad_exposures") if backward else ("weights",)
    constants |= dict.fromkeys(absent)
    if backward:
        constants |= {f"weights_{x}": 0 for x in ("batch", "layer", "row", "column")}
    size = BYTES[exposures]
    return Configuration(
        name=f"{'backward' if backward else 'forward'}, K={count}, {exposures}"
        + (", channels last" if interleaved else ""),
        kernel=fuse_backward_kernel if backward else fuse_kernel,
        signature=signature,
        constants=constants,
        pixels=columns,
        bytes_per_pixel=4 * count * (2 if backward else 1) + 3 * size * (count + 1),
        resident=BYTES_IN_FLIGHT,
        num_warps=WARPS,
    )


CONFIGURATIONS = [
    *(_configuration(dtype, 2) for dtype in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_configuration(dtype, 2, interleaved=True) for dtype in ("u8", "fp32")),
    *(_configuration("fp32", count) for count in (3, 5, 8)),
    *(_configuration("fp32", count, backward=True) for count in (2, 3, 5, 8)),
    _configuration("bf16", 2, backward=True),
]
