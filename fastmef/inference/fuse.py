"""fuse(): a bracket of photographs becomes one."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastmef.errors import InputError
from fastmef.inference.controls import Control, check_controls
from fastmef.inference.core import STEPS, fuse_any, fuse_fixed
from fastmef.inference.inputs import Image, ImageLike, check_bracket
from fastmef.inference.models import ready_model
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
) -> Image:
    r"""Fuse differently exposed photographs of one scene into one.

    The photographs are halved to a base of about 64 kpixels. There F is their convex sum,

    .. math:: F = \sum_k W_k J_k, \qquad W = \mathrm{softmax}_k(\mathrm{net}(J) + \log s)

    with weights from the network that a few descent steps on the unsupervised loss adapt to these
    photographs, shares s that let near copies of a frame count once
    (:func:`fastmef.functional.exposure_shares`), and washed-out colour given back. Finer bands of
    detail are weighted by local variance (:func:`fastmef.functional.multiscale_fuse`). The order
    of the photographs changes nothing.

    Args:
        images: two or more arrays ``(H, W, 3)``, RGB, uint8 or uint16, or paths of image files, or
            photos from :func:`fastmef.data.images.read_image`; all of one size and dtype.
        model: a name from :func:`fastmef.list_pretrained`, a ``.safetensors`` file written by
            :meth:`FusionNet.save`, or a network. The default takes any number of images. A model
            for a fixed number takes just that and gives the plain weighted sum at full size; of
            the options below it has ``color`` only.
        color: how much of the colour that averaging with clipped exposures washes out is given
            back (:func:`fastmef.reference.restoration.restore_color`), from 0 to 1.
        contrast: of the detail finer than the base, from 0 to 4; 1 is that of the photographs.
        brightness: from -2 to 2; the base becomes :math:`F^{2^{-b}}`, so that above 0 it is
            brighter and black and white stay.
        bias: one number for each image, added to its logits: +1 makes it weigh e times as much.
        masks: for each image a bool array ``(H, W)``, false where it must not be used, or
            ``None``. Where no image may be used all are.
        weights: weight maps ``(K, h, w)`` to use instead of the network's, such as those that
            :func:`fuse_with_weights` has returned, edited.
        refine: descent steps; 0 is the network alone.
        device: such as ``"cpu"`` or ``"cuda"``; ``None`` is the GPU if there is one, else the CPU.

    Returns:
        ``(H, W, 3)`` in the dtype of the images, rounded to the nearest level. Detail can lead
        slightly out of the range of the images; near black and white it is compressed, not cut.

    Raises:
        InputError: fewer than two images, different sizes, another dtype or shape, a file that
            cannot be read (see :func:`fastmef.data.images.read_image`), an unknown model or device,
            an option out of its range, images that are too large for the memory.

    Example:
        >>> import numpy as np
        >>> from fastmef import FusionNet, fuse
        >>> dark = np.full((4, 6, 3), 20, np.uint8)
        >>> fused = fuse([dark, dark + 180], model=FusionNet("any", width=4), device="cpu")
        >>> fused.shape, fused.dtype
        ((4, 6, 3), dtype('uint8'))
    """
    given = Control(color, contrast, brightness, bias, masks, weights, refine)
    return _fuse(images, model, given, device)[0]


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
) -> tuple[Image, NDArray[np.float32]]:
    """Return what :func:`fuse` does, and the weights ``(K, h, w)``, in the order of ``images``.

    They are those of the base; of a model for a fixed number of images ``(K, H, W)``.
    """
    given = Control(color, contrast, brightness, bias, masks, weights, refine)
    return _fuse(images, model, given, device)


def _fuse(
    images: Sequence[ImageLike],
    model: str | os.PathLike[str] | FusionNet,
    given: Control,
    device: str | torch.device | None,
) -> tuple[Image, NDArray[np.float32]]:
    pixels = check_bracket(images)
    check_controls(given, len(pixels), pixels[0].shape[:2])
    network, place = ready_model(model, device)
    if not network.takes_any:
        expected = network.config["exposures"]
        if expected != len(pixels):
            raise InputError(f"this model fuses exactly {expected} images, got {len(pixels)}")
        given.require_defaults()
    groups = _dark_to_bright(pixels)
    if not network.takes_any or given.names_frames:
        groups = [[k] for group in groups for k in group]
    order = [group[0] for group in groups]
    run = fuse_any if network.takes_any else fuse_fixed
    with torch.no_grad(), _memory_reported(pixels[0], place):
        exposures = _to_tensor([pixels[k] for k in order], place)
        fused, weights = run(network, exposures, given.controls(order, place))
        result = fused[0].permute(1, 2, 0).contiguous().cpu().numpy()
    maps = weights[0].cpu().numpy()
    as_given = np.empty((len(pixels), *maps.shape[1:]), maps.dtype)
    for group, weight in zip(groups, maps, strict=True):
        as_given[group] = weight / len(group)
    return result, as_given


def _dark_to_bright(pixels: list[Image]) -> list[list[int]]:
    """Return the order from dark to bright, whatever the order in which frames are given.

    Copies of a frame are one group: a frame counts once, however often it is given.
    """
    keys = [_sort_key(image) for image in pixels]

    def key(k: int) -> tuple[float, bytes, bytes]:
        tied = keys.count(keys[k]) > 1
        return *keys[k], pixels[k].tobytes() if tied else b""

    order = sorted(range(len(pixels)), key=key)
    return [list(group) for _, group in itertools.groupby(order, key)]


def _sort_key(image: Image) -> tuple[float, bytes]:
    sample = np.ascontiguousarray(image[::8, ::8])
    return float(sample.mean()), sample.tobytes()


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
    """Return the images as they are stored, ``(1, K, 3, H, W)`` with the channels last."""
    height, width, channels = pixels[0].shape
    dtype = torch.uint8 if pixels[0].dtype == np.uint8 else torch.uint16
    stack = torch.empty((len(pixels), height, width, channels), dtype=dtype)
    for frame, image in zip(stack, pixels, strict=True):
        if image.flags.writeable and image.flags.c_contiguous:
            frame.copy_(torch.from_numpy(image))  # by all threads
        else:
            frame.numpy()[...] = image  # PyTorch takes no others without a warning
    return stack.to(device).permute(0, 3, 1, 2)[None]
