"""The noise-aware γ and the learned γ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef.data.pairs import Scene
from fastmef.experiments.attention import AttentionGamma, outer_loss, stopped
from fastmef.experiments.noise import expose_with_noise, noise_aware_gamma, noise_variance
from fastmef.experiments.transfer import families
from fastmef.functional import gamma_weights
from fastmef.nn.losses import WeightedSSIMLoss
from fastmef.nn.objective import MEFSSIMLoss


@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_noise_is_estimated_beside_structure(sigma):
    generator = torch.Generator().manual_seed(0)
    step = torch.linspace(0.2, 0.8, 96).repeat(96, 1)
    step[:, 48:] += 0.1
    noisy = step + sigma * torch.randn(1, 1, 96, 96, generator=generator)
    estimate = noise_variance(noisy).sqrt().median()
    assert float(estimate) == pytest.approx(sigma, rel=0.15)
    assert float(noise_variance(step[None, None]).max()) < 1e-8


def test_noise_aware_gamma_does_not_prefer_the_noisy_exposure():
    """Two flat exposures, one of them noisy: nothing has structure."""
    generator = torch.Generator().manual_seed(0)
    exposures = torch.full((1, 2, 64, 64), 0.4)
    exposures[:, 0] += 0.03 * torch.randn(64, 64, generator=generator)
    fooled = gamma_weights(exposures, "variance_gradient")[:, 0].mean()
    aware = gamma_weights(exposures, noise_aware_gamma)[:, 0].mean()
    assert fooled > 0.9
    assert abs(float(aware) - 0.5) < abs(float(fooled) - 0.5) - 0.1


def test_rendered_noise_has_the_variance_that_it_should():
    light = np.full((200, 200, 3), 0.05, np.float32)
    noisy = expose_with_noise(light, 0.0, 0.02, seed=0) / 255
    linear = np.where(noisy <= 0.04045, noisy / 12.92, ((noisy + 0.055) / 1.055) ** 2.4)
    assert linear.std() == pytest.approx(0.02 * np.sqrt(0.05 + 0.02), rel=0.05)
    assert np.array_equal(expose_with_noise(light, 0.0, 0.02, 0) / 255, noisy)
    assert len(np.unique(expose_with_noise(light, 0.0, 0.0, 0))) == 1


def scene():
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 1, 3, 32, 32, generator=generator)
    return torch.cat((0.1 + 0.1 * texture, texture), dim=1)


def test_gamma_of_the_network_is_held_constant():
    gamma, exposures = AttentionGamma(4), scene()
    logits = torch.zeros(1, 2, 32, 32, requires_grad=True)
    WeightedSSIMLoss(stopped(gamma)).from_logits(logits, exposures).backward()
    assert float(logits.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in gamma.parameters())


def test_attention_starts_undecided_and_ignores_order():
    gamma, planes = AttentionGamma(4), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(gamma(planes), torch.full_like(planes, 1 / 3))
    torch.nn.init.normal_(gamma.score[-1].weight)
    order = [2, 0, 1]
    torch.testing.assert_close(gamma(planes[:, order]), gamma(planes)[:, order])


def test_outer_gradient_is_that_of_the_goal_after_a_step():
    """Compare with the goal after a descent step on the γ-weighted loss, for two γ."""
    exposures = scene().double()
    torch.manual_seed(0)
    logits = 0.3 * torch.randn(1, 2, 32, 32, dtype=torch.float64)
    goal = MEFSSIMLoss("ma2015", 1)

    class Fixed(torch.nn.Module):
        def __init__(self, share):
            super().__init__()
            self.share = torch.nn.Parameter(torch.tensor(share, dtype=torch.float64))

        def forward(self, planes):
            bright = self.share * torch.ones_like(planes[:, 1])
            return torch.stack((1 - bright, bright), dim=1)

    def goal_after_a_step(share):
        moved = logits.clone().requires_grad_()
        WeightedSSIMLoss(Fixed(share))(
            moved.softmax(1).unsqueeze(2).mul(exposures).sum(1), exposures
        ).backward()
        stepped = logits - 20 * moved.grad
        return float(goal(stepped.softmax(1).unsqueeze(2).mul(exposures).sum(1), exposures))

    difference = goal_after_a_step(0.6) - goal_after_a_step(0.4)
    gamma = Fixed(0.5)
    outer_loss(gamma, logits, exposures, goal).backward()
    assert np.sign(float(gamma.share.grad)) == np.sign(difference) != 0


def test_families_by_name():
    names = [*(f"lake_{i}" for i in range(9)), *(f"sicehr_{i}" for i in range(4))]
    names += [*(f"sice_{i}" for i in range(5)), "one_1", "two_1"]
    scenes = [Scene(name, ()) for name in names]
    test = [scene for scene in scenes if scene.name.endswith("_1")]
    family = families([scene for scene in scenes if scene not in test], test)
    assert family["lake_3"] == "lake"
    assert family["sicehr_1"] == family["sice_0"] == "sice"
    assert family["one_1"] == family["two_1"] == "others"
