"""Exposures from radiance and views from panoramas, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fastmef.data.panorama import perspective_view
from fastmef.data.render import auto_exposures, render_exposures, srgb_decode, srgb_encode
from fastmef.errors import InputError


def luma(image):
    return image @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])


def wide_range_scene(height=60, width=90, stops=12.0, seed=0):
    """Radiance whose logarithm is uniform over ``stops``, each channel for itself."""
    return np.exp2(np.random.default_rng(seed).uniform(0, stops, (height, width, 3)))


class TestRenderExposures:
    def test_published_srgb_values(self):
        linear = np.array([0.0, 0.0031308, 0.214041, 0.5, 1.0])
        encoded = np.array([0.0, 0.040450, 0.5, 0.735357, 1.0])
        np.testing.assert_allclose(srgb_encode(linear), encoded, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_decode_inverts_encode(self, dtype):
        linear = np.geomspace(1e-6, 1, 500).astype(dtype)
        back = srgb_decode(srgb_encode(linear))
        assert back.dtype == dtype
        np.testing.assert_allclose(back, linear, rtol=50 * np.finfo(dtype).eps)

    def test_formula(self):
        radiance = np.random.default_rng(0).uniform(-0.1, 2, (5, 7, 3))
        (rendered,) = render_exposures(radiance, [0.7])
        exact = 255 * srgb_encode(np.clip(radiance * 2**0.7, 0, 1))
        assert rendered.dtype == np.uint8
        assert np.abs(rendered - exact).max() <= 0.5

    def test_linear_curve(self):
        (rendered,) = render_exposures(np.full((2, 2, 3), 0.2), [1], curve="linear")
        assert (rendered == 102).all()

    def test_an_ev_is_a_doubling(self):
        radiance = wide_range_scene()
        for a, b in zip(
            render_exposures(radiance, [-3, -2.5]),
            render_exposures(radiance * 4, [-5, -4.5]),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)

    def test_radiance_returns_from_an_unclipped_exposure(self):
        radiance = np.random.default_rng(0).uniform(0.2, 0.9, (8, 8, 3))
        (rendered,) = render_exposures(radiance, [-1])
        back = srgb_decode(rendered / 255) * 2
        np.testing.assert_allclose(back, radiance, rtol=0.015)

    def test_brighter_exposures_are_nowhere_darker(self):
        frames = render_exposures(wide_range_scene(), [-9, -6, -3, 0])
        for darker, brighter in zip(frames, frames[1:], strict=False):
            assert (brighter >= darker).all()
            assert (brighter > darker).any()

    def test_order_is_the_callers(self):
        bright, dark = render_exposures(wide_range_scene(), [-2, -8])
        assert bright.mean() > dark.mean()

    def test_half_floats_are_rendered_in_single_precision(self):
        half = wide_range_scene().astype(np.float16)
        np.testing.assert_array_equal(
            render_exposures(half, [-6])[0], render_exposures(half.astype(np.float32), [-6])[0]
        )

    def test_extreme_exposures_are_black_and_white(self):
        black, white = render_exposures(wide_range_scene().astype(np.float32), [-100, 100])
        assert (black == 0).all()
        assert (white == 255).all()

    def test_no_exposure_gives_an_empty_list(self):
        assert render_exposures(np.ones((1, 1, 3)), []) == []

    @pytest.mark.parametrize(
        ("radiance", "kwargs", "message"),
        [
            (np.ones((4, 4)), {"evs": [0]}, r"shape \(H, W, 3\), got \(4, 4\)"),
            (np.ones((0, 4, 3)), {"evs": [0]}, r"got \(0, 4, 3\)"),
            (np.ones((4, 4, 3), np.uint8), {"evs": [0]}, "floating point, got uint8"),
            (np.full((4, 4, 3), np.nan), {"evs": [0]}, "must be finite"),
            (np.full((4, 4, 3), np.inf), {"evs": [0]}, "must be finite"),
            (np.ones((4, 4, 3)), {"evs": [np.nan]}, "got nan"),
            (np.ones((4, 4, 3)), {"evs": [101]}, r"\[-100, 100\] stops, got 101"),
            (np.ones((4, 4, 3)), {"evs": [0], "curve": "log"}, "one of srgb, linear, got 'log'"),
        ],
    )
    def test_exceptions(self, radiance, kwargs, message):
        with pytest.raises(InputError, match=message):
            render_exposures(radiance, **kwargs)


class TestAutoExposures:
    def test_means_are_reached(self):
        radiance = np.random.default_rng(1).uniform(0.2, 1, (40, 50, 3))
        under, over = render_exposures(radiance, auto_exposures(radiance))
        assert luma(under).mean() == pytest.approx(45, abs=0.5)
        assert luma(over).mean() == pytest.approx(185, abs=0.5)

    def test_follows_the_scale_of_the_radiance(self):
        radiance = wide_range_scene()
        evs, scaled = auto_exposures(radiance), auto_exposures(radiance * 1024)
        np.testing.assert_allclose(np.subtract(evs, scaled), 10, atol=1e-5)

    def test_large_pictures_are_thinned_without_harm(self):
        ramp = np.geomspace(0.01, 10, 2000)[:, None, None] * np.ones((1, 400, 3))
        evs = auto_exposures(ramp, max_stops=20)
        np.testing.assert_allclose(evs, auto_exposures(ramp[:, :2], max_stops=20), atol=0.02)

    def test_clipped_fraction_is_respected(self):
        radiance = np.exp(np.random.default_rng(0).normal(0, 1.5, (200, 200, 1))) * np.ones(3)
        clipped = [
            (render_exposures(radiance, [auto_exposures(radiance, max_clipped=f)[0]])[0] == 255)
            .all(axis=-1)
            .mean()
            for f in (0.001, 0.002, 0.003)
        ]
        np.testing.assert_allclose(clipped, [0.001, 0.002, 0.003], atol=2e-4)

    @pytest.mark.parametrize(
        ("highlight", "level", "mean"),
        [
            (10, None, 45),  # below white at a mean of 45
            (100, 255, None),  # brought down to just white
            (1000, 255, 25),  # out of reach: darkened as far as allowed
        ],
    )
    def test_highlights_darken_the_under_exposed_frame(self, highlight, level, mean):
        radiance = np.full((50, 50, 3), 1.0)
        radiance[0] = highlight
        under = auto_exposures(radiance)[0]
        (rendered,) = render_exposures(radiance, [under])
        if level is None:
            assert rendered[0, 0, 0] < 255
        else:
            assert rendered[0, 0, 0] == level
        if mean is None:
            assert 25 < luma(rendered).mean() < 45
            assert under == pytest.approx(-np.log2(highlight))
        else:
            assert luma(rendered).mean() == pytest.approx(mean, abs=0.5)

    @pytest.mark.parametrize(
        ("shadow", "mean"),
        [
            (0.1, 185),  # above black at a mean of 185
            (0.005, None),  # lifted to just above black
            (0.001, 215),  # out of reach: brightened as far as allowed
        ],
    )
    def test_shadows_brighten_the_over_exposed_frame(self, shadow, mean):
        radiance = np.full((50, 50, 3), 1.0)
        radiance[:2] = shadow
        over = auto_exposures(radiance, max_stops=20)[1]
        (rendered,) = render_exposures(radiance, [over])
        if mean is None:
            assert rendered[0, 0, 0] == 10
            assert 185 < luma(rendered).mean() < 215
        else:
            assert luma(rendered).mean() == pytest.approx(mean, abs=0.5)

    def test_distance_is_limited(self):
        under, over = auto_exposures(wide_range_scene(stops=30), max_stops=4)
        assert over - under == pytest.approx(4)

    @pytest.mark.parametrize(
        ("radiance", "kwargs", "message"),
        [
            (np.ones((4, 4)), {}, "shape"),
            (np.zeros((4, 4, 3)), {}, "positive value, got none"),
            (np.eye(16)[:, :, None] * np.ones(3), {}, "94% of the radiance is zero or negative"),
            (np.ones((4, 4, 3)), {"under_mean": 200}, "got 200 and 185"),
            (np.ones((4, 4, 3)), {"max_clipped": 1}, r"max_clipped must lie in \[0, 1\), got 1"),
            (np.ones((4, 4, 3)), {"max_crushed": -1}, r"max_crushed must lie in \[0, 1\), got -1"),
            (np.ones((4, 4, 3)), {"max_stops": 0}, "greater than 0, got 0"),
        ],
    )
    def test_exceptions(self, radiance, kwargs, message):
        with pytest.raises(InputError, match=message):
            auto_exposures(radiance, **kwargs)


def directions(height, width):
    """A panorama that stores at every pixel the direction (right, up, ahead) it is seen in."""
    latitude = ((0.5 - (np.arange(height) + 0.5) / height) * np.pi)[:, None]
    longitude = (((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi)[None, :]
    parts = (
        np.cos(latitude) * np.sin(longitude),
        np.sin(latitude) + 0 * longitude,
        np.cos(latitude) * np.cos(longitude),
    )
    return np.stack(parts, axis=-1)


def pixel_directions(yaw, pitch, fov, width, height):
    """Return the unit rays of a pinhole camera, computed with rotation matrices."""
    a, b = np.radians(yaw), np.radians(pitch)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    half = np.tan(np.radians(fov) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half
    y = -((np.arange(height) + 0.5) * 2 / width - height / width) * half
    rays = np.stack([*np.meshgrid(x, y), np.ones((height, width))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return rays @ (turn @ tilt).T


class TestPerspectiveView:
    @pytest.mark.parametrize(
        ("yaw", "pitch"),
        [(0, 0), (37, 12), (180, 0), (-170, -20), (90, 60), (15, 90), (200, -90), (725, 75)],
    )
    @pytest.mark.parametrize("size", [(90, 180), (91, 181)])
    def test_looks_where_it_should(self, size, yaw, pitch):
        view = perspective_view(directions(*size), yaw, pitch, fov=80, width=24, height=17)
        expected = pixel_directions(yaw, pitch, fov=80, width=24, height=17)
        # Linear interpolation of a sine over a step of 2 degrees errs by at most step^2 / 8.
        assert np.abs(view - expected).max() < 2 * np.radians(2) ** 2 / 8

    def test_right_and_up(self):
        sphere = directions(60, 120)
        centre = perspective_view(sphere, 90, 0, 60, 1, 1)[0, 0]
        np.testing.assert_allclose(centre, [1, 0, 0], atol=1e-3)
        view = perspective_view(sphere, 0, 0, 60, 9, 9)
        assert view[4, 8, 0] > 0 > view[4, 0, 0]
        assert view[0, 4, 1] > 0 > view[8, 4, 1]
        assert perspective_view(sphere, 0, 45, 60, 1, 1)[0, 0, 1] > 0.7

    def test_constant_stays_constant(self):
        view = perspective_view(np.full((10, 20, 3), 0.7), 33, 80, 120, 31, 29)
        np.testing.assert_allclose(view, 0.7, rtol=1e-14)

    def test_seam_is_invisible(self):
        panorama = np.random.default_rng(0).random((24, 48, 3))
        at_seam = perspective_view(panorama, 180, 25, 100, 20, 20)
        elsewhere = perspective_view(np.roll(panorama, 24, axis=1), 0, 25, 100, 20, 20)
        np.testing.assert_allclose(at_seam, elsewhere, atol=1e-12)

    def test_turning_the_panorama_turns_the_view(self):
        panorama = np.random.default_rng(0).random((24, 48, 3))
        turned = perspective_view(np.roll(panorama, -5, axis=1), 10, -70, 90, 20, 12)
        view = perspective_view(panorama, 10 + 5 * 360 / 48, -70, 90, 20, 12)
        np.testing.assert_allclose(turned, view, atol=1e-12)

    @pytest.mark.parametrize("width", [16, 17])
    @pytest.mark.parametrize("pitch", [90, -90])
    def test_reading_goes_on_over_the_pole(self, width, pitch):
        """Values just before and just behind the pole on a meridian are continuous."""
        panorama = np.random.default_rng(0).random((8, width, 3))
        before = perspective_view(panorama, 20, pitch - 1e-6, 60, 1, 1)
        behind = perspective_view(panorama, 20, pitch + 1e-6, 60, 1, 1)
        np.testing.assert_allclose(before, behind, atol=1e-5)

    def test_dtype_and_channels_are_kept(self):
        view = perspective_view(np.ones((4, 8, 1), np.float32), 0, 0, 90, 3, 2)
        assert view.dtype == np.float32
        assert view.shape == (2, 3, 1)

    def test_one_pixel_panorama(self):
        assert (perspective_view(np.ones((1, 1, 3)), 10, 90, 90, 3, 3) == 1).all()

    @pytest.mark.parametrize(
        ("panorama", "kwargs", "message"),
        [
            (np.ones((4, 8)), {}, r"shape \(H, W, C\), got \(4, 8\)"),
            (np.ones((4, 8, 3), np.uint8), {}, "floating point, got uint8"),
            (np.ones((4, 8, 3)), {"fov": 180}, "between 0 and 180 degrees, got 180"),
            (np.ones((4, 8, 3)), {"yaw": np.nan}, "yaw and pitch must be finite, got nan and 0"),
            (np.ones((4, 8, 3)), {"width": 0}, "at least 1, got 0 and 4"),
        ],
    )
    def test_exceptions(self, panorama, kwargs, message):
        view = {"yaw": 0.0, "pitch": 0.0, "fov": 90.0, "width": 4, "height": 4}
        with pytest.raises(InputError, match=message):
            perspective_view(panorama, **{**view, **kwargs})
