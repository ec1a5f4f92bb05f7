"""Model files: every changed byte is refused, absurd weights and sizes too, saves are the same."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fastmef
from fastmef import FusionNet
from fastmef.data.tensors import pack
from fastmef.errors import InputError
from fastmef.nn.pretrained import FORMAT

resource = pytest.importorskip("resource", reason="memory is measured as on POSIX")


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.safetensors"
    FusionNet(width=1).save(path)
    return path


def refused(path, words="."):
    with pytest.raises(InputError, match=words) as caught:
        FusionNet.from_pretrained(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_every_changed_byte_is_refused(saved, changed_bytes):
    for _ in changed_bytes(saved, "model"):
        refused(saved)
    FusionNet.from_pretrained(saved)


def test_truncated_and_longer_files_are_refused(saved, effort, rng, count):
    whole = saved.read_bytes()
    lengths = rng.sample(range(len(whole)), effort(100, 5000))
    for length in lengths:
        saved.write_bytes(whole[:length])
        refused(saved)
    for more in (b"\0", b" ", whole):
        saved.write_bytes(whole + more)
        refused(saved)
    count(f"{len(lengths)} truncated models")


def test_the_same_network_gives_the_same_bytes(tmp_path):
    network = FusionNet(width=1)
    contents = set()
    for n in range(20):
        network.save(tmp_path / str(n))
        contents.add((tmp_path / str(n)).read_bytes())
    assert len(contents) == 1


def test_file_without_checksum(tmp_path):
    path = tmp_path / "net.safetensors"
    network = FusionNet(width=1)
    texts = {"format": FORMAT, "config": json.dumps(network.config)}
    save_file(network.state_dict(), path, texts)
    refused(path, "no checksum")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e7])
@pytest.mark.parametrize("exposures", [2, "any"])
def test_absurd_weights(tmp_path, value, exposures):
    network = FusionNet(exposures, width=2)
    with torch.no_grad():
        network.body.head.bias[0] = value
    with pytest.raises(InputError, match=r"head\.bias holds"):
        network.save(tmp_path / "net.safetensors")
    assert not (tmp_path / "net.safetensors").exists()
    texts = {"format": FORMAT, "config": json.dumps(network.config)}
    (tmp_path / "net.safetensors").write_bytes(pack(network.state_dict(), texts))
    refused(tmp_path / "net.safetensors", r"head\.bias holds")
    images = [np.full((16, 16, 3), level, np.uint8) for level in (20, 200)]
    with pytest.raises(InputError, match=r"head\.bias holds"):
        fastmef.fuse(images, network, device="cpu")


@pytest.mark.parametrize("exposures", [2, "any"])
def test_weights_that_overflow(exposures):
    """Each weight is allowed but the result is not finite: it must not be rounded to black."""
    network = FusionNet(exposures, width=2).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.fill_(1e-30 if name.endswith("running_var") else 1e6)
    images = [np.full((16, 16, 3), level, np.uint8) for level in (20, 200)]
    for refine in (0, 2):
        with pytest.raises(InputError, match="no finite result"):
            fastmef.fuse(images, network, device="cpu", refine=refine)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 800},
        {"width": 10**9},
        {"width": 10**30},
        {"exposures": 10**6},
        {"width": 2.0},
        {"width": [1]},
        {"width": "1"},
        {"unknown": 1},
        [],
        None,
        3,
    ],
)
def test_declared_size(tmp_path, options):
    """A file of a kilobyte that declares a large or impossible network costs nothing."""
    network = FusionNet(width=1)
    if isinstance(options, dict):
        options = network.config | options
    texts = {"format": FORMAT, "config": json.dumps(options)}
    path = tmp_path / "net.safetensors"
    path.write_bytes(pack(network.state_dict(), texts))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_nested_metadata(tmp_path):
    network = FusionNet(width=1)
    for text in ("[" * 100_000, "{}", "null", '{"width":' * 50_000):
        path = tmp_path / "net.safetensors"
        path.write_bytes(pack(network.state_dict(), {"format": FORMAT, "config": text}))
        refused(path)


def test_odd_files(tmp_path):
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "a folder")
    refused("/dev/zero", "a device")
    with pytest.raises(InputError, match="no such weights"):
        FusionNet.from_pretrained("n" * 5000)
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "secret").chmod(0)
    refused(tmp_path / "secret", "permission denied")
