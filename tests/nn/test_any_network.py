"""FusionNet("any"): one set of weights for every number of exposures, whatever their order."""

from __future__ import annotations

import itertools

import pytest
import torch

from fastmef import FusionNet, functional
from fastmef.errors import InputError
from fastmef.nn.multiscale import base_levels, base_size
from fastmef.reference.pyramid import shrink


def network(**options):
    """Return a random float64 network with statistics and weights as after training."""
    torch.manual_seed(0)
    net = FusionNet("any", **{"width": 4, "skip_connections": True, **options}).double()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    torch.nn.init.normal_(net.body.head.weight)
    torch.nn.init.normal_(net.body.encoder[-1].scene.weight, std=0.3)
    return net.eval()


def bracket(count, height=40, width=51, dtype=torch.float64):
    radiance = 2 * torch.rand(1, 1, 3, height, width, dtype=dtype)
    gains = torch.linspace(0.2, 1.2, count, dtype=dtype).reshape(1, count, 1, 1, 1)
    return (radiance * gains).clamp(0, 1)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 3, 9, 32])
@pytest.mark.parametrize("features", ["gray", "rgb"])
def test_any_number_and_order(count, features):
    net, exposures = network(in_features=features), bracket(count)
    fused, weights = net(exposures)
    assert weights.shape == (1, count, 40, 51)
    close(weights.sum(1), torch.ones(1, 40, 51, dtype=torch.float64))
    assert weights.std() > 1e-3
    order = torch.randperm(count)
    moved = net(exposures[:, order])
    close(moved.weights, weights[:, order])
    close(moved.fused, fused)


@torch.no_grad()
def test_exposures_see_one_another():
    net, exposures = network(), bracket(4)
    others = exposures.clone()
    others[:, 3] = others[:, 3].flip(-1)
    changed = net.logits(others)[:, :3] - net.logits(exposures)[:, :3]
    assert changed.abs().amax(dim=(0, 2, 3)).min() > 1e-3


@torch.no_grad()
def test_copies_count_once():
    net, exposures = network(), bracket(4)
    index = [0, 1, 1, 2, 3, 1]
    doubled = exposures[:, index]
    halves = torch.tensor([[1, 1 / 3, 1 / 3, 1, 1, 1 / 3]], dtype=torch.float64)
    once = net.logits(exposures, torch.ones(1, 4, dtype=torch.float64))
    close(net.logits(doubled, halves), once[:, index])
    assert (net.logits(doubled) - once[:, index]).abs().max() > 1e-3


@torch.no_grad()
def test_exposure_shares_make_copies_count_once():
    net, exposures = network(), bracket(3)
    exposures[:, 0] *= 0.3  # unlike its neighbours, so that shares are near 1, and 1/2 for copies
    doubled = exposures[:, [0, 1, 2, 2]]
    shares = functional.exposure_shares(exposures)
    before = net.logits(exposures, shares)
    after = net.logits(doubled, functional.exposure_shares(doubled))
    close(after[:, 2], after[:, 3])
    # The neighbours are a little alike, and so the shares are not exactly halves.
    assert (after[:, :3] - before).abs().max() < 0.1 * before.std()


@torch.no_grad()
def test_a_share_of_zero_is_not_seen():
    net, exposures = network(), bracket(3)
    shares = torch.tensor([[0.5, 0.0, 1.0]], dtype=torch.float64)
    logits = net.logits(exposures, shares)
    for content in (0.0, 1.0, torch.rand(3, 40, 51, dtype=torch.float64)):
        other = exposures.clone()
        other[:, 1] = content
        close(net.logits(other, shares)[:, ::2], logits[:, ::2])
    close(net.logits(exposures[:, ::2], shares[:, ::2]), logits[:, ::2])


@torch.no_grad()
def test_an_empty_frame_is_not_in_the_picture():
    net, exposures = network(), bracket(3)
    fused, weights = net(exposures)
    black = torch.cat((exposures, torch.zeros_like(exposures[:, :1])), dim=1)
    again = net(black)
    close(again.fused, fused)
    close(again.weights[:, :3], weights)
    assert (again.weights[:, 3] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (8, 16), (4000, 3), (301, 500), (600, 900)])
def test_any_size(size):
    exposures = torch.rand(1, 3, 3, *size)
    fused, weights = FusionNet("any", width=2).eval()(exposures)
    assert fused.shape == (1, 3, *size)
    assert weights.shape == (1, 3, *base_size(*size))
    torch.testing.assert_close(weights.sum(1), torch.ones(1, *weights.shape[2:]))
    assert fused.min() >= 0 and fused.max() <= 1


@pytest.mark.parametrize(
    ("size", "levels"),
    [((1, 1), 0), ((250, 256), 0), ((400, 600), 0), ((800, 640), 1), ((4000, 6000), 4)],
)
def test_levels_of_the_base(size, levels):
    assert base_levels(*size) == levels


def test_size_of_the_base():
    assert base_size(1, 1) == (1, 1)
    assert base_size(200, 300) == (200, 300)
    assert base_size(4000, 6000) == (207, 309)
    assert base_size(1, 30_000_000) == (1, 64_000)
    # A few more rows and columns change the scale by a few per cent at most.
    scales = [side / base_size(side, side)[0] for side in range(200, 2000, 4)]
    steps = [after / before for before, after in itertools.pairwise(scales)]
    assert min(steps) > 0.98 and max(steps) < 1.04
    for side in range(1, 2000, 7):
        rows, columns = base_size(side, 2 * side)
        assert rows <= side and columns <= 2 * side and rows * columns < 65_000


@torch.no_grad()
def test_fused_is_the_blend_of_its_weights():
    net, exposures = network(), bracket(3, 301, 500)
    fused, weights = net(exposures)
    base = shrink(exposures, base_size(301, 500))
    shares = functional.exposure_shares(base)
    small = (weights.unsqueeze(2) * base).sum(1)
    expected = functional.multiscale_fuse(None, exposures, base=small, shares=shares)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_no_line_along_the_frame():
    net = network(skip_connections=False)
    flat = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)[None, :, None, None, None]
    logits = net.logits(flat.expand(1, 3, 3, 45, 52))
    close(logits, logits[..., :1, :1].expand_as(logits))
    assert logits.std(dim=1).min() > 1e-4


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_gradient_reaches_every_parameter(skips, upsampling):
    net = network(skip_connections=skips, upsampling=upsampling).train()
    net(bracket(3)).fused.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if name != "body.head.bias":  # a softmax does not see what is added to all logits
            assert parameter.grad.abs().max() > 1e-12, name


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_exposures_one_by_one_have_the_same_logits(skips, upsampling):
    net = network(skip_connections=skips, upsampling=upsampling)
    exposures = bracket(3).expand(2, -1, -1, -1, -1)
    together = net.logits(exposures)
    assert together.requires_grad
    with torch.no_grad():
        close(net.logits(exposures), together)


@torch.no_grad()
@pytest.mark.parametrize("skips", [False, True])
def test_saved_network_comes_back(tmp_path, skips):
    net = network(skip_connections=skips).float()
    net.save(tmp_path / "net.safetensors")
    again = FusionNet.from_pretrained(tmp_path / "net.safetensors")
    assert again.takes_any and not again.training
    assert again.config == net.config
    exposures = bracket(4, dtype=torch.float32)
    assert torch.equal(again.logits(exposures), net.logits(exposures))


@pytest.mark.parametrize(
    ("stack", "shares", "message"),
    [
        (torch.rand(1, 1, 3, 8, 8), None, r"\(B, K, 3, H, W\), .* K ≥ 2, got \(1, 1, 3, 8, 8\)"),
        (torch.rand(1, 2, 4, 8, 8), None, r"got \(1, 2, 4, 8, 8\)"),
        (torch.rand(1, 2, 3, 8, 8), torch.ones(1, 3), r"shares must be \(B, K\) = \(1, 2\), got"),
        (torch.rand(1, 2, 3, 8, 8), 0.5, "shares must be .* got 0.5"),
        (2 * torch.ones(1, 2, 3, 8, 8), None, r"in \[0, 1\], got values from 2 to 2"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), None, "torch.uint8"),
        (torch.rand(1, 2, 3, 0, 8), None, "empty"),
    ],
)
def test_bad_arguments(stack, shares, message):
    net = FusionNet("any", width=2)
    with pytest.raises(InputError, match=message):
        net.logits(stack, shares)
    if shares is None:
        with pytest.raises(InputError, match=message):
            net(stack)


def test_shares_are_for_any_number_only():
    with pytest.raises(InputError, match='shares are for networks with exposures="any"'):
        FusionNet(width=2).logits(torch.rand(1, 2, 3, 8, 8), torch.ones(1, 2))
