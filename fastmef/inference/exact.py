"""The plain weighted sum at full size, by a network for a fixed number of exposures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef import functional
from fastmef.errors import InputError
from fastmef.inference.controls import Control
from fastmef.inference.frames import Frames
from fastmef.inference.order import dark_to_bright
from fastmef.inference.plan import Plan
from fastmef.inference.results import check_finite
from fastmef.inference.stream import Progress, reduce_to_base
from fastmef.nn.network import FusionNet
from fastmef.reference.restoration import restore_color


def fuse_exactly(
    network: FusionNet,
    frames: Frames,
    plan: Plan,
    given: Control,
    sink: Any,
    progress: Progress,
) -> NDArray[np.float32]:
    """Fuse ``frames`` into ``sink`` and return the weights ``(K, H, W)``."""
    expected = network.config["exposures"]
    if expected != len(frames):
        raise InputError(f"this model fuses exactly {expected} images, got {len(frames)}")
    given.require_defaults()
    groups = dark_to_bright(frames, reduce_to_base(frames, plan, progress).base)
    order = [k for group in groups for k in group]
    exposures = frames.window(order, 0, frames.height).images
    images = exposures
    if not exposures.is_floating_point():
        images = exposures.to(torch.float32) / torch.iinfo(exposures.dtype).max
    logits = network.logits(images.contiguous())
    fused, weights = functional.softmax_fuse(logits, images, return_weights=True)
    check_finite(fused)
    if given.color:
        fused = restore_color(fused, weights, images, given.color)
    if not exposures.is_floating_point():
        highest = torch.iinfo(exposures.dtype).max
        fused = (fused * highest).round_().clamp_(0, highest).to(exposures.dtype)
    sink.write_rows(fused[0].permute(1, 2, 0).contiguous().cpu().numpy(), None)
    as_given = np.empty(weights.shape[1:], np.float32)
    as_given[order] = weights[0].cpu().numpy()
    return as_given
