"""FusionNet: sizes, the paper's figures, weights in files."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from fastmef import FusionNet, list_pretrained
from fastmef.errors import InputError


def test_paper_size():
    net = FusionNet()
    parameters = sum(p.numel() for p in net.parameters())
    assert parameters == 17_633_026
    with torch.device("meta"):
        net, stack = FusionNet(), torch.empty(1, 2, 3, 250, 250)
    with FlopCounterMode(display=False) as counter:
        net.logits(stack)
    assert counter.get_total_flops() / 1e9 == pytest.approx(99.2, abs=0.05)


@pytest.mark.parametrize("size", [(250, 250), (1, 1), (17, 33), (4000, 3), (8, 16)])
@pytest.mark.parametrize("skips", [False, True])
def test_any_size(size, skips):
    net = FusionNet(width=2, skip_connections=skips).eval()
    exposures = torch.rand(1, 2, 3, *size)
    fused, weights = net(exposures)
    assert fused.shape == (1, 3, *size)
    assert weights.shape == (1, 2, *size)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, *size))
    assert (fused <= exposures.amax(1) + 1e-6).all()
    assert (fused >= exposures.amin(1) - 1e-6).all()


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("features", ["gray", "rgb"])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_options(count, features, upsampling):
    net = FusionNet(count, 2, features, skip_connections=True, upsampling=upsampling)
    out = net(torch.rand(2, count, 3, 24, 16))
    assert out.weights.shape == (2, count, 24, 16)
    out.fused.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_upsampling_is_the_one_asked_for():
    bilinear, nearest = (
        FusionNet(width=4, upsampling=kind).eval() for kind in ("bilinear", "nearest")
    )
    nearest.load_state_dict(bilinear.state_dict())
    stack = torch.rand(1, 2, 3, 24, 24)
    assert nearest.config["upsampling"] == "nearest"
    assert not torch.allclose(bilinear.logits(stack), nearest.logits(stack), atol=1e-5)


def test_gray_reads_only_luma():
    net = FusionNet(width=2).eval()
    stack = torch.rand(1, 2, 3, 16, 16)
    luma = torch.tensor([0.298936021293775, 0.587043074451121, 0.114020904255103])
    gray = torch.einsum("bkchw,c->bkhw", stack, luma).unsqueeze(2).expand_as(stack)
    torch.testing.assert_close(net.logits(stack), net.logits(gray))


def test_gray_max_reads_luma_and_the_largest_channel():
    net = FusionNet(width=2, in_features="gray_max").eval()
    stack = torch.rand(1, 2, 3, 4, 5)
    planes = net.planes(stack)
    torch.testing.assert_close(planes[:, :, :1], FusionNet(width=2).planes(stack))
    assert torch.equal(planes[:, :, 1], stack.amax(dim=2))
    assert net.logits(stack).shape == (1, 2, 4, 5)


def test_padding_repeats_the_last_row_and_column():
    net = FusionNet(width=4).eval()
    torch.nn.init.normal_(net.body.head.weight)
    stack = torch.rand(1, 2, 3, 13, 14)
    padded = torch.nn.functional.pad(stack.flatten(1, 2), (0, 2, 0, 3), mode="replicate")
    whole = net.logits(padded.unflatten(1, (2, 3)))
    assert float(whole[..., 12, :].detach().std()) > 1e-3  # the logits vary along the border
    torch.testing.assert_close(net.logits(stack), whole[..., :13, :14])


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_line_along_the_frame(padding):
    """A constant image has constant logits up to its border, but not with zeros beyond it."""
    net = FusionNet(width=4, padding=padding).eval()
    torch.nn.init.normal_(net.body.head.weight)
    flat = torch.tensor([0.2, 0.7])[None, :, None, None, None].expand(1, 2, 3, 64, 72)
    logits = net.logits(flat).detach()
    largest_change = (logits - logits[..., 32:33, 36:37]).abs().amax()
    assert (largest_change < 1e-3 * logits.abs().max()) == (padding == "replicate")


def test_works_in_float64():
    out = FusionNet(width=2).double()(torch.rand(1, 2, 3, 9, 9, dtype=torch.float64))
    assert out.fused.dtype == torch.float64


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
def test_saved_network_comes_back(tmp_path, upsampling):
    net = FusionNet(3, 4, "rgb", skip_connections=True, upsampling=upsampling)
    torch.nn.init.normal_(net.body.head.weight)
    net(torch.rand(1, 3, 3, 16, 16))  # moves the running statistics
    net.save(tmp_path / "net.safetensors")
    again = FusionNet.from_pretrained(tmp_path / "net.safetensors")
    assert again.config == net.config
    assert not again.training
    stack = torch.rand(1, 3, 3, 16, 16)
    assert torch.equal(again.logits(stack), net.eval().logits(stack))


def test_bundled_weights_load():
    assert "default" in list_pretrained()
    for name in list_pretrained():
        net = FusionNet.from_pretrained(name)
        count = 3 if net.takes_any else net.config["exposures"]
        assert net(torch.rand(1, count, 3, 20, 20)).fused.isfinite().all()


@pytest.mark.parametrize("damage", ["missing", "pickle", "truncated", "foreign", "mismatch"])
def test_bad_weight_files(tmp_path, damage):
    path = tmp_path / "net.safetensors"
    net = FusionNet(width=2)
    if damage == "pickle":
        torch.save(net.state_dict(), path)
    elif damage == "truncated":
        net.save(path)
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        save_file({"weight": torch.zeros(2)}, path)
    elif damage == "mismatch":
        net.config["width"] = 3
        net.save(path)
    with pytest.raises(InputError, match="net.safetensors") as caught:
        FusionNet.from_pretrained(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exposures": 1}, "at least 2 or 'any', got 1"),
        ({"width": 0}, "width"),
        ({"in_features": "hsv"}, "'gray' or 'rgb' or 'gray_max', got 'hsv'"),
        ({"upsampling": "cubic"}, "cubic"),
        ({"skip_connections": 1}, "skip_connections"),
        ({"exposures": "all"}, "an integer of at least 2 or 'any', got 'all'"),
        ({"padding": "reflect"}, "padding must be 'replicate' or 'zeros', got 'reflect'"),
        ({"exposures": "any", "padding": "zeros"}, "padding must be 'replicate', got 'zeros'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        FusionNet(**options)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (torch.rand(1, 3, 3, 8, 8), r"\(B, 2, 3, H, W\)"),
        (torch.rand(1, 2, 4, 8, 8), r"grey \(B, 2, 1, H, W\) .* got \(1, 2, 4, 8, 8\)"),
        (torch.rand(1, 2, 3, 8, 8).tolist(), "exposures must be a torch.Tensor, got list"),
        (torch.rand(2, 3, 8, 8), r"\(2, 3, 8, 8\)"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
        (torch.rand(1, 2, 3, 0, 8), "empty"),
        (torch.full((1, 2, 3, 8, 8), float("nan")), "NaN"),
    ],
)
def test_bad_stacks(stack, message):
    with pytest.raises(InputError, match=message):
        FusionNet(width=2)(stack)
