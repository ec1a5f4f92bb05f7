"""The network at full size, group by group in strips and bands, is the network as a whole."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from fastmef.data.images import write_image
from fastmef.errors import InputError
from fastmef.inference import exact
from fastmef.inference.arrays import ArraySink, ArraySource
from fastmef.inference.controls import Control
from fastmef.inference.exact import Bands, fuse_exactly, make_bands, receptive_rows
from fastmef.inference.folding import fold_batchnorm
from fastmef.inference.frames import Frames
from fastmef.inference.fuser import Fuser
from fastmef.inference.plan import Bracket
from fastmef.nn.network import FusionNet
from tests.support.photographs import as_stack, photographs


def trained_network(**options) -> FusionNet:
    """Return a float64 network whose statistics and weights are not the initial ones."""
    torch.manual_seed(3)
    network = FusionNet(width=4, **options).double()
    torch.nn.init.normal_(network.body.head.weight)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def bracket(height: int, width: int) -> Bracket:
    return Bracket(2, height, width, 3, 1)


@pytest.mark.parametrize("skip_connections", [False, True])
@pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(301, 43), (256, 40), (333, 17), (7, 90)])
@pytest.mark.parametrize(("band", "strip"), [(8, 8), (120, 16), (4096, 40), (4096, 4096)])
def test_bands_and_strips_equal_the_whole(
    monkeypatch, skip_connections, upsampling, size, band, strip
):
    if band == 8 and size[0] > 300 and (skip_connections or upsampling == "nearest"):
        pytest.skip("a band of every eight rows takes long")
    network = trained_network(skip_connections=skip_connections, upsampling=upsampling)
    images = [image / 255 for image in photographs(*size)]
    with torch.no_grad():
        expected = network(as_stack(photographs(*size)))
        monkeypatch.setattr(exact, "make_bands", lambda *_: Bands(band, strip, 0))
        sink = ArraySink(*images[0].shape, np.dtype(np.float64))
        frames = Frames([ArraySource("image", image) for image in images])
        weights, precision = fuse_exactly(
            *(fold_batchnorm(network), frames, bracket(*size), 0, Control(color=0.0)),
            *(sink, lambda *_: None, True),
        )
    assert precision == "float64"
    fused = expected.fused[0].permute(1, 2, 0)
    np.testing.assert_allclose(sink.pixels, fused, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weights, expected.weights[0], rtol=0, atol=1e-6)  # float32


def test_receptive_field():
    """The gradient of one logit w.r.t. the input shows which rows it depends on."""
    network = trained_network()
    images = torch.rand(1, 2, 3, 512, 8, dtype=torch.float64, requires_grad=True)
    network.logits(images)[0, 0, 256, 4].backward()
    rows = images.grad.abs().amax(dim=(0, 1, 2, 4)).nonzero().flatten()
    reach = max(256 - int(rows[0]), int(rows[-1]) - 256)
    assert receptive_rows() - 8 <= reach <= receptive_rows()


def test_memory_decides_the_bands():
    network = FusionNet(width=16)
    whole = make_bands(network, bracket(2000, 3000), 10**10, False)
    assert whole.band >= 2000 and whole.strip >= 64
    divided = make_bands(network, bracket(4000, 6000), 4 * 10**8, False)
    assert 8 <= divided.band < 4000 and divided.band % 8 == divided.strip % 8 == 0
    assert divided.memory <= 4 * 10**8 < whole.memory
    with pytest.raises(InputError, match="6000×4000 pixels need .* of memory at full size"):
        make_bands(network, bracket(4000, 6000), 10**7, False)
    with pytest.raises(InputError):  # the weights alone take 384 MB
        make_bands(network, bracket(4000, 6000), 4 * 10**8, True)


def test_limited_memory_changes_nothing_but_rounding(monkeypatch):
    images = photographs(500, 120)
    network = trained_network().float()
    expected = Fuser(network, device="cpu").fuse(images)
    monkeypatch.setattr(exact, "_BAND_BYTES", 500_000)
    assert make_bands(network, bracket(500, 120), 10**9, False).band < 400
    fused = Fuser(network, device="cpu").fuse(images)
    assert np.abs(fused.astype(int) - expected).max() <= 1


MEASURE = """
import re
import sys
from pathlib import Path
from fastmef.allocator import keep_freed_memory
from fastmef.inference import exact, fuser, precision
from fastmef.inference.memory import used_memory

keep_freed_memory()
precision._LEAST_PIXELS = 10**12  # float32, whose memory is predicted before anything is read
make_bands = exact.make_bands
predicted = []

def noted(*given):
    bands = make_bands(*given)
    predicted.append(used_memory() + bands.memory)
    return bands

exact.make_bands = noted
weights, output, *images = sys.argv[1:]
exact_fuser = fuser.Fuser("paper", device="cpu")
exact_fuser.fuse_into(output, images, want_weights=bool(weights))
# Not the maximum of getrusage: that begins with what the parent process has.
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
print(predicted[0], int(peak.group(1)) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured with glibc's malloc")
@pytest.mark.parametrize(
    ("size", "suffix", "weights"),
    [
        ((1200, 1700), ".jpg", ""),
        ((1200, 1700), ".png", "wanted"),
        ((2900, 4200), ".jpg", ""),
    ],
)
def test_prediction_is_above_the_peak(tmp_path, size, suffix, weights):
    paths = [tmp_path / f"{k}{suffix}" for k in range(2)]
    for path, image in zip(paths, photographs(*size), strict=True):
        write_image(path, image)
    command = [sys.executable, "-c", MEASURE, weights, tmp_path / f"fused{suffix}", *paths]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    predicted, peak = map(int, answer.stdout.split())
    assert peak <= predicted <= 1.5 * peak


@pytest.mark.parametrize("size", [(301, 43), (7, 90)])
@pytest.mark.parametrize("skip_connections", [False, True])
def test_zeros_beyond_the_border(monkeypatch, size, skip_connections):
    network = trained_network(padding="zeros", skip_connections=skip_connections).float()
    images = photographs(*size)
    expected = Fuser(network, device="cpu").fuse(images)
    monkeypatch.setattr(exact, "make_bands", lambda *_: Bands(120, 16, 0))
    fused = Fuser(network, device="cpu").fuse(images)
    assert np.abs(fused.astype(int) - expected).max() <= 1
    with torch.no_grad():
        whole = network(as_stack(images).float()).fused[0].permute(1, 2, 0)
    plain = Fuser(network, device="cpu").fuse(images, color=0)
    assert np.abs(plain - 255 * whole.numpy()).max() <= 0.51


@pytest.mark.parametrize("in_features", ["rgb", "gray_max"])
def test_what_the_network_reads(in_features):
    network = trained_network(in_features=in_features).float()
    images = photographs(60, 50)
    with torch.no_grad():
        whole = network(as_stack(images).float()).fused[0].permute(1, 2, 0)
    fused = Fuser(network, device="cpu").fuse(images, color=0)
    assert np.abs(fused - 255 * whole.numpy()).max() <= 0.51


def test_grey_and_float():
    images = photographs(60, 50)
    fuser = Fuser(trained_network(), device="cpu")
    grey = [image[..., 0] for image in images]
    colour = fuser.fuse([np.repeat(image[..., None], 3, axis=2) for image in grey], color=0)
    assert np.abs(fuser.fuse(grey).astype(int) - colour[..., 0]).max() <= 1
    floats = fuser.fuse([(image / 255).astype(np.float32) for image in images])
    assert floats.dtype == np.float32
    assert np.abs(255 * floats - fuser.fuse(images)).max() <= 0.51
