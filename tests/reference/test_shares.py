"""Shares of the frames of a bracket: the formula, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastmef import functional
from fastmef.errors import InputError
from fastmef.reference.color import rgb_to_gray


def literal(base):
    """One bracket, frame by frame; sides of at most 64 pixels."""
    gray = rgb_to_gray(base)[0].numpy()
    count = len(gray)
    weight = []
    for k in range(count):
        informed = np.mean((gray[k] > 4 / 255) & (gray[k] < 251 / 255))
        weight.append(min(1, informed / 0.002))
    shares = []
    for k in range(count):
        alike = sum(
            weight[j] * math.exp(-((np.abs(gray[k] - gray[j]).mean() / 0.08) ** 2))
            for j in range(count)
        )
        shares.append(weight[k] / max(1, alike))
    return torch.tensor([shares], dtype=torch.float64)


def frames(count, size=(30, 41)):
    scene = torch.rand(1, 1, 3, *size, dtype=torch.float64)
    gains = torch.linspace(0.1, 2, count, dtype=torch.float64).reshape(1, count, 1, 1, 1)
    return (scene * gains).clamp(0, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_formula(count):
    base = frames(count)
    shares = functional.exposure_shares(base)
    torch.testing.assert_close(shares, literal(base), rtol=1e-9, atol=1e-12)
    assert shares.min() > 0 and shares.max() <= 1


def test_copies_divide_their_share_by_what_they_show():
    base = torch.zeros(1, 2, 3, 40, 50, dtype=torch.float64)
    base[0, 0, :, 3, 5:7] = 0.4  # 2 of 2000 pixels: half of 0.002
    base[0, 1, :, 3, 5:9] = 0.4
    shares = functional.exposure_shares(base)
    torch.testing.assert_close(shares, literal(base))
    assert float(shares[0, 1] / shares[0, 0]) == pytest.approx(2, abs=0.01)


def test_large_frames_are_compared_by_their_thumbnails():
    base = frames(3, (200, 320))
    small = F.interpolate(base[0], size=(64, 64), mode="area")[None]
    shares = functional.exposure_shares(base)
    torch.testing.assert_close(shares, literal(small), rtol=1e-9, atol=1e-12)


def test_copies_share_one_vote():
    base = frames(2)
    shares = functional.exposure_shares(base[:, [0, 1, 1, 1]])[0]
    expected = functional.exposure_shares(base)[0]
    torch.testing.assert_close(shares[1:].sum(), expected[1], rtol=0.01, atol=0)
    torch.testing.assert_close(shares[1], shares[3])


@pytest.mark.parametrize("level", [0.0, 3 / 255, 252 / 255, 1.0])
def test_empty_frames_count_nothing(level):
    base = torch.cat((frames(2), torch.full((1, 1, 3, 30, 41), level)), dim=1)
    shares = functional.exposure_shares(base)
    assert shares[0, 2] == 0
    torch.testing.assert_close(shares[:, :2], functional.exposure_shares(base[:, :2]))


def test_nothing_but_empty_frames():
    base = torch.zeros(1, 3, 3, 8, 8)
    base[:, 2] = 1
    torch.testing.assert_close(functional.exposure_shares(base), torch.tensor([[0.5, 0.5, 1.0]]))


def test_brackets_do_not_mix():
    first, second = frames(3), frames(3).flip(-1) * 0.5
    both = functional.exposure_shares(torch.cat((first, second)))
    torch.testing.assert_close(both[:1], functional.exposure_shares(first))
    torch.testing.assert_close(both[1:], functional.exposure_shares(second))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype):
    base = frames(3).to(dtype)
    shares = functional.exposure_shares(base)
    assert shares.dtype == dtype
    exact = functional.exposure_shares(base.double())
    assert (shares.double() - exact).abs().max() <= 8 * torch.finfo(dtype).eps


def test_no_gradient():
    base = frames(2).requires_grad_()
    assert not functional.exposure_shares(base).requires_grad


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (torch.rand(3, 8, 8), r"must be \(B, K, 3, h, w\), or grey .* got \(3, 8, 8\)"),
        (torch.rand(1, 2, 2, 8, 8), r"got \(1, 2, 2, 8, 8\)"),
        (torch.rand(1, 2, 3, 0, 8), r"got \(1, 2, 3, 0, 8\)"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), "base must be one of .* got torch.uint8"),
        ([1.0], "base must be a torch.Tensor, got list"),
    ],
)
def test_refused(base, message):
    with pytest.raises(InputError, match=message):
        functional.exposure_shares(base)
