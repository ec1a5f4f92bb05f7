"""Train a network with the paper's loss in a loop of plain PyTorch, compiled or not.

python examples/training_loop.py [--compile inductor]
"""

import argparse
from pathlib import Path

import torch

import fastmef
from fastmef.data.images import read_image

parser = argparse.ArgumentParser()
parser.add_argument("--compile", metavar="BACKEND", help="a backend of torch.compile: inductor")
parser.add_argument("--steps", type=int, default=10)
args = parser.parse_args()
torch.manual_seed(0)

samples = Path(fastmef.__file__).parent / "samples" / "tree"
frames = [torch.from_numpy(read_image(samples / name).pixels) for name in ("under.jpg", "over.jpg")]
scene = torch.stack(frames).permute(0, 3, 1, 2)[None].float() / 255  # (1, K, 3, H, W) in [0, 1]

net = fastmef.FusionNet(exposures=2, width=8)  # the paper's has width=64
criterion = fastmef.WeightedSSIMLoss(gamma="variance_gradient", scales=(0.4, 0.35, 0.25))
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)


def loss_of(exposures: torch.Tensor) -> torch.Tensor:
    # This equals criterion(net(exposures).fused, exposures), without computing F in colour.
    return criterion.from_logits(net(exposures, fuse=False), exposures)


compute_loss = torch.compile(loss_of, backend=args.compile) if args.compile else loss_of
for step in range(args.steps):
    top, left = (int(torch.randint(0, side - 127, ())) for side in scene.shape[-2:])
    loss = compute_loss(scene[..., top : top + 128, left : left + 128])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.4f}")

net.save("net.safetensors")
