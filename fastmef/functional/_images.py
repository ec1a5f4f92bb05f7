"""Check and convert shapes: grey images with or without a channel axis, RGB, and exposures."""

from __future__ import annotations

from torch import Tensor

from fastmef.errors import InputError
from fastmef.reference.color import rgb_to_gray

STACKS = "(B, K, H, W) or (B, K, 1, H, W) grey, or (B, K, 3, H, W) RGB"


def is_color(exposures: Tensor) -> bool:
    """Return whether (checked) exposures are RGB."""
    return exposures.ndim == 5 and exposures.shape[2] == 3


def check_exposures(exposures: Tensor, needs_color: bool = False) -> None:
    """Refuse exposures that are neither grey nor RGB. Type and dtype are checked elsewhere."""
    shape = tuple(exposures.shape)
    is_gray = exposures.ndim == 4 or (exposures.ndim == 5 and shape[2] == 1)
    if needs_color and not is_color(exposures):
        raise InputError(f"exposures must be RGB, (B, K, 3, H, W), got {shape}")
    if not (is_gray or is_color(exposures)):
        raise InputError(f"exposures must be {STACKS}, got {shape}")
    if 0 in shape:
        raise InputError(f"exposures must not be empty, got {shape}")


def check_fused(fused: Tensor, exposures: Tensor, name: str = "fused") -> None:
    """Refuse an image that does not belong to the (checked) exposures."""
    batch, size = exposures.shape[0], tuple(exposures.shape[-2:])
    allowed = [(batch, 3, *size)] if is_color(exposures) else [(batch, *size), (batch, 1, *size)]
    if tuple(fused.shape) not in allowed:
        raise InputError(
            f"{name} must be {' or '.join(map(str, allowed))} for exposures "
            f"{tuple(exposures.shape)}, got {tuple(fused.shape)}"
        )


def to_luma(images: Tensor, without_channels: int) -> Tensor:
    """Return the luma of RGB, and grey images without their channel axis.

    Args:
        images: checked; grey ones may have a channel axis, third from the end.
        without_channels: the number of axes of grey images that have none: 3 for ``(B, H, W)``,
            4 for ``(B, K, H, W)``.
    """
    if images.ndim == without_channels:
        return images
    return rgb_to_gray(images) if images.shape[-3] == 3 else images.squeeze(-3)


def to_channels(images: Tensor, without_channels: int) -> Tensor:
    """Return the images with a channel axis, third from the end; see :func:`to_luma`."""
    return images.unsqueeze(-3) if images.ndim == without_channels else images
