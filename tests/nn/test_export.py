"""torch.export: programs of a network are saved, loaded and run at other sizes."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

from fastmef import FusionNet
from fastmef.nn.network import FusionOutput

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="PyTorch 2.6 exports one size only"
)


def network(exposures, **options):
    torch.manual_seed(0)
    net = FusionNet(exposures, 4, skip_connections=True, **options).eval()
    torch.nn.init.normal_(net.body.head.weight)
    return net


def reloaded(path, net, example, dynamic=None):
    program = torch.export.export(net, (example,), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return torch.export.load(path).module()


def test_any_size(tmp_path):
    net = network(3, in_features="gray")
    dynamic = {"exposures": {0: Dim.DYNAMIC, 3: Dim.DYNAMIC, 4: Dim.DYNAMIC}}
    loaded = reloaded(tmp_path / "net.pt2", net, torch.rand(2, 3, 3, 45, 52), dynamic)
    for batch, *size in [(2, 45, 52), (1, 16, 24), (3, 19, 130)]:
        exposures = torch.rand(batch, 3, 3, *size)
        out = loaded(exposures)
        assert isinstance(out, FusionOutput)
        torch.testing.assert_close(out, net(exposures))


def test_network_for_any_number(tmp_path):
    net, exposures = network("any"), torch.rand(1, 3, 3, 300, 280)
    loaded = reloaded(tmp_path / "net.pt2", net, exposures)
    torch.testing.assert_close(loaded(exposures), net(exposures))
