"""Fusion by a weighted sum of the exposures at every pixel."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.functional._checks import (
    check_dense,
    check_flag,
    check_image,
    check_one_device,
    check_positive,
    check_stack,
)
from fastmef.ops import fusion as ops


@overload
def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    return_weights: Literal[False] = False,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor: ...


@overload
def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    return_weights: Literal[True],
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...


def softmax_fuse(
    logits: Tensor,
    exposures: Tensor,
    return_weights: bool = False,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Return the sum of the exposures, weighted by the softmax of the logits.

    .. math:: F = \sum_k W_k I_k, \qquad W = \mathrm{softmax}_k(\text{logits} / T)

    Every pixel of F lies between the smallest and largest exposure there. Sums are formed in
    float32, in float64 where logits or exposures are float64.

    Args:
        logits: floating point, ``(B, K, H, W)``; finite, or -inf for an exposure without weight.
            A pixel with +inf or NaN, or with nothing but -inf, is NaN, as in PyTorch.
        exposures: ``(B, K, C, H, W)``, usually RGB, or grey ``(B, K, H, W)``; floating point of any
            range, uint8 or uint16. The dtype may differ from that of the logits.
        return_weights: whether to return W as well.
        temperature: T > 0. Below 1 the weights are sharper, above 1 softer.
        valid: bool ``(B, K, H, W)``; an exposure weighs nothing where it is false. Where no
            exposure is valid all of them count.

    Returns:
        F ``(B, C, H, W)``, or ``(B, H, W)`` for exposures without channels, in the dtype of the
        exposures; or ``(F, W)`` with W ``(B, K, H, W)`` in the dtype of the logits.
        Integers are rounded to the nearest; backends may differ by one level where a sum lies
        within float32 rounding of the middle between two. They carry no gradient, W does.

    Memory: C++ and CUDA C++ kernels allocate the results alone; Triton also copies the logits if
    the temperature is not 1 or ``valid`` is given. The inputs are saved for the backward pass.

    Raises:
        InputError: shapes that do not fit, another dtype, two devices.

    Source: arXiv 2510.21815.

    Example:
        >>> logits, exposures = torch.zeros(1, 3, 4, 5), torch.rand(1, 3, 3, 4, 5)
        >>> fused, weights = softmax_fuse(logits, exposures, return_weights=True)
        >>> torch.testing.assert_close(fused, exposures.mean(dim=1))
        >>> weights.shape
        torch.Size([1, 3, 4, 5])
    """
    check_stack("logits", logits)
    check_image("exposures", exposures)
    is_gray = exposures.ndim == 4
    expected = exposures.shape[:2] + exposures.shape[-2:]
    if exposures.ndim not in (4, 5) or expected != logits.shape:
        raise InputError(
            "exposures must be (B, K, C, H, W) or (B, K, H, W) for logits (B, K, H, W), "
            f"got {tuple(exposures.shape)} and {tuple(logits.shape)}"
        )
    if 0 in exposures.shape:
        raise InputError(f"exposures must have a channel, got {tuple(exposures.shape)}")
    check_one_device("logits", logits, "exposures", exposures)
    check_flag("return_weights", return_weights)
    check_positive("temperature", temperature)
    _check_valid(valid, logits)
    stack = exposures.unsqueeze(2) if is_gray else exposures
    fused, weights = ops.softmax_fuse(logits, stack, return_weights, temperature, valid)
    fused = fused.squeeze(1) if is_gray else fused
    return (fused, weights) if return_weights else fused


def _check_valid(valid: Tensor | None, logits: Tensor) -> None:
    if valid is None:
        return
    check_dense("valid", valid)
    if valid.dtype != torch.bool or valid.shape != logits.shape:
        got = f"{valid.dtype} {tuple(valid.shape)}"
        raise InputError(f"valid must be bool {tuple(logits.shape)} like logits, got {got}")
    if valid.device != logits.device:
        raise InputError(
            f"valid and logits must be on one device, got {valid.device}, {logits.device}"
        )
