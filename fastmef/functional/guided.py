"""Fusion of full-size exposures with logits of a smaller size."""

from __future__ import annotations

from torch import Tensor

from fastmef.errors import InputError, shown
from fastmef.functional._checks import check_image, check_one_device, check_positive, check_stack
from fastmef.ops import guided as ops

LARGEST_RADIUS = 32767


def guided_upsample_fuse(
    logits: Tensor, exposures: Tensor, radius: int = 2, eps: float = 1e-4
) -> Tensor:
    r"""Fuse full-size exposures with logits that were computed at a smaller size.

    The logits are enlarged by the fast guided filter. In every window at the small size, each logit
    is fitted by a linear function of the guide g, the mean luma of the exposures. The coefficients
    are applied to the guide at full size, so that weights change where the picture does.

    .. math::
        a_k = \frac{\operatorname{cov}(g, x_k)}{\operatorname{var}(g) + \epsilon}, \quad
        b_k = \bar x_k - a_k \bar g, \qquad
        F = \sum_k \mathrm{softmax}_k(\uparrow\!\bar a_k\, g + \uparrow\!\bar b_k)\, I_k

    Bars are window means at the small size, ↑ is bilinear upsampling. The small guide is the mean
    of g over the full-size pixels that each small pixel covers, so the logits should come from
    exposures reduced by averaging. Every pixel of F lies between the smallest and largest exposure
    there.

    Args:
        logits: ``(B, K, h, w)``, h ≤ H and w ≤ W, floating point.
        exposures: ``(B, K, 3, H, W)``, or grey ``(B, K, 1, H, W)`` or ``(B, K, H, W)``, floating
            point in [0, 1], uint8 or uint16. Grey takes the time of RGB.
        radius: half the side of the windows, from 0 to 32767. A window has ``2 radius + 1`` pixels
            of the small size along each axis and is cropped at borders.
        eps: the variance of the guide below which it counts as flat, > 0. A large value blurs.

    Returns:
        F ``(B, 3, H, W)``, ``(B, 1, H, W)`` or ``(B, H, W)`` in the dtype and layout of the
        exposures, integers rounded to the nearest.

    Memory: beside F, a GPU takes coefficients of the small size; on the CPU plain PyTorch takes
    weights and products of the full size.

    The function is differentiable w.r.t. logits and floating-point exposures. On every device plain
    PyTorch computes these gradients.

    Raises:
        InputError: shapes that do not fit, another dtype, a radius or eps out of range.

    Source: He, Sun, Tang, Guided Image Filtering, TPAMI 35(6), 2013; He, Sun, Fast Guided Filter,
    arXiv 1505.00996. On three photographs reduced to a quarter, larger windows and larger eps
    scored lower. A separate guide for each exposure, tried with one setting, scored no higher than
    the mean guide.

    Example:
        >>> logits, exposures = torch.zeros(1, 2, 8, 8), torch.rand(1, 2, 3, 32, 32)
        >>> fused = guided_upsample_fuse(logits, exposures)
        >>> torch.testing.assert_close(fused, exposures.mean(dim=1))
    """
    check_stack("logits", logits)
    check_image("exposures", exposures)
    stack = exposures.unsqueeze(2) if exposures.ndim == 4 else exposures
    if stack.ndim != 5 or stack.shape[:2] != logits.shape[:2] or stack.shape[2] not in (1, 3):
        raise InputError(
            "exposures must be (B, K, 3, H, W), (B, K, 1, H, W) or (B, K, H, W) for logits "
            f"(B, K, h, w), got {tuple(exposures.shape)} and {tuple(logits.shape)}"
        )
    small, full = tuple(logits.shape[-2:]), tuple(exposures.shape[-2:])
    if small[0] > full[0] or small[1] > full[1]:
        raise InputError(f"logits must not be larger than the exposures {full}, got {small}")
    check_one_device("logits", logits, "exposures", exposures)
    if not isinstance(radius, int) or isinstance(radius, bool) or not 0 <= radius <= LARGEST_RADIUS:
        raise InputError(
            f"radius must be an integer from 0 to {LARGEST_RADIUS}, got {shown(radius)}"
        )
    check_positive("eps", eps)
    if stack.shape[2] == 3:
        return ops.guided_upsample_fuse(logits, stack, radius, eps)
    # A view with three equal channels takes no memory.
    fused = ops.guided_upsample_fuse(logits, stack.expand(-1, -1, 3, -1, -1), radius, eps)
    fused = fused[:, :1].contiguous()
    return fused.squeeze(1) if exposures.ndim == 4 else fused
