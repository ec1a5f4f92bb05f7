"""The functions that fuse a bracket of photographs into one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.inference.controls import Control
from fastmef.inference.core import STEPS
from fastmef.inference.fuser import Fuser
from fastmef.inference.inputs import ImageLike
from fastmef.nn.multiscale import COLOR
from fastmef.nn.network import FusionNet


def fuse(
    images: Sequence[ImageLike],
    model: str | os.PathLike[str] | FusionNet = "default",
    *,
    color: float = COLOR,
    contrast: float = 1.0,
    brightness: float = 0.0,
    bias: Sequence[float] | None = None,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    weights: NDArray[np.floating] | None = None,
    refine: int = STEPS,
    device: str | torch.device | None = None,
    memory: int | float | str | None = None,
) -> Any:
    r"""Fuse differently exposed photographs of one scene into one.

    The photographs are reduced to a base of about 64 kpixels. The fused base F is their convex sum,

    .. math:: F = \sum_k W_k J_k, \qquad W = \mathrm{softmax}_k(\mathrm{net}(J) + \log s)

    A few descent steps on the unsupervised loss adapt the network's logits to these photographs.
    The shares s make near copies of a frame count once
    (:func:`fastmef.functional.exposure_shares`). Washed-out colour is restored. Finer bands of
    detail are weighted by local variance (:func:`fastmef.functional.multiscale_fuse`). The order
    of the photographs does not matter.

    Args:
        images: two or more arrays ``(H, W, 3)``, RGB, or ``(H, W)``, grey; tensors ``(3, H, W)``
            or ``(1, H, W)``; paths of image files; or photos from
            :func:`fastmef.data.images.read_image`. uint8, uint16, or floating point in [0, 1]; all
            of one size and dtype. Files are read in strips of rows where their format allows it.
        model: a name from :func:`fastmef.list_pretrained`, a ``.safetensors`` file written by
            :meth:`FusionNet.save`, or a network. The default takes any number of images. A model
            for a fixed number takes exactly that many and returns the plain weighted sum at full
            size; of the options below it supports ``color`` only.
        color: share of the colour that averaging with clipped exposures washes out and that is
            restored, from 0 to 1; see :func:`fastmef.reference.restoration.restore_color`.
        contrast: factor of the detail finer than the base, from 0 to 4; 1 leaves it unchanged.
        brightness: b, from -2 to 2. The base becomes :math:`F^{2^{-b}}`: values above 0 brighten
            it, and black and white stay as they are.
        bias: one number for each image, added to its logits: +1 multiplies its weight by e before
            normalisation.
        masks: for each image a bool array ``(H, W)``, false where the image must not be used, or
            ``None``. Pixels that are masked in all images are fused from all of them.
        weights: weight maps ``(K, h, w)`` to use instead of the network's, for example edited maps
            that :func:`fuse_with_weights` has returned.
        refine: number of descent steps; 0 uses the network alone.
        device: for example ``"cpu"`` or ``"cuda"``; ``None`` is the GPU if there is one, else the
            CPU.
        memory: limit for the memory of the process in bytes, a number or a text such as ``"2GB"``;
            ``None`` allows what the process has already and half of what is free.

    Returns:
        An array or tensor like the images; an array for files. Integers are rounded to the nearest.
        Detail can exceed the range of the images slightly; near black and white it is compressed,
        not clipped.

    Raises:
        InputError: fewer than two images, different sizes, another dtype or shape, a file that
            cannot be read (see :func:`fastmef.data.images.read_image`), an unknown model or device,
            an option out of its range, images that need more memory than there is.

    Example:
        >>> import numpy as np
        >>> from fastmef import FusionNet, fuse
        >>> dark = np.full((4, 6, 3), 20, np.uint8)
        >>> fused = fuse([dark, dark + 180], model=FusionNet("any", width=4), device="cpu")
        >>> fused.shape, fused.dtype
        ((4, 6, 3), dtype('uint8'))
    """
    given = Control(color, contrast, brightness, bias, masks, weights, refine)
    return Fuser(model, device=device, memory=memory).fuse(images, **vars(given))


def fuse_with_weights(
    images: Sequence[ImageLike],
    model: str | os.PathLike[str] | FusionNet = "default",
    *,
    color: float = COLOR,
    contrast: float = 1.0,
    brightness: float = 0.0,
    bias: Sequence[float] | None = None,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    weights: NDArray[np.floating] | None = None,
    refine: int = STEPS,
    device: str | torch.device | None = None,
    memory: int | float | str | None = None,
) -> tuple[Any, NDArray[np.float32]]:
    """Return what :func:`fuse` does, and the weights ``(K, h, w)``, in the order of ``images``.

    The weights have the size of the base. A model for a fixed number of images returns weights
    ``(K, H, W)`` at full size.
    """
    given = Control(color, contrast, brightness, bias, masks, weights, refine)
    return Fuser(model, device=device, memory=memory).fuse_with_weights(images, **vars(given))
