"""Exported networks run without fastmef, at any size, with the network's own results."""

from __future__ import annotations

import sys

import pytest
import torch

from fastmef import FusionNet
from fastmef.cli import main
from fastmef.errors import InputError, MissingExtraError, OutputError
from fastmef.nn import export_network

SIZES = [(2, 45, 52), (1, 16, 24), (1, 101, 9)]
needs_export = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="PyTorch 2.6 exports one size only"
)


def network(exposures):
    torch.manual_seed(0)
    net = FusionNet(exposures, 4, "rgb", skip_connections=True).eval()
    torch.nn.init.normal_(net.body.head.weight)
    return net


def runner(path):
    """Return the exported program as a function of its inputs, loaded from the file alone."""
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda *inputs: module(*inputs)
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(path)

    def run(*inputs):
        names = [each.name for each in session.get_inputs()]
        given = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        results = [torch.from_numpy(result) for result in session.run(None, given)]
        return results if len(results) > 1 else results[0]

    return run


def require(suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")


@needs_export
@torch.no_grad()
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_fixed_number_by_the_command(tmp_path, suffix, capsys):
    require(suffix)
    net, path = network(3), tmp_path / f"net{suffix}"
    net.save(tmp_path / "net.safetensors")
    main(["export", str(tmp_path / "net.safetensors"), "-o", str(path)], standalone_mode=False)
    assert capsys.readouterr().out == f"wrote {path}\n"
    run = runner(path)
    for batch, *size in SIZES:
        exposures = torch.rand(batch, 3, 3, *size)
        fused, weights = run(exposures)
        expected = net(exposures)
        torch.testing.assert_close(fused, expected.fused, rtol=0, atol=1e-5)
        torch.testing.assert_close(weights, expected.weights, rtol=0, atol=1e-5)
        assert weights.std() > 1e-2


@needs_export
@torch.no_grad()
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_any_number(tmp_path, suffix):
    require(suffix)
    net, path = network("any").double().train(), tmp_path / f"net{suffix}"
    state = {name: value.clone() for name, value in net.state_dict().items()}
    export_network(net, path)
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    net, run = net.float().eval(), runner(path)
    for count, (batch, *size) in zip((3, 2, 6), SIZES, strict=True):
        base, shares = torch.rand(batch, count, 3, *size), torch.rand(batch, count)
        shares[:, 1] = 0  # a frame without a share
        weights = run(base, shares)
        logits = net.logits(base, shares) + shares.log()[:, :, None, None]
        torch.testing.assert_close(weights, logits.softmax(dim=1), rtol=0, atol=1e-5)
        assert not weights[:, 1].any() and (count < 3 or weights.std() > 1e-2)


def test_refused(tmp_path, monkeypatch):
    net = network(2)
    with pytest.raises(InputError, match=r"net.pth: the name must end in .onnx or .pt2"):
        export_network(net, tmp_path / "net.pth")
    with pytest.raises(InputError, match="network must be a FusionNet, got 'default'"):
        export_network("default", tmp_path / "net.pt2")
    (tmp_path / "net.pt2").touch()
    with pytest.raises(OutputError, match="exists already"):
        export_network(net, tmp_path / "net.pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastmef\[export\]'"):
        export_network(net, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
