"""Export a network that fuses two exposures, and run it without fastmef.

python examples/export.py
"""

import torch
from torch import Tensor, nn

import fastmef


class Fusion(nn.Module):
    """Weighted sum in plain PyTorch, so that the exported program has standard operators only."""

    def __init__(self, net: fastmef.FusionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, exposures: Tensor) -> Tensor:
        weights = self.net.logits(exposures).softmax(dim=1)
        return (weights.unsqueeze(2) * exposures).sum(dim=1)


net = fastmef.FusionNet.from_pretrained("pairs")  # one of the networks for two exposures
exposures = torch.rand(1, 2, 3, 256, 384)  # (B, K, 3, H, W): the size that the program will take
with torch.no_grad():
    program = torch.export.export(Fusion(net), (exposures,))
    torch.export.save(program, "fusion.pt2")
    fused = torch.export.load("fusion.pt2").module()(exposures)
    error = float((fused - net(exposures).fused).abs().max())

operators = {
    node.target.namespace
    for node in program.graph.nodes
    if isinstance(node.target, torch._ops.OpOverload)
}
print(f"{tuple(fused.shape)}, operators of {', '.join(sorted(operators))}; error {error:.1e}")
