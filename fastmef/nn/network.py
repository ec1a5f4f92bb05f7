"""FusionNet: the encoder-decoder that predicts one weight map for every exposure."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastmef import backends, functional
from fastmef.errors import InputError, shown
from fastmef.functional._checks import can_read, check_dense, check_flag, check_one_device
from fastmef.functional._images import to_channels, to_luma
from fastmef.nn.blocks import PADDINGS, is_exporting
from fastmef.nn.bodies import STRIDE, ExposureBody, StackBody
from fastmef.nn.multiscale import base_levels, base_size
from fastmef.nn.pretrained import load_network, save_network
from fastmef.reference.multiscale import base_logits
from fastmef.reference.pyramid import shrink

ANY = "any"
IN_FEATURES = {"gray": 1, "rgb": 3, "gray_max": 2}
"""The number of planes of each exposure that the network reads, for each value of the option."""
LARGEST_OPTION = 65536
RANGE_TOLERANCE = 1e-3  # resampling overshoots a little


class FusionOutput(NamedTuple):
    """The result of :class:`FusionNet`."""

    fused: Tensor
    """``(B, C, H, W)``, or ``(B, H, W)`` for exposures without a channel axis."""
    weights: Tensor
    """``(B, K, H, W)``, or with ``exposures="any"`` those of the base, ``(B, K, h, w)``. They are
    non-negative and sum to 1 over K."""


# torch.export.save writes the type of a program's output by this name.
pytree._register_namedtuple(FusionOutput, serialized_type_name="fastmef.FusionOutput")


class FusionNet(nn.Module):
    r"""Predict fusion weights at every pixel of a stack of exposures, and apply them.

    .. math:: F = \sum_k W_k I_k, \qquad W = \mathrm{softmax}_k(\mathrm{net}(I_1, \dots, I_K))

    There are two networks, chosen by ``exposures``:

    - A number K: the paper's. The encoder is the first ten convolutions of VGG16 with batch
      normalisation and three max-pools, the decoder its mirror image with upsampling, then a 1×1
      convolution to K logits. At ``width=64``, the paper's network, it has 17.6 million parameters
      and takes 99.2 GFLOP (a multiply-add is 2) for one 250×250 stack, which is computed as
      256×256. F is the plain sum, inside the range of the exposures at every pixel.
    - ``"any"``: one set of weights for every K ≥ 2. Each exposure runs through the same U-Net of
      four resolutions, which reads the mean and the maximum over all exposures in every group;
      permuting the exposures permutes the weights. It sees the whole scene, reduced to about
      64 kpixels, so its cost does not grow with the photograph; finer bands of detail are weighted
      by local variance (:func:`fastmef.functional.multiscale_fuse`).

    Every size is handled in the same way, in training and in inference: the last row and column are
    repeated to the next multiple of 8, and the logits are cropped.

    Args:
        exposures: K ≥ 2, the number of exposures in a stack (their order is part of what is
            learned: dark to bright), or ``"any"``.
        width: channels of the first group; the groups have 1, 2, 4 and 8 times as many.
        in_features: ``"gray"`` (the paper's) reads the luma of each exposure, ``"rgb"`` all three
            channels, which are the same for grey exposures, ``"gray_max"`` the luma and the
            largest channel, which shows clipping that luma hides.
        skip_connections: whether to concatenate each encoder group's output to the decoder group of
            the same resolution, which gives sharp weight maps (the paper's network does not).
        upsampling: ``"bilinear"`` or ``"nearest"``.
        padding: padding of the convolutions, ``"replicate"`` or ``"zeros"``, which leaves a bright
            line along the frame; ``"any"`` always replicates.

    Shape:
        exposures ``(B, K, 3, H, W)``, or grey ``(B, K, H, W)`` or ``(B, K, 1, H, W)``, floating
        point in [0, 1], any H, W ≥ 1 → :class:`FusionOutput`.

    Raises:
        InputError: an invalid option; exposures of another shape, dtype or range.

    Source: arXiv 2510.21815; the network for any number of exposures: this package.

    Example:
        >>> net = FusionNet(width=4)
        >>> fused, weights = net(torch.rand(1, 2, 3, 17, 33))
        >>> fused.shape, weights.shape
        (torch.Size([1, 3, 17, 33]), torch.Size([1, 2, 17, 33]))
        >>> FusionNet("any", width=4)(torch.rand(1, 5, 3, 600, 400)).weights.shape
        torch.Size([1, 5, 309, 207])
    """

    def __init__(
        self,
        exposures: int | str = 2,
        width: int = 64,
        in_features: str = "gray",
        skip_connections: bool = False,
        upsampling: str = "bilinear",
        padding: str = "replicate",
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "exposures": exposures,
            "width": width,
            "in_features": in_features,
            "skip_connections": skip_connections,
            "upsampling": upsampling,
            "padding": padding,
        }
        _check_options(**self.config)
        planes = IN_FEATURES[in_features]
        self.body: nn.Module
        if isinstance(exposures, str):
            self.body = ExposureBody(planes, width, skip_connections, upsampling)
        else:
            options = (width, skip_connections, upsampling, padding)
            self.body = StackBody(exposures, planes, *options)

    def logits(self, exposures: Tensor, shares: Tensor | None = None) -> Tensor:
        """Return the K maps before the softmax, in float32 or better even in autocast.

        Args:
            exposures: ``(B, K, 3, H, W)`` or grey, in the size of the maps: with
                ``exposures="any"`` the base of about 64 kpixels that the network was trained on.
            shares: ``(B, K)`` from :func:`fastmef.functional.exposure_shares`, by default 1: how
                much each frame counts in the means over frames. A frame with a share of 0 is
                ignored. Shares are for ``exposures="any"`` only and are not part of the logits.

        Returns:
            ``(B, K, H, W)``.
        """
        self._check_exposures(exposures)
        height, width = exposures.shape[-2:]
        stack = to_channels(exposures, 4)
        if self.takes_any:
            shares = self._checked_shares(shares, exposures)
            logits = (
                self.body(self.exposure_features(stack, shares), shares)
                .unflatten(0, exposures.shape[:2])
                .squeeze(2)
            )
        else:
            if shares is not None:
                raise InputError('shares are for networks with exposures="any"')
            logits = self.body(self.features(self.planes(stack).flatten(1, 2)))
        logits = _crop(logits, height, width)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forward(
        self, exposures: Tensor, shares: Tensor | None = None, fuse: bool = True
    ) -> FusionOutput | Tensor:
        """Fuse the exposures, or return the logits alone.

        Args:
            exposures: ``(B, K, 3, H, W)``, or grey ``(B, K, H, W)`` or ``(B, K, 1, H, W)``.
            shares: as for :meth:`logits`; by default those of the base where ``fuse`` is true.
            fuse: ``False`` returns :meth:`logits`. A loss from logits in
                ``DistributedDataParallel`` must take them from this call: only the forward pass of
                the wrapped module prepares the synchronisation of gradients.

        Returns:
            :class:`FusionOutput`, or the logits ``(B, K, H, W)``.
        """
        check_flag("fuse", fuse)
        if not fuse:
            return self.logits(exposures, shares)
        if not self.takes_any:
            logits = self.logits(exposures, shares)
            return FusionOutput(*functional.softmax_fuse(logits, exposures, return_weights=True))
        self._check_exposures(exposures)
        height, width = exposures.shape[-2:]
        stack = to_channels(exposures, 4)
        pyramid = functional.exposure_pyramid(stack, base_levels(height, width))
        base = shrink(pyramid.base, base_size(height, width))
        if shares is None:
            shares = functional.exposure_shares(base)
        logits = self.logits(base, shares)
        fused = functional.multiscale_fuse(logits, stack, pyramid=pyramid, shares=shares)
        weights = base_logits(logits, shares, None).softmax(dim=1)
        return FusionOutput(fused.squeeze(1) if exposures.ndim == 4 else fused, weights)

    @property
    def takes_any(self) -> bool:
        """Whether the network takes any number of exposures."""
        return self.config["exposures"] == ANY

    def planes(self, exposures: Tensor) -> Tensor:
        """Return the :data:`IN_FEATURES` planes that the network reads of ``(B, K, C, H, W)``."""
        if self.config["in_features"] == "rgb":
            return exposures.expand(-1, -1, 3, -1, -1)
        luma = to_luma(exposures, 4).unsqueeze(2)
        if self.config["in_features"] == "gray_max":
            return torch.cat((luma, exposures.amax(dim=2, keepdim=True)), dim=2)
        return luma

    def exposure_features(self, exposures: Tensor, shares: Tensor) -> Tensor:
        """Return what the body for any number of exposures reads of ``(B, K, C, H, W)``."""
        seen = _without_unseen(exposures, shares)
        return self.features(self.planes(seen).flatten(0, 1))

    def features(self, planes: Tensor) -> Tensor:
        """Extend ``(N, C, H, W)`` to multiples of the stride, in the body's layout and dtype."""
        height, width = planes.shape[-2:]
        planes = _repeat_last(planes, -1, -width % STRIDE)
        planes = _repeat_last(planes, -2, -height % STRIDE)
        if next(self.body.parameters()).dtype == torch.bfloat16:
            planes = planes.to(torch.bfloat16)
        if backends.transforms_active():
            return planes  # vmap does not support memory formats
        return planes.contiguous(memory_format=torch.channels_last)

    def _check_exposures(self, exposures: Tensor) -> None:
        _check_exposures(exposures, self.config["exposures"])
        check_one_device("exposures", exposures, "the network", next(self.body.parameters()))

    def _checked_shares(self, shares: Tensor | None, exposures: Tensor) -> Tensor:
        """Return the shares, by default 1."""
        expected = exposures.shape[:2]
        if shares is None:
            return exposures.new_ones(expected)
        if not isinstance(shares, Tensor) or shares.shape != expected:
            got = tuple(shares.shape) if isinstance(shares, Tensor) else shown(shares)
            raise InputError(f"shares must be (B, K) = {tuple(expected)}, got {got}")
        return shares

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str] = "default") -> FusionNet:
        """Return a network with trained weights, in eval mode on the CPU.

        Args:
            name_or_path: a name from :func:`fastmef.list_pretrained`, or a ``.safetensors`` file
                written by :meth:`save`.

        Raises:
            InputError: the name or file does not exist, or the file is damaged or holds no
                FusionNet.

        Example:
            >>> net = FusionNet.from_pretrained()
            >>> net.takes_any, net.training
            (True, False)
        """
        return load_network(name_or_path, cls)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, configuration and a checksum to a safetensors file, atomically.

        Raises:
            InputError: the weights are not finite.
            OutputError: the file cannot be written.
        """
        save_network(self, self.config, path)


def _without_unseen(exposures: Tensor, shares: Tensor) -> Tensor:
    """Replace frames with a share of 0 by the frame with the largest share.

    A copy with a share of 0 changes neither the mean nor the maximum over the frames.
    """
    index = shares.argmax(dim=1)[:, None, None, None, None]
    largest = exposures.gather(1, index.expand(-1, 1, *exposures.shape[2:]))
    return torch.where((shares > 0)[:, :, None, None, None], exposures, largest)


def _repeat_last(planes: Tensor, dim: int, missing: int) -> Tensor:
    """Append the last row or column ``missing`` times.

    ``F.pad`` is not used, because torch.compile expects another layout of its gradient than it
    gets.
    """
    if is_exporting():
        # A branch on the size would make the exported size constant. Outside of graphs this form is
        # not used, because its gradient adds with atomics on a GPU.
        index = torch.arange(planes.shape[dim] + missing, device=planes.device)
        return planes.index_select(dim, index.clamp(max=planes.shape[dim] - 1))
    if not missing:
        return planes
    shape = list(planes.shape)
    shape[dim] = missing
    return torch.cat((planes, planes.narrow(dim, -1, 1).expand(shape)), dim)


def _crop(maps: Tensor, height: int, width: int) -> Tensor:
    """Return the first ``height`` rows and ``width`` columns."""
    if is_exporting():
        # A slice would branch on the size, to know whether it is contiguous.
        for dim, size in ((-2, height), (-1, width)):
            maps = maps.index_select(dim, torch.arange(size, device=maps.device))
        return maps
    return maps[..., :height, :width]


def _check_options(
    exposures: int | str,
    width: int,
    in_features: str,
    skip_connections: bool,
    upsampling: str,
    padding: str,
) -> None:
    is_any = isinstance(exposures, str) and exposures == ANY
    if not is_any and (not isinstance(exposures, int) or not 2 <= exposures <= LARGEST_OPTION):
        raise InputError(
            f"exposures must be an integer of at least 2 or 'any', got {shown(exposures)}"
        )
    if not isinstance(width, int) or not 1 <= width <= LARGEST_OPTION:
        raise InputError(
            f"width must be a positive integer, at most {LARGEST_OPTION}, got {shown(width)}"
        )
    if not isinstance(in_features, str) or in_features not in IN_FEATURES:
        allowed = " or ".join(map(repr, IN_FEATURES))
        raise InputError(f"in_features must be {allowed}, got {shown(in_features)}")
    if not isinstance(skip_connections, bool):
        raise InputError(f"skip_connections must be True or False, got {shown(skip_connections)}")
    if not isinstance(upsampling, str) or upsampling not in ("bilinear", "nearest"):
        raise InputError(f"upsampling must be 'bilinear' or 'nearest', got {shown(upsampling)}")
    paddings = PADDINGS[:1] if is_any else PADDINGS
    if not isinstance(padding, str) or padding not in paddings:
        allowed = " or ".join(map(repr, paddings))
        raise InputError(f"padding must be {allowed}, got {shown(padding)}")


def _check_exposures(exposures: Tensor, count: int | str) -> None:
    check_dense("exposures", exposures)
    is_any = count == ANY
    fits = exposures.ndim == 4 or (exposures.ndim == 5 and exposures.shape[2] in (1, 3))
    if not fits or (exposures.shape[1] < 2 if is_any else exposures.shape[1] != count):
        expected = "K" if is_any else count
        raise InputError(
            f"exposures must have shape (B, {expected}, 3, H, W), or grey (B, {expected}, 1, H, W) "
            f"or (B, {expected}, H, W){', with K ≥ 2' if is_any else ''}, "
            f"got {tuple(exposures.shape)}"
        )
    if not exposures.is_floating_point():
        raise InputError(f"exposures must be floating point in [0, 1], got {exposures.dtype}")
    if 0 in exposures.shape:
        raise InputError(f"exposures must not be empty, got {tuple(exposures.shape)}")
    if can_read(exposures):
        low, high = (float(value) for value in exposures.detach().aminmax())
        if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            found = "NaN" if low != low else f"values from {low:.4g} to {high:.4g}"
            raise InputError(f"exposures must be in [0, 1], got {found}")
