"""Calls of every registered operation, for ``torch.library.opcheck``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmef import backends, ops  # noqa: F401  # declares every operation
from fastmef.ops.common.operation import OPERATIONS
from fastmef.reference import mef_ma2015, mef_mefnet

REGISTERED = sorted(name for operation in OPERATIONS.values() for name in operation.kernels)

Calls = dict[str, list[tuple[Any, ...]]]


def calls(device: torch.device) -> Calls:
    """By the operation's name. Small: Triton's interpreter makes them too."""
    return {
        **_fusion(device),
        **_multiscale(device),
        **_windowed(device),
        **_scores(device),
        **_norm_act(device),
    }


def _fusion(device: torch.device) -> Calls:
    logits, small = torch.rand(1, 2, 6, 7, device=device), torch.rand(1, 2, 3, 4, device=device)
    color = torch.rand(1, 2, 3, 6, 7, device=device)
    interleaved = color.to(memory_format=torch.channels_last_3d)
    valid = logits > 0.3
    return {
        "softmax_fuse": [
            (logits, color, True),
            (logits, interleaved, False),
            (logits, (255 * color).to(torch.uint8), True, 0.5, valid),
        ],
        "softmax_fuse_backward": [
            (color[:, 0], None, logits, color, True, True),
            (color[:, 0], logits, logits, color, True, False, 0.5, valid),
        ],
        "guided_guide": [(color, 3, 4)],
        "guided_fuse": [(small, small, color)],
    }


def _multiscale(device: torch.device) -> Calls:
    fine, coarse = (torch.rand(1, 2, 3, *x, device=device) for x in ((6, 7), (3, 4)))
    fused, grad = coarse[:, 0].clone(), torch.rand(1, 3, 6, 7, device=device)
    levels = fine.flatten()[:42].view(1, 1, 6, 7) > 0.5, coarse[:, :, 0] > 0.5
    valid = levels[0].expand(1, 2, 6, 7).clone(), levels[1].float()
    interleaved = fine.to(memory_format=torch.channels_last_3d)
    whole = (255 * fine).to(torch.uint8)
    masks = device.type == "cpu" and not backends.INTERPRETED  # the Triton kernels have none
    options = (1, 1e-6, 1.0)
    shares = torch.tensor([[0.5, 1.0]], device=device)
    return {
        "pyramid_reduce": [
            (fine, True),
            (whole, False),
            (interleaved, False, *(valid[:1] if masks else ())),
        ],
        "blend_band": [
            (fine, coarse, fused, None, None, None, *options, True, 0.1, 0.2, True),
            (whole, coarse, fused, shares, None, None, *options, True, 0.0, 0.0, False),
            (interleaved, coarse, fused, shares, None, None, *options, False, 0.1, 0.2, False),
            *(
                [(fine, coarse, fused, None, *valid, *options, True, 0.1, 0.2, False)]
                if masks
                else []
            ),
        ],
        "blend_band_backward": [(grad, grad, False), (grad, None, False)],
    }


def _windowed(device: torch.device) -> Calls:
    exposures = torch.rand(1, 2, 4, 5, device=device)
    a, b = exposures[0, :, None]
    fused, values = a, torch.rand(1, 2, 3, device=device)
    gamma = ("variance_gradient", 3, 1.5, 1e-4, 1e-12)
    loss = ("variance_gradient", False, 3, 1.5, 0.01, 0.03, 1e-4, 1e-12)
    ssim = (3, None, 1e-4, 9e-4)
    found: Calls = {
        "local_variance": [(a, 3, 1.5, 1e-4, "valid"), (a, 3, None, 0.0, "reflect")],
        "local_variance_backward": [
            (values, a, 3, 1.5, 1e-4, "valid"),
            (b, a, 3, None, 0.0, "reflect"),
        ],
        "sobel_gradient": [(a,)],
        "sobel_gradient_backward": [(b, a)],
        "gamma_weights": [(exposures, *gamma)],
        "gamma_weights_backward": [(torch.rand(1, 2, 2, 3, device=device), exposures, *gamma)],
        "weighted_ssim_loss": [
            (fused, exposures, None, *loss, [1.0], True),
            (exposures, exposures, None, *loss, [1.0, 2.0], False),
            (fused, exposures, b, *loss, [1.0], True),
        ],
        "weighted_ssim_map": [(fused, exposures, *loss)],
        "weighted_ssim_map_backward": [(values, fused, exposures, *loss)],
        "ssim_map": [],
        "ssim_mean": [(a, b, *ssim, True, "valid", False, False)],
        "ssim_map_backward": [],
    }
    for border, upstream, wanted in (
        ("valid", values, (True, True)),
        ("zero", a, (False, True)),
        ("reflect", a, (True, True)),
    ):
        options = (*ssim, border != "zero", border)
        found["ssim_map"].append((a, b, *options))
        found["ssim_mean"].append((a, b, *options, *wanted))
        found["ssim_map_backward"].append((upstream, a, b, *options, *wanted))
    return found


def _scores(device: torch.device) -> Calls:
    exposures, fused = torch.rand(1, 2, 4, 5), torch.rand(1, 4, 5)

    def there(maps: tuple[Tensor, ...]) -> list[Tensor]:
        return [x.to(device) for x in (*maps, fused)]

    level = there(mef_ma2015.ma2015_level(exposures))
    sources = there(mef_mefnet.mefnet_sources(exposures))
    exposures, fused = exposures.to(device), fused.to(device)
    return {
        "ma2015_level": [(exposures,)],
        "ma2015_quality": [(*level, wanted) for wanted in (False, True)],
        "mefnet_sources": [(exposures,)],
        "mefnet_factors": [(*sources, wanted) for wanted in (False, True)],
        "ma2015_once": [(exposures, fused, wanted) for wanted in (False, True)],
        "halve": [(exposures,)],
    }


def _norm_act(device: torch.device) -> Calls:
    def images(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)

    x, by_y = images(1, 4, 4, 6), images(1, 4, 4, 6)
    state = torch.rand(4, device=device), torch.rand(4, device=device) + 0.5
    affine = (*state, *torch.rand(2, 4, device=device), 1e-5)
    parts = torch.rand(2, 3, 4, device=device) + 1
    sums, count = torch.rand(2, 4, device=device), torch.full((4,), 24.0, device=device)
    after = {"": None, "pool": images(1, 4, 2, 3), "bilinear": images(1, 4, 8, 12)}
    # The gradient of "bilinear" is made from z, as for "".
    made_from = {then: None if then == "bilinear" else by_y for then in after}
    return {
        "norm_statistics": [(x, *state, 0.1), (x, None, None, 0.0)],
        "norm_merge_statistics": [(parts, *state, 0.1)],
        "norm_act": [(x, *affine, then, True) for then in after],
        "norm_act_sums": [(made_from[then], after[then], x, *affine, then) for then in after],
        "norm_act_backward": [
            (by_y, after[then], x, *affine, then, sums, count) for then in ("", "pool")
        ],
    }
