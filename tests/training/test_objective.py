"""The training objective is the stated sum of its terms, on the result of the blend."""

from __future__ import annotations

import pytest
import torch

from fastmef import WeightedSSIMLoss, functional
from fastmef.errors import InputError
from fastmef.nn.losses import BrightnessLoss, ColorContrastLoss
from fastmef.nn.multiscale import blend
from fastmef.reference.pyramid import halved_size, reduce
from fastmef.training import TrainConfig
from fastmef.training.config import TERMS
from fastmef.training.objective import Objective

EXPECTED = {
    "structure": lambda f, e: WeightedSSIMLoss(scales=(0.4, 0.35, 0.25))(f, e),
    "mef_ssim": lambda f, e: 1 - functional.mef_ssim(f, e).mean(),
    "mef_ssim_1_scale": lambda f, e: 1 - functional.mef_ssim(f, e, scales=1).mean(),
    "mefnet": lambda f, e: 1 - functional.mef_ssim(f, e, "mefnet").mean(),
    "color2018": lambda f, e: (
        1 - functional.mef_ssim(reduce(f).clamp(0, 1), reduce(e), "color2018").mean()
    ),
    "brightness": lambda f, e: BrightnessLoss()(f, e),
    "color": lambda f, e: ColorContrastLoss()(f, e),
}


class Given:
    """A network with known logits, which keeps its inputs."""

    def __init__(self, logits, exposures="any"):
        self.given, self.config = logits, {"exposures": exposures}

    def logits(self, exposures, *shares):
        self.seen = (exposures, *shares)
        return self.given


@pytest.fixture
def exposures():
    light = torch.rand(2, 1, 3, 66, 51, dtype=torch.float64)
    return (light * torch.tensor([0.5, 1.0, 1.9])[:, None, None, None]).clamp(0, 1)


def config(**options):
    return TrainConfig(**(dict.fromkeys(TERMS, 0.0) | options))


def multiscale(exposures, levels=2):
    size = halved_size(exposures.shape[-2:], levels)
    return Given(torch.randn(*exposures.shape[:2], *size, dtype=torch.float64))


def blended(network, exposures, levels=2):
    pyramid = functional.exposure_pyramid(exposures, levels)
    shares = functional.exposure_shares(pyramid.base)
    return blend(network.given, exposures, pyramid, shares)


def test_every_term_is_checked():
    assert set(EXPECTED) == set(TERMS)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_terms_of_the_multiscale_blend(exposures, term, levels):
    network = multiscale(exposures, levels)
    loss = Objective(config(**{term: 0.7}, levels=levels))(network, exposures, "float32")
    expected = EXPECTED[term](blended(network, exposures, levels), exposures)
    assert float(expected) > 1e-5
    assert list(loss.terms) == [term]
    torch.testing.assert_close(loss.terms[term], expected)
    torch.testing.assert_close(loss.total, 0.7 * expected)


@pytest.mark.parametrize("term", TERMS)
def test_terms_of_the_plain_sum(exposures, term):
    network = Given(torch.randn(2, 3, 66, 51, dtype=torch.float64), exposures=3)
    chosen = config(**{term: 0.7}, blend="sum", exposures="fixed")
    loss = Objective(chosen)(network, exposures, "float32")
    expected = EXPECTED[term](functional.softmax_fuse(network.given, exposures), exposures)
    torch.testing.assert_close(loss.terms[term], expected)
    torch.testing.assert_close(loss.total, 0.7 * expected)
    assert network.seen == (exposures,)


def test_total_is_the_sum_by_weights(exposures):
    weights = {term: 0.1 * (n + 1) for n, term in enumerate(TERMS)}
    network = multiscale(exposures)
    loss = Objective(config(**weights))(network, exposures, "float32")
    fused = blended(network, exposures)
    expected = {term: EXPECTED[term](fused, exposures) for term in TERMS}
    torch.testing.assert_close(loss.terms, expected)
    total = sum(weights[term] * value for term, value in expected.items())
    torch.testing.assert_close(loss.total, total)


def test_network_is_shown_the_base_and_the_shares(exposures):
    network = multiscale(exposures)
    Objective(TrainConfig())(network, exposures, "float32")
    base, shares = network.seen
    torch.testing.assert_close(base, reduce(reduce(exposures)))
    torch.testing.assert_close(shares, functional.exposure_shares(base))


def test_network_for_a_fixed_number_is_shown_no_shares(exposures):
    network = multiscale(exposures)
    network.config["exposures"] = 3
    Objective(TrainConfig(exposures="fixed"))(network, exposures, "float32")
    assert len(network.seen) == 1


@pytest.mark.parametrize("term", TERMS)
def test_gradient_reaches_the_logits(exposures, term):
    network = multiscale(exposures)
    network.given.requires_grad_()
    Objective(config(**{term: 1.0}))(network, exposures, "float32").total.backward()
    grad = network.given.grad
    assert grad is not None and grad.isfinite().all() and grad.any()


def test_precision_is_that_of_the_network_alone(exposures):
    class Probe(Given):
        def logits(self, *_):
            self.enabled = torch.is_autocast_enabled("cpu")
            return self.given

    network = Probe(multiscale(exposures).given)
    for precision in ("float32", "bfloat16"):
        loss = Objective(TrainConfig())(network, exposures, precision)
        assert network.enabled == (precision == "bfloat16")
        assert loss.total.dtype == torch.float64


def test_unknown_gamma():
    with pytest.raises(InputError, match="nonsense"):
        Objective(TrainConfig(gamma="nonsense"))


def test_color_contrast_prefers_the_colorful_fusion():
    colorful = torch.rand(1, 3, 64, 64)
    gray = colorful.mean(1, keepdim=True).expand_as(colorful)
    exposures = torch.stack((colorful, gray), dim=1)
    loss = ColorContrastLoss(level=0)
    assert loss(colorful, exposures) < loss(gray, exposures)


def test_brightness_prefers_the_well_exposed():
    exposures = torch.stack((torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), 0.98)), 1)
    loss = BrightnessLoss()
    assert loss(exposures[:, 0], exposures) < 0.1 * loss(exposures[:, 1], exposures)
