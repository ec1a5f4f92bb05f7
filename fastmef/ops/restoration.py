"""fuse_restored: the plain weighted sum of stored exposures, its washed-out colour given back.

For inference: it has no gradient. The C++ kernels read and write the types of
:mod:`fastmef.ops.fusion`; elsewhere softmax_fuse is followed by plain PyTorch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops import fusion
from fastmef.ops.common.operation import STORED, Operation, Support
from fastmef.ops.common.tensors import (
    color_stack,
    fused_like,
    fused_stack,
    gradient_like,
    gray_stack,
    require,
)
from fastmef.ops.fusion_kernels import Inputs
from fastmef.reference.color import GRAY_COEFFICIENTS
from fastmef.reference.fusion import stored_like
from fastmef.reference.multiscale import highest_value, unit_range, working_dtype
from fastmef.reference.restoration import CLIPPED_TRUST, NOISE_FLOOR, restore_color

FUSE_RESTORED = Operation("fuse_restored", cpp=Support(STORED))


def _new_outputs(
    logits: Tensor, exposures: Tensor, strength: float, want_weights: bool
) -> tuple[Tensor, Tensor]:
    return fused_like(exposures), gradient_like(logits, want_weights)


def _cpp(
    logits: Tensor, exposures: Tensor, strength: float, want_weights: bool
) -> tuple[Tensor, Tensor]:
    inputs = Inputs(logits, exposures, 1.0, None)
    inputs.require_fit()
    require(exposures.shape[2] == 3, f"exposures {tuple(exposures.shape)} are not RGB")
    fused, weights = _new_outputs(logits, exposures, strength, want_weights)
    backends.CPU.fuse_restored(  # type: ignore[union-attr]
        inputs.in_double,
        tuple(exposures.shape),
        gray_stack(logits),
        color_stack(exposures),
        fused_stack(fused),
        gray_stack(weights if want_weights else None),
        strength,
        NOISE_FLOOR,
        CLIPPED_TRUST,
        GRAY_COEFFICIENTS,
        torch.get_num_threads(),
    )
    return fused, weights


_fuse = FUSE_RESTORED.register(
    "fuse_restored(Tensor logits, Tensor exposures, float strength, bool want_weights)"
    " -> (Tensor, Tensor)",
    _new_outputs,
    cpp=_cpp,
)


def fuse_restored(
    logits: Tensor, exposures: Tensor, strength: float, want_weights: bool = True
) -> tuple[Tensor, Tensor]:
    """Fuse as softmax_fuse does, with the colour of ``restore_color``.

    Args:
        logits: ``(B, K, H, W)``, floating point.
        exposures: ``(B, K, 3, H, W)``, or grey with strength 0, as they are stored: integers stand
            for [0, 1].
        strength: of :func:`fastmef.reference.restoration.restore_color`.
        want_weights: without it the weights are empty where kernels run.

    Returns:
        The fused image ``(B, 3, H, W)`` in the dtype and layout of the exposures, integers rounded
        once, and the weights ``(B, K, H, W)`` in the dtype of the logits.
    """
    if not strength:
        return fusion.softmax_fuse(logits, exposures, want_weights)
    if FUSE_RESTORED.has_kernels_for(logits, exposures):
        return _fuse(logits, exposures, strength, want_weights)
    dtype = working_dtype(logits, exposures)
    images = unit_range(exposures, dtype)
    fused, weights = fusion.softmax_fuse(logits.to(dtype), images)
    fused = restore_color(fused, weights, images, strength)
    stored = stored_like(fused * highest_value(exposures.dtype), exposures)
    return stored, weights.to(logits.dtype)
