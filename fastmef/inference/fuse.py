"""fuse(): a bracket of photographs becomes one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef import functional
from fastmef.errors import InputError, shown
from fastmef.inference.bracket import bracket_logits
from fastmef.inference.color import restore_color
from fastmef.inference.inputs import Image, ImageLike, check_bracket
from fastmef.inference.models import ready_model
from fastmef.inference.pyramid import pyramid_blend
from fastmef.inference.refine import refine_logits
from fastmef.inference.results import check_finite
from fastmef.nn.network import FusionNet
from fastmef.reference.color import round_to_8bit

BLENDS = ("weights", "pyramid")
DEFAULT_COLOR = 0.5
DEFAULT_REFINE = 4


def fuse(
    images: Sequence[ImageLike],
    model: str | os.PathLike[str] | FusionNet = "default",
    blend: str = "weights",
    color: float = DEFAULT_COLOR,
    refine: int = DEFAULT_REFINE,
    device: str | torch.device | None = None,
) -> Image:
    r"""Fuse differently exposed photographs of one scene into one.

    .. math:: F = \mathrm{round}\Big(\mathrm{color}\Big(\sum_k W_k I_k\Big)\Big)

    with per-pixel weights W from the network. They are positive and sum to 1, so every value of
    the result lies between the smallest and the largest input at that pixel.

    Args:
        images: two or more arrays ``(H, W, 3)``, RGB, uint8, or paths of image files, or photos
            from :func:`fastmef.data.images.read_image`; all of one size, in any order: they are
            sorted by mean brightness, dark to bright, as the models are trained.
        model: a name from :func:`fastmef.list_pretrained`, a ``.safetensors`` file written by
            :meth:`FusionNet.save`, or a network. A model for two exposures takes any number of
            images, see :func:`fastmef.inference.bracket.bracket_logits`; others just their own.
        blend: ``"weights"`` is the sum above; ``"pyramid"`` mixes each band of detail by weights
            as smooth as the band (:func:`fastmef.inference.pyramid.pyramid_blend`), which keeps
            more large-scale contrast but can leave the range of the inputs; it is clamped to the
            8-bit range.
        color: how much of the colour that averaging with clipped exposures washes out is given
            back (:func:`fastmef.inference.color.restore_color`), from 0, which leaves the sum as
            it is, to 1. Luma stays, and so does the range of the inputs.
        refine: steps of descent on the training loss, on these photographs, from the network's
            weights (:func:`fastmef.inference.refine.refine_logits`); 0 is the network alone. It
            needs no ground truth. Without the C++ kernels a step takes seconds a megapixel.
        device: such as ``"cpu"`` or ``"cuda"``; ``None`` is the GPU if there is one, else the CPU.

    Returns:
        ``(H, W, 3)``, uint8, rounded to the nearest level.

    Raises:
        InputError: fewer than two images, different sizes, another dtype or shape, a file that
            cannot be read (see :func:`fastmef.data.images.read_image`), an unknown model, blend or
            device, ``color`` outside 0…1, a negative ``refine``, images that are too large for
            the memory.

    Example:
        >>> import numpy as np
        >>> from fastmef import FusionNet, fuse
        >>> dark = np.full((4, 6, 3), 20, np.uint8)
        >>> fused = fuse([dark, dark + 180], model=FusionNet(width=4), device="cpu")
        >>> fused.shape, fused.dtype
        ((4, 6, 3), dtype('uint8'))
    """
    return fuse_with_weights(images, model, blend, color, refine, device)[0]


def fuse_with_weights(
    images: Sequence[ImageLike],
    model: str | os.PathLike[str] | FusionNet = "default",
    blend: str = "weights",
    color: float = DEFAULT_COLOR,
    refine: int = DEFAULT_REFINE,
    device: str | torch.device | None = None,
) -> tuple[Image, NDArray[np.float32]]:
    """:func:`fuse`, and the weights ``(K, H, W)`` it used, in the order of ``images``."""
    if blend not in BLENDS:
        raise InputError(f"blend must be 'weights' or 'pyramid', got {shown(blend)}")
    if not 0 <= color <= 1:
        raise InputError(f"color must be from 0 to 1, got {shown(color)}")
    if not isinstance(refine, int) or refine < 0:
        raise InputError(f"refine must be a number of steps, 0 or more, got {shown(refine)}")
    pixels = check_bracket(images)
    network, place = ready_model(model, device)
    order = sorted(range(len(pixels)), key=lambda k: float(pixels[k].mean()))
    with torch.no_grad(), _memory_reported(pixels[0], place):
        exposures = _to_tensor([pixels[k] for k in order], place)
        logits = refine_logits(bracket_logits(network, exposures), exposures, refine)
        fused, weights = functional.softmax_fuse(logits, exposures, return_weights=True)
        if blend == "pyramid":
            fused = pyramid_blend(weights, exposures)
        if color:
            fused = restore_color(fused, weights, exposures, color)
        check_finite(fused)
        result = round_to_8bit(fused[0]).permute(1, 2, 0).contiguous().cpu().numpy()
        as_given = torch.tensor(order, device=place).argsort()
        return result, weights[0, as_given].cpu().numpy()


@contextlib.contextmanager
def _memory_reported(image: Image, device: torch.device) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has no error of its own for a full main memory
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise InputError(
                f"images of {image.shape[1]}×{image.shape[0]} pixels need more memory than there"
                f" is on device {str(device)!r}"
            ) from error
        raise


def _to_tensor(pixels: list[Image], device: torch.device) -> Tensor:
    """``(1, K, 3, H, W)``, float32 in [0, 1]."""
    stack = torch.from_numpy(np.stack(pixels)).to(device)
    return stack.permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()[None]
