"""Rendered brackets: the random choices decide them, and they look like photographs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fastmef.data.brackets import GAMMAS, JITTER, NOISE, Rendering, RenderOptions
from fastmef.data.render import exposure_range, render_exposures

PLAIN = Rendering(count=4, shift=(0.0, 0.0), gamma=1.0, noise=0.0, seed=0)


@pytest.fixture
def light():
    return np.exp(2 * np.random.default_rng(0).normal(size=(40, 50, 3))).astype(np.float32)


def test_drawn_from_the_generator_alone():
    one, other, third = (Rendering.draw(5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one == other != third
    drawn = [Rendering.draw(5, np.random.default_rng(seed)) for seed in range(200)]
    shifts = np.array([d.shift for d in drawn])
    assert (shifts[:, 0] != shifts[:, 1]).all() and 0.9 < np.abs(shifts).max() <= JITTER
    assert all(GAMMAS[0] <= d.gamma <= GAMMAS[1] for d in drawn)
    assert 80 < sum(d.noise == 0 for d in drawn) < 120
    assert {d.noise for d in drawn} == set(NOISE)


def test_plain_rendering_is_that_of_render_exposures(light):
    frames = PLAIN.render(light)
    assert frames.dtype == np.float32 and frames.shape == (4, 40, 50, 3)
    expected = render_exposures(light, np.linspace(*exposure_range(light), 4))
    assert np.abs(255 * frames - np.stack(expected)).max() < 1.01


def test_from_dark_to_bright_whatever_the_choices(light):
    for seed in range(20):
        means = Rendering.draw(5, np.random.default_rng(seed)).render(light).mean(axis=(1, 2, 3))
        assert (np.diff(means) > 1 / 255).all()


def test_ends_are_moved(light):
    low, high = exposure_range(light)
    moved = dataclasses.replace(PLAIN, shift=(0.7, -0.4)).render(light)
    expected = render_exposures(light, np.linspace(low + 0.7, high - 0.4, 4))
    assert np.abs(255 * moved - np.stack(expected)).max() < 1.01


def test_a_bracket_is_never_reversed():
    """A scene of little contrast spans the fewest stops, which both ends can use up."""
    ramp = np.geomspace(0.1, 1, 64, dtype=np.float32).reshape(8, 8, 1).repeat(3, axis=2)
    dark, bright = dataclasses.replace(PLAIN, count=2, shift=(1.0, -1.0)).render(ramp)
    assert dark.mean() + 20 / 255 < bright.mean()


def test_noise_is_seeded_and_as_large_as_stated(light):
    flat = np.full((200, 200, 3), 0.2, np.float32)
    noisy = dataclasses.replace(PLAIN, noise=4e-4)
    one, other = noisy.render(flat), noisy.render(flat)
    assert np.array_equal(one, other)
    assert not np.array_equal(one, dataclasses.replace(noisy, seed=1).render(flat))
    # The noise is measured in linear light; luma of the darkest frame is 0.9 of white there.
    linear = ((one[0] + 0.055) / 1.055) ** 2.4
    assert linear.std() == pytest.approx((4e-4 * 0.92) ** 0.5, rel=0.05)


def test_gamma(light):
    bent = dataclasses.replace(PLAIN, gamma=1.2).render(light)
    expected = PLAIN.render(light) ** 1.2
    assert np.abs(bent - expected).max() <= 1.2 / 255


def test_black_is_rendered_black():
    assert not PLAIN.render(np.zeros((8, 8, 3), np.float32)).any()


class TestOptions:
    def drawn(self, **options):
        return [
            Rendering.draw(3, np.random.default_rng(seed), RenderOptions(**options))
            for seed in range(100)
        ]

    def test_stops(self, light):
        stops = [d.stops for d in self.drawn(stops=(2.0, 6.0))]
        assert 2 <= min(stops) < 2.2 and 5.8 < max(stops) <= 6
        assert {d.stops for d in self.drawn(stops=(3.0,))} == {3.0}
        low, high = exposure_range(light)
        frames = dataclasses.replace(PLAIN, count=2, stops=3.0).render(light)
        middle = (low + high) / 2
        expected = render_exposures(light, [middle - 1.5, middle + 1.5])
        assert np.abs(255 * frames - np.stack(expected)).max() < 1.01

    def test_curves(self, light):
        assert {d.curve for d in self.drawn(curves=("linear", "s"))} == {"linear", "s"}
        linear = dataclasses.replace(PLAIN, curve="linear").render(light)
        expected = render_exposures(light, np.linspace(*exposure_range(light), 4), "linear")
        assert np.abs(255 * linear - np.stack(expected)).max() < 1.01
        plain = PLAIN.render(light)
        bent = dataclasses.replace(PLAIN, curve="s").render(light)
        assert np.abs(bent - plain**2 * (3 - 2 * plain)).max() < 2 / 255

    @pytest.mark.parametrize("share", [0.05, 0.2])
    def test_clipped(self, light, share):
        gray = light[..., :1].repeat(3, axis=2)
        dark, *_ = dataclasses.replace(PLAIN, clipped=share).render(gray)
        white = 1.055 * 0.9 ** (1 / 2.4) - 0.055  # luma 0.9 of linear light
        assert (dark[..., 0] > white).mean() == pytest.approx(share, abs=0.01)
        low, high = exposure_range(gray, share)
        assert high - low == pytest.approx(
            np.log2(0.35 / 0.9) + np.log2(np.divide(*np.quantile(gray, (1 - share, share)))),
            abs=0.01,
        )

    @pytest.mark.parametrize("bits", [3, 8, 12])
    def test_bits(self, light, bits):
        frames = dataclasses.replace(PLAIN, bits=bits).render(light)
        levels = frames * (2**bits - 1)
        assert np.abs(levels - levels.round()).max() < 1e-3
        count = len(np.unique(frames))
        assert count <= 2**bits and (bits < 12 or count > 256)

    def test_noise_and_gammas(self):
        drawn = self.drawn(noise=(1e-3,), gammas=(1.1,))
        assert {d.noise for d in drawn} == {1e-3} and {d.gamma for d in drawn} == {1.1}
