"""MEF-SSIM against literal loops over patches, written from the papers in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef.reference.mef_color2018 import color2018_score, color2018_sources
from fastmef.reference.mef_ma2015 import (
    ma2015_combine,
    ma2015_qualities,
    ma2015_score,
    ma2015_sources,
)
from fastmef.reference.mef_mefnet import mefnet_factors, mefnet_score, mefnet_sources
from fastmef.reference.mef_ssim import VARIANTS, mef_ssim, mef_ssim_score, mef_ssim_sources

EPS = 2.0**-52


def fits(window, size):
    return window if window <= size else size - 1 + size % 2


def gaussian_2d(rows, columns, sigma):
    def taps(n):
        t = np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * sigma**2))
        return t / t.sum()

    return np.outer(taps(rows), taps(columns))


def loop_ma2015_one_scale(exposures, fused):
    """Compute the score for values 0-255, every window position separately."""
    count, height, width = exposures.shape
    wy, wx = fits(11, height), fits(11, width)
    g = gaussian_2d(wy, wx, 1.5)
    total, positions = 0.0, 0
    for i in range(height - wy + 1):
        for j in range(width - wx + 1):
            x = exposures[:, i : i + wy, j : j + wx]
            y = fused[i : i + wy, j : j + wx]
            x = x - x.mean(axis=(1, 2), keepdims=True)
            norms = np.sqrt((x * x).sum(axis=(1, 2)))
            e = norms + 0.001
            r = (np.linalg.norm(x.sum(axis=0)) + EPS) / (norms.sum() + EPS)
            p = min(np.tan(np.pi / 2 * min(max(r, EPS), 1 - EPS)), 10)
            w = (e / np.sqrt(wy * wx)) ** p + EPS
            w = w / w.sum()
            s = sum(w[k] * x[k] / e[k] for k in range(count))
            if np.linalg.norm(s) > 0:
                s = s / np.linalg.norm(s)
            patch = e.max() * s
            mu_x, mu_y = (g * patch).sum(), (g * y).sum()
            var_x = (g * (patch - mu_x) ** 2).sum()
            var_y = (g * (y - mu_y) ** 2).sum()
            cov = (g * (patch - mu_x) * (y - mu_y)).sum()
            c = (0.03 * 255) ** 2
            total += (2 * cov + c) / (var_x + var_y + c)
            positions += 1
    return total / positions


def loop_halve(image):
    height, width = image.shape[-2:]
    out = np.empty((*image.shape[:-2], -(-height // 2), -(-width // 2)))
    for i in range(out.shape[-2]):
        for j in range(out.shape[-1]):
            rows = [2 * i, min(2 * i + 1, height - 1)]
            columns = [2 * j, min(2 * j + 1, width - 1)]
            out[..., i, j] = sum(image[..., r, c] for r in rows for c in columns) / 4
    return out


def loop_ma2015(exposures, fused, scales):
    x, y = exposures * 255, fused * 255
    if scales == 1:
        return loop_ma2015_one_scale(x, y)
    score = 1.0
    for beta in np.array([0.0448, 0.2856, 0.3001]) / 0.6305:
        score *= max(loop_ma2015_one_scale(x, y), 0) ** beta
        x, y = loop_halve(x), loop_halve(y)
    return score


def loop_target(mu, image_mean):
    weights = np.exp(-((mu - 0.5) ** 2) / (2 * 0.2**2)) * np.exp(
        -((image_mean - 0.5) ** 2) / (2 * 0.2**2)
    )
    return (weights * mu).sum() / weights.sum()


def loop_mefnet(exposures, fused):
    """Return both factors, with zeros beyond the border."""
    height, width = fused.shape
    wy, wx = fits(11, height), fits(11, width)
    g = gaussian_2d(wy, wx, 11 / 6)
    pad = ((wy // 2, wy // 2), (wx // 2, wx // 2))
    x, y = np.pad(exposures, ((0, 0), *pad)), np.pad(fused, pad)

    def patches():
        for i in range(height):
            for j in range(width):
                yield x[:, i : i + wy, j : j + wx], y[i : i + wy, j : j + wx]

    means = np.array([(g * px).sum(axis=(1, 2)) for px, _ in patches()])
    lightness, structure = [], []
    for mu, (px, py) in zip(means, patches(), strict=True):
        var = (g * px**2).sum(axis=(1, 2)) - mu**2
        k = int(var.argmax())
        mu_y = (g * py).sum()
        var_y = (g * py**2).sum() - mu_y**2
        cov = (g * px[k] * py).sum() - mu[k] * mu_y
        structure.append((2 * cov + 0.03**2) / (var[k] + var_y + 0.03**2))
        target = loop_target(mu, means.mean(axis=0))
        lightness.append((2 * mu_y * target + 0.01**2) / (mu_y**2 + target**2 + 0.01**2))
    return np.mean(lightness), np.mean(structure)


def loop_color2018(exposures, fused):
    x, y = exposures * 255, fused * 255
    height, width = fused.shape[-2:]
    wy, wx = fits(8, height), fits(8, width)
    brightness = exposures.mean(axis=(1, 2, 3))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(height - wy + 1):
        for j in range(width - wx + 1):
            px, py = x[..., i : i + wy, j : j + wx], y[:, i : i + wy, j : j + wx]
            k = int(px.var(axis=(1, 2, 3)).argmax())
            cov = ((px[k] - px[k].mean()) * (py - py.mean())).mean()
            target = 255 * loop_target(px.mean(axis=(1, 2, 3)) / 255, brightness)
            mu = py.mean()
            values.append(
                (2 * mu * target + c1)
                / (mu**2 + target**2 + c1)
                * (2 * cov + c2)
                / (px[k].var() + py.var() + c2)
            )
    return np.mean(values)


def random_stack(count, height, width, seed=0, channels=()):
    """Exposures of one scene of noise and edges, and a fused image that resembles them."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, width) * np.linspace(0.3, 1, height)[:, None]
    scene = 0.6 * ramp + 0.4 * rng.random((*channels, height, width))
    gains = np.linspace(0.4, 2.2, count).reshape(-1, *(1,) * scene.ndim)
    exposures = np.clip(gains * scene + 0.05 * rng.standard_normal((count, *scene.shape)), 0, 1)
    fused = np.clip(exposures.mean(axis=0) + 0.05 * rng.standard_normal(scene.shape), 0, 1)
    return exposures, fused


def clipped_stack(height=23, width=27, channels=()):
    """Both exposures flat and bright on the left, only the long one flat in the middle."""
    exposures, fused = random_stack(2, height, width, seed=5, channels=channels)
    exposures[..., : width // 2] = 1
    exposures[1, ..., : 3 * width // 4] = 254 / 255
    return exposures, fused


def batch(*arrays, dtype=torch.float64):
    return [torch.from_numpy(a).to(dtype).unsqueeze(0) for a in arrays]


def fused_first(exposures, fused, dtype=torch.float64):
    return batch(fused, exposures, dtype=dtype)


STACKS = {
    "K2": random_stack(2, 23, 29),
    "K3": random_stack(3, 25, 21, seed=1),
    "K4": random_stack(4, 13, 27, seed=2),
    "flat": clipped_stack(),
    "single": random_stack(1, 15, 15, seed=3),
    "13x12": random_stack(2, 13, 12, seed=4),
    "5x7": random_stack(3, 5, 7, seed=5),
    "4x30": random_stack(2, 4, 30, seed=6),
    "1x1": random_stack(2, 1, 1, seed=7),
}


@pytest.mark.parametrize("scales", [1, 3])
@pytest.mark.parametrize("name", STACKS)
def test_ma2015_equals_the_loop(name, scales):
    exposures, fused = STACKS[name]
    x, y = batch(exposures, fused)
    score = ma2015_score(ma2015_sources(x, scales), y)
    assert score.shape == (1,)
    assert score.item() == pytest.approx(loop_ma2015(exposures, fused, scales), abs=1e-9)


@pytest.mark.parametrize("name", STACKS)
def test_mefnet_equals_the_loop(name):
    exposures, fused = STACKS[name]
    x, y = batch(exposures, fused)
    sources = mefnet_sources(x)
    lightness, structure = loop_mefnet(exposures, fused)
    assert [f.item() for f in mefnet_factors(sources, y)] == pytest.approx(
        [lightness, structure], abs=1e-9
    )
    assert mefnet_score(sources, y).item() == pytest.approx(lightness * structure, abs=1e-9)
    assert mefnet_score(sources, y, luminance=False).item() == pytest.approx(structure, abs=1e-9)


@pytest.mark.parametrize(
    "stack",
    [
        random_stack(2, 15, 17, channels=(3,)),
        random_stack(3, 13, 12, seed=1, channels=(3,)),
        clipped_stack(channels=(3,)),
        random_stack(2, 5, 7, seed=2, channels=(3,)),
        random_stack(2, 1, 1, seed=3, channels=(3,)),
    ],
    ids=["15x17", "13x12", "flat", "5x7", "1x1"],
)
def test_color2018_equals_the_loop(stack):
    x, y = batch(*stack)
    score = color2018_score(color2018_sources(x), y)
    assert score.item() == pytest.approx(loop_color2018(*stack), abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stack", ["random", "flat"])
def test_float32_is_close_to_float64(variant, stack):
    make = {"random": random_stack(3, 61, 47, channels=(3,)), "flat": clipped_stack(channels=(3,))}
    exact = mef_ssim(*fused_first(*make[stack]), variant)
    single = mef_ssim(*fused_first(*make[stack], dtype=torch.float32), variant)
    assert single.dtype == torch.float32 and exact.dtype == torch.float64
    assert single.item() == pytest.approx(exact.item(), abs=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exposures_that_cancel_leave_no_structure(dtype):
    x = torch.from_numpy(random_stack(1, 24, 24)[0]).to(dtype)
    sources = ma2015_sources(torch.stack([x, 1 - x], dim=1), scales=1)
    flat = torch.full((1, 24, 24), 0.5, dtype=dtype)
    assert ma2015_score(sources, flat).item() == pytest.approx(1.0, abs=1e-6)
    assert 0 < ma2015_score(sources, x).item() < 1


def test_float32_is_close_where_exposures_are_clipped():
    # A sky that is white in one exposure and grey, with steps of a tenth of a level, in the other:
    # what float32 leaves of the first one's variance is rounding, larger than those steps.
    rng = np.random.default_rng(0)
    exposures = 0.2 * rng.random((2, 40, 40))
    exposures[0, :25] = 1
    exposures[1] += 0.4
    exposures[1, :25] = (127 + 0.114 * (rng.random((25, 40)) < 0.03)) / 255
    fused = 0.5 + 0.1 * rng.standard_normal((40, 40))
    exact = ma2015_qualities(ma2015_sources(*batch(exposures)), *batch(fused))
    single = ma2015_qualities(
        ma2015_sources(*batch(exposures, dtype=torch.float32)), *batch(fused, dtype=torch.float32)
    )
    assert single.tolist()[0] == pytest.approx(exact.tolist()[0], abs=5e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stack", ["random", "flat"])
def test_gradcheck(variant, stack):
    make = {
        "random": random_stack(2, 13, 14, channels=(3,)),
        "flat": clipped_stack(13, 14, channels=(3,)),
    }
    x, y = batch(*make[stack])
    sources = mef_ssim_sources(x, variant)
    assert torch.autograd.gradcheck(
        lambda fused: mef_ssim_score(sources, fused), y.requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_finite_on_constant_images(variant, dtype):
    x = torch.ones(1, 2, 3, 24, 24, dtype=dtype)
    y = torch.ones(1, 3, 24, 24, dtype=dtype, requires_grad=True)
    score = mef_ssim(y, x, variant)
    score.sum().backward()
    # mefnet cannot subtract a constant (zeros lie beyond its border): white is its worst case.
    assert score.item() == pytest.approx(1.0, abs=1e-4 if dtype == torch.float32 else 1e-9)
    assert torch.isfinite(y.grad).all()


def test_gradients_stay_finite_where_a_scale_is_clamped():
    x, y = batch(*random_stack(2, 24, 24))
    inverted = (1 - y).requires_grad_()
    sources = ma2015_sources(x)
    assert (ma2015_qualities(sources, inverted) < 0).any()
    score = ma2015_score(sources, inverted)
    score.sum().backward()
    assert score.item() == 0
    assert torch.isfinite(inverted.grad).all()


def test_combine_weights_the_finest_scale_least():
    qualities = torch.tensor([[0.5, 1.0, 1.0], [1.0, 1.0, 0.5]], dtype=torch.float64)
    expected = [0.5 ** (0.0448 / 0.6305), 0.5 ** (0.3001 / 0.6305)]
    assert ma2015_combine(qualities).tolist() == pytest.approx(expected, abs=1e-12)
    assert ma2015_combine(torch.tensor([[-0.25]])).item() == -0.25


def test_combine_has_a_finite_slope_at_zero():
    qualities = torch.tensor([[0.0, 1.0, 1.0]], requires_grad=True)
    score = ma2015_combine(qualities)
    score.sum().backward()
    assert score.item() == 0
    assert torch.isfinite(qualities.grad).all()


def test_combine_does_not_hide_nan():
    assert ma2015_combine(torch.tensor([[float("nan")] * 3])).isnan().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_members_do_not_mix(variant):
    first, second = (random_stack(2, 19, 17, seed=s, channels=(3,)) for s in (0, 1))
    x = torch.from_numpy(np.stack([first[0], second[0]]))
    y = torch.from_numpy(np.stack([first[1], second[1]]))
    together = mef_ssim(y, x, variant)
    alone = [mef_ssim(*fused_first(*stack), variant).item() for stack in (first, second)]
    assert together.tolist() == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layout_in_memory_does_not_matter(variant):
    x, y = batch(*random_stack(2, 19, 17, channels=(3,)))
    strided = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    last = y.contiguous(memory_format=torch.channels_last)
    expected = mef_ssim(y, x, variant).item()
    assert mef_ssim(last, strided, variant).item() == pytest.approx(expected, abs=1e-12)


def bytes_of(stack):
    return [torch.from_numpy((a * 255).round().astype(np.uint8)).unsqueeze(0) for a in stack]


def matlab_gray(image):
    r, g, b = np.moveaxis(image.astype(np.float64), -3, 0)
    gray = 0.298936021293775 * r + 0.587043074451121 * g + 0.114020904255103 * b
    return np.floor(gray + 0.5)


def test_ma2015_rounds_the_gray_of_8_bit_images():
    x, y = bytes_of(random_stack(2, 15, 15, channels=(3,)))
    rounded = loop_ma2015(matlab_gray(x[0].numpy()) / 255, matlab_gray(y[0].numpy()) / 255, 1)
    assert mef_ssim(y, x, scales=1).item() == pytest.approx(rounded, abs=1e-9)
    unrounded = mef_ssim(y / 255.0, x / 255.0, scales=1).item()
    assert abs(unrounded - rounded) > 1e-7


@pytest.mark.parametrize("variant", ["mefnet", "mefnet_cs", "color2018"])
def test_other_variants_read_8_bit_images_as_they_are(variant):
    x, y = bytes_of(random_stack(2, 15, 15, channels=(3,)))
    expected = mef_ssim(y.double() / 255, x.double() / 255, variant).item()
    score = mef_ssim(y, x, variant)
    assert score.dtype == torch.float64
    assert score.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("variant", ["ma2015", "mefnet", "mefnet_cs"])
def test_gray_images(variant):
    gray = random_stack(2, 17, 19)
    color = [np.repeat(a[..., None, :, :], 3, axis=-3) for a in gray]
    expected = mef_ssim(*fused_first(*color), variant).item()
    assert mef_ssim(*fused_first(*gray), variant).item() == pytest.approx(expected, abs=1e-9)


def test_the_long_exposure_of_one_scene_scores_itself_as_perfect():
    exposures, _ = random_stack(1, 30, 30)
    x, y = batch(exposures, exposures[0])
    assert mef_ssim(y, x).item() == pytest.approx(1.0, abs=1e-4)
    assert mef_ssim(y, x, "mefnet").item() == pytest.approx(1.0, abs=1e-9)
