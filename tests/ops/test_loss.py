"""weighted_ssim_loss and fusion_loss on every backend: value, gradient w.r.t. F or the logits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from cases import EXPOSURES, GAMMAS, MASK, loss_inputs, uniform
from conformance import Backend, Case, Conformance
from torch import Tensor

from fastmef import backends, functional, reference

# The derivatives of one window's SSIM reach 2 / C2 = 2000 and cancel where nothing varies.
NOISE = (2e-6, 1e-4)


def _case(form: str, name: str, count: int = 2, thorough: bool = False, **options: Any) -> Case:
    operation = "fusion_loss" if form == "logits" else "weighted_ssim_loss"

    def inputs(height: int, width: int) -> tuple[Tensor, ...]:
        return loss_inputs(form, 2, count, height, width)

    window, scales = options.get("window", 11), options.get("scales", (1.0,))
    reduction = options.get("reduction", "mean")
    return Case(
        name,
        partial(getattr(functional, operation), **options),
        partial(getattr(reference, operation), **options),
        inputs,
        noise=NOISE,
        thorough=thorough,
        limits={"window": window, "scales": scales, "reduction": reduction},
        record_tensors=lambda source, exposures: (source, exposures, None),
    )


# The interpreter takes its time: one form without luminance, the other with it, and few taps.
BOTH = not backends.INTERPRETED
WINDOW = 11 if BOTH else 3


def _cases(form: str) -> tuple[Case, ...]:
    case: Callable[..., Case] = partial(_case, form)
    return (
        *(
            case(
                f"{gamma}, {'with' if luminance else 'no'} luminance",
                gamma=gamma,
                luminance=luminance,
                window=WINDOW,
                thorough=gamma == GAMMAS[-1] and luminance,
            )
            for gamma, luminance in itertools.product(
                GAMMAS, (False, True) if BOTH else (form == "logits",)
            )
        ),
        *(case(f"{count} exposures", count, window=WINDOW) for count in (1, 3, 5)),
        case("small window", window=3, thorough=form == "fused"),
        case("flat window", window=5, sigma=None),
        case("three scales", scales=(0.4, 0.35, 0.25), window=3),
        case("second scale only", scales=(0.0, 1.0), window=3),
    )


# For test_compile.py.
COMPILED = {
    "weighted_ssim_loss": (
        lambda x: functional.weighted_ssim_loss(x, EXPOSURES, mask=MASK, scales=(1.0, 0.5)),
        (MASK,),
    ),
    "weighted_ssim_loss-map": (
        lambda x: functional.weighted_ssim_loss(x, EXPOSURES, reduction="none"),
        (MASK,),
    ),
    "weighted_ssim_loss-exposures": (functional.weighted_ssim_loss, (MASK, EXPOSURES)),
    "fusion_loss": (
        lambda x: functional.fusion_loss(x, EXPOSURES, scales=(1.0, 0.5)),
        (uniform(2, 2, 24, 25, seed=3),),
    ),
}


def _gradients(
    form: str, backend: Backend, size: tuple[int, int], retained: int, factor: float
) -> list[Tensor]:
    """Return the gradient of ``factor`` times the loss, computed again if the graph is retained."""
    function = functional.fusion_loss if form == "logits" else functional.weighted_ssim_loss
    source, exposures = (x.float().to(backend.device) for x in loss_inputs(form, 2, 2, *size))
    value = factor * function(source.requires_grad_(), exposures, window=WINDOW)
    return [
        torch.autograd.grad(value, source, retain_graph=again > 0)[0]
        for again in range(retained, -1, -1)
    ]


class ScaledGradients(Conformance):
    """The gradient is scaled in place if the graph is not retained."""

    form: str

    @pytest.mark.parametrize("factor", [1.0, 3.0])
    def test_retained_graph(self, backend: Backend, factor: float) -> None:
        (once,) = _gradients(self.form, backend, self.size, 0, 1.0)
        for again in _gradients(self.form, backend, self.size, 2, factor):
            torch.testing.assert_close(again, factor * once, rtol=1e-6, atol=0)


class TestWeightedSsimLoss(ScaledGradients):
    operation, form = "weighted_ssim_loss", "fused"
    cases = (*_cases("fused"), _case("fused", "map", reduction="none", window=3, thorough=True))

    def make_every_call(self, backend: Backend) -> None:
        super().make_every_call(backend)
        fused, exposures = (
            x.float().to(backend.device) for x in loss_inputs("fused", 2, 2, *self.size)
        )
        mask, scales = exposures[:, 0], (0.6, 0.4)
        functional.weighted_ssim_loss(
            fused.requires_grad_(), exposures, mask=mask, scales=scales, window=3
        )


class TestFusionLoss(ScaledGradients):
    operation, form = "fusion_loss", "logits"
    cases = _cases("logits")
