r"""softmax_fuse: :math:`F = \sum_k W_k I_k`, :math:`W = \mathrm{softmax}_k(x)`, and its gradients

.. math::
    \partial L / \partial x_k = W_k (t_k - \sum_j W_j t_j), \quad
    t_k = \sum_c \partial L / \partial F_c I_{kc} + \partial L / \partial W_k, \quad
    \partial L / \partial I_{kc} = W_k \partial L / \partial F_c

One pass each way. A program owns some columns of one row; rows that follow each other in memory
count as one long row. A thread holds all exposures' weights of its pixels in registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from ._exposures import load_layers, softmax
from ._launch import BYTES, BYTES_ON_THE_WAY, Configuration, cdiv, launch
from ._tile import locate, stored

if TYPE_CHECKING:
    from torch import Tensor

WARPS = 4


def _columns(count: int) -> int:
    """Columns of a program: about 32 weights in each of its 128 threads. Not timed on a GPU."""
    return 1024 if count <= 4 else 512 if count <= 8 else 128


@triton.jit
def _place(width, height, COLUMNS: tl.constexpr):
    """Batch, row and first column (int64) of this program, its lanes, and which are in the row."""
    b, y, first = locate(tl.program_id(0), width, height, COLUMNS)
    lane = tl.arange(0, COLUMNS).to(tl.int64)
    return b, y, first, lane, lane < width - first


@triton.jit
def fuse_kernel(
    logits,
    exposures,
    fused,
    weights,
    height,
    width,
    pixels,
    logits_batch,
    logits_layer,
    logits_row,
    logits_column,
    exposures_batch,
    exposures_layer,
    exposures_channel,
    exposures_row,
    exposures_column,
    fused_channel,
    fused_row,
    fused_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    b, y, first, lane, inside = _place(width, height, COLUMNS)
    logits += b * logits_batch + y * logits_row + first * logits_column + lane * logits_column
    weight = softmax(load_layers(logits, logits_layer, inside, K), K)
    if weights is not None:
        weights += b * K * pixels + y * width + first
        for k in tl.static_range(K):
            tl.store(weights + lane, stored(weight[k], weights.dtype.element_ty), mask=inside)
            weights += pixels

    exposures += b * exposures_batch + y * exposures_row + first * exposures_column
    # A result of the batch is dense, in any order of its axes.
    fused += b * C * pixels + y * fused_row + first * fused_column
    for _ in tl.static_range(C):
        total = tl.zeros((COLUMNS,), tl.float32)
        layer = exposures
        for k in tl.static_range(K):
            values = tl.load(layer + lane * exposures_column, mask=inside, other=0)
            total += weight[k] * values.to(tl.float32)
            layer += exposures_layer
        to = fused + lane * fused_column
        tl.store(to, stored(total, fused.dtype.element_ty), mask=inside)
        exposures += exposures_channel
        fused += fused_channel


@triton.jit
def fuse_backward_kernel(
    by_fused,
    by_weights,
    logits,
    exposures,
    by_logits,
    by_exposures,
    height,
    width,
    pixels,
    fused_batch,
    fused_channel,
    fused_row,
    fused_column,
    weights_batch,
    weights_layer,
    weights_row,
    weights_column,
    logits_batch,
    logits_layer,
    logits_row,
    logits_column,
    exposures_batch,
    exposures_layer,
    exposures_channel,
    exposures_row,
    exposures_column,
    K: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    b, y, first, lane, inside = _place(width, height, COLUMNS)
    logits += b * logits_batch + y * logits_row + first * logits_column + lane * logits_column
    weight = softmax(load_layers(logits, logits_layer, inside, K), K)
    if by_fused is not None:
        by_fused += b * fused_batch + y * fused_row + first * fused_column + lane * fused_column
    if by_weights is not None:
        by_weights += b * weights_batch + y * weights_row + first * weights_column
    exposures += b * exposures_batch + y * exposures_row + first * exposures_column
    # Gradients are dense.
    here = y * width + first + lane

    if by_exposures is not None:
        to = by_exposures + b * K * C * pixels + here
        for k in tl.static_range(K):
            upstream = by_fused
            for _ in tl.static_range(C):
                value = weight[k] * tl.load(upstream, mask=inside, other=0).to(tl.float32)
                tl.store(to, stored(value, by_exposures.dtype.element_ty), mask=inside)
                upstream += fused_channel
                to += pixels

    if by_logits is not None:
        terms = ()
        mean = tl.zeros((COLUMNS,), tl.float32)
        for k in tl.static_range(K):
            term = tl.zeros((COLUMNS,), tl.float32)
            if by_weights is not None:
                at = by_weights + lane * weights_column
                term += tl.load(at, mask=inside, other=0).to(tl.float32)
                by_weights += weights_layer
            if by_fused is not None:
                channel = exposures + lane * exposures_column
                upstream = by_fused
                for _ in tl.static_range(C):
                    values = tl.load(channel, mask=inside, other=0).to(tl.float32)
                    term += tl.load(upstream, mask=inside, other=0).to(tl.float32) * values
                    channel += exposures_channel
                    upstream += fused_channel
                exposures += exposures_layer
            mean += weight[k] * term
            terms = terms + (term,)
        to = by_logits + b * K * pixels + here
        for k in tl.static_range(K):
            value = weight[k] * (terms[k] - mean)
            tl.store(to, stored(value, by_logits.dtype.element_ty), mask=inside)
            to += pixels


def _one_row(*images: Tensor | None) -> bool:
    """Whether in each tensor every row begins where the row before it ends."""
    given = [x for x in images if x is not None]
    return all(x.shape[-2] == 1 or x.stride(-2) == x.shape[-1] * x.stride(-1) for x in given)


def _size(images: Tensor, one_row: bool) -> tuple[int, int]:
    height, width = images.shape[-2:]
    return (1, height * width) if one_row else (height, width)


def softmax_fuse(logits: Tensor, exposures: Tensor, fused: Tensor, weights: Tensor | None) -> None:
    """Fills ``fused``, dense in any order of its last three axes, and ``weights``, contiguous."""
    batch, count, channels = exposures.shape[:3]
    height, width = _size(logits, _one_row(logits, exposures, fused))
    columns = _columns(count)
    launch(
        fuse_kernel,
        batch * height * cdiv(width, columns),
        logits.device,
        logits,
        exposures,
        fused,
        weights,
        height,
        width,
        height * width,
        *logits.stride(),
        *exposures.stride(),
        *fused.stride()[1:],
        K=count,
        C=channels,
        COLUMNS=columns,
        num_warps=WARPS,
    )


def softmax_fuse_backward(
    by_fused: Tensor | None,
    by_weights: Tensor | None,
    logits: Tensor,
    exposures: Tensor,
    by_logits: Tensor | None,
    by_exposures: Tensor | None,
) -> None:
    """Fills ``by_logits`` and ``by_exposures``, both contiguous."""
    batch, count, channels = exposures.shape[:3]
    height, width = _size(logits, _one_row(by_fused, by_weights, logits, exposures))
    columns = _columns(count)
    launch(
        fuse_backward_kernel,
        batch * height * cdiv(width, columns),
        logits.device,
        by_fused,
        by_weights,
        logits,
        exposures,
        by_logits,
        by_exposures,
        height,
        width,
        height * width,
        *((0, 0, 0, 0) if by_fused is None else by_fused.stride()),
        *((0, 0, 0, 0) if by_weights is None else by_weights.stride()),
        *logits.stride(),
        *exposures.stride(),
        K=count,
        C=channels,
        COLUMNS=columns,
        num_warps=WARPS,
    )


def _configuration(
    exposures: str, count: int, backward: bool = False, interleaved: bool = False
) -> Configuration:
    """RGB exposures in long rows, float32 logits; the weights are not wanted themselves."""
    columns = _columns(count)
    image = "by_fused" if backward else "fused"
    dense = ["width", "pixels", "logits_layer", "logits_batch", "logits_row", "fused_row"]
    dense += ["exposures_batch", "exposures_layer", "exposures_row"]
    dense += ["fused_batch"] if backward else []
    addresses = ["logits", "by_logits"] if backward else ["logits"]
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
    absent = ("by_weights", "by_exposures") if backward else ("weights",)
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
        resident=BYTES_ON_THE_WAY,
        num_warps=WARPS,
    )


CONFIGURATIONS = [
    *(_configuration(dtype, 2) for dtype in ("u8", "u16", "fp16", "bf16", "fp32")),
    *(_configuration(dtype, 2, interleaved=True) for dtype in ("u8", "fp32")),
    *(_configuration("fp32", count) for count in (3, 5, 8)),
    *(_configuration("fp32", count, backward=True) for count in (2, 3, 5, 8)),
    _configuration("bf16", 2, backward=True),
]
