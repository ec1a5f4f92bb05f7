"""The objective of the released weights, and MEF-SSIM as a loss."""

from __future__ import annotations

import pytest
import torch

from fastmef import functional
from fastmef.errors import InputError
from fastmef.nn import (
    BrightnessLoss,
    ColorContrastLoss,
    FusionObjective,
    MEFSSIMLoss,
    WeightedSSIMLoss,
)
from fastmef.nn.objective import SCALES, WEIGHTS
from fastmef.reference.pyramid import reduce
from fastmef.training import TrainConfig

EXPOSURES = torch.rand(2, 3, 3, 50, 43, dtype=torch.float64)
# Alike: scores of unrelated images are clamped at 0, where no gradient is.
FUSED = 0.8 * EXPOSURES.mean(dim=1) + 0.2 * torch.rand(2, 3, 50, 43, dtype=torch.float64)
TERMS = {
    "structure": WeightedSSIMLoss(scales=SCALES),
    "mef_ssim": MEFSSIMLoss(),
    "mef_ssim_1_scale": MEFSSIMLoss(scales=1),
    "mefnet": MEFSSIMLoss("mefnet"),
    "color2018": lambda f, x: MEFSSIMLoss("color2018")(reduce(f), reduce(x)),
    "brightness": BrightnessLoss(),
    "color": ColorContrastLoss(),
}


@pytest.mark.parametrize("variant", ["ma2015", "mefnet", "mefnet_cs", "color2018"])
def test_mef_ssim_loss_is_one_minus_the_score(variant):
    fused = FUSED.clone().requires_grad_()
    loss = MEFSSIMLoss(variant)(fused, EXPOSURES)
    assert torch.equal(loss, 1 - functional.mef_ssim(fused, EXPOSURES, variant).mean())
    loss.backward()
    assert fused.grad.isfinite().all() and fused.grad.any()


def test_options_of_the_mef_ssim_loss_are_checked():
    with pytest.raises(InputError, match="variant must be one of"):
        MEFSSIMLoss("ssim")
    with pytest.raises(InputError, match="scales of mefnet must be 1, got 3"):
        MEFSSIMLoss("mefnet", 3)


def test_sum_of_every_term_by_its_weight():
    weights = {name: 0.1 * (n + 1) for n, name in enumerate(TERMS)}
    total, terms = FusionObjective(weights)(FUSED, EXPOSURES)
    expected = {name: term(FUSED, EXPOSURES) for name, term in TERMS.items()}
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(total, sum(weights[name] * expected[name] for name in TERMS))


def test_defaults_are_those_of_training():
    objective, config = FusionObjective(), TrainConfig()
    assert objective.weights == {name: w for name in WEIGHTS if (w := getattr(config, name))}
    assert objective.structure.options["scales"] == config.scales
    assert list(objective(FUSED, EXPOSURES).terms) == list(objective.weights)


def test_structure_from_logits():
    logits = torch.randn(2, 3, 50, 43, dtype=torch.float64)
    fused = functional.softmax_fuse(logits, EXPOSURES)
    objective = FusionObjective({"structure": 1.0}, "variance", True, (1.0,))
    total = objective(fused, EXPOSURES, logits).total
    torch.testing.assert_close(total, objective(fused, EXPOSURES).total)
    # These terms are not computed from F.
    torch.testing.assert_close(objective(FUSED, EXPOSURES, logits).total, total)


def test_gray():
    weights = dict.fromkeys(TERMS.keys() - {"color2018"}, 1.0)
    objective = FusionObjective(weights)
    expected = objective(FUSED[:, 0], EXPOSURES[:, :, 0])
    torch.testing.assert_close(objective(FUSED[:, :1], EXPOSURES[:, :, :1]), expected)
    with pytest.raises(InputError, match="exposures must be RGB"):
        FusionObjective()(FUSED[:, 0], EXPOSURES[:, :, 0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"ssim": 1.0}, "a term of the objective must be one of structure, .* got 'ssim'"),
        ({"color": -1.0}, "the weight of color must be a finite number of at least 0, got -1.0"),
        ({"color": float("nan")}, "the weight of color must .* got nan"),
        ({"color": 0.0}, "one weight of .* must be above 0, got {'color': 0.0}"),
        ({}, "one weight of .* must be above 0"),
        ([1.0], r"weights must be a dict, got \[1.0\]"),
    ],
)
def test_weights_are_checked(weights, message):
    with pytest.raises(InputError, match=message):
        FusionObjective(weights)


def test_images_are_checked():
    with pytest.raises(InputError, match="fused must be a torch.Tensor, got list"):
        FusionObjective()(FUSED.tolist(), EXPOSURES)
    with pytest.raises(InputError, match=r"fused must be \(2, 3, 50, 43\) for"):
        FusionObjective()(FUSED[:1], EXPOSURES)
