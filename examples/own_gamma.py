"""Weight the structure of the exposures by a rule of your own instead of the paper's γ.

python examples/own_gamma.py
"""

import torch
from torch import Tensor

from fastmef import functional


def sharpness(exposures: Tensor) -> Tensor:
    """γ_k of (B, K, H, W): the square of local variance times well-exposedness, normalised."""
    variance = functional.local_variance(exposures)  # at the windows inside: (B, K, H - 10, W - 10)
    exposed = functional.well_exposedness(exposures)[..., 5:-5, 5:-5]
    attributes = (variance * exposed).square()
    return attributes / (attributes.sum(dim=1, keepdim=True) + 1e-12)


def loss(fused: Tensor, exposures: Tensor) -> Tensor:
    """1 - Σ_k γ_k SSIM(F, I_k), on grey images (B, H, W) and (B, K, H, W)."""
    pairs = fused.unsqueeze(1).expand_as(exposures)
    ssim = functional.ssim(pairs, exposures, luminance=False, reduction="none")
    return 1 - (sharpness(exposures) * ssim).sum(dim=1).mean()


torch.manual_seed(0)
light = torch.rand(1, 1, 64, 64)
exposures = torch.cat([0.3 * light, (2 * light).clamp(max=1)], dim=1)  # grey, dark and bright
logits = torch.zeros_like(exposures, requires_grad=True)
optimizer = torch.optim.Adam([logits], lr=0.1)
for step in range(20):  # descends on the weights of every pixel, as fastmef.fuse does
    fused = functional.softmax_fuse(logits, exposures.unsqueeze(2).expand(-1, -1, 3, -1, -1))
    value = loss(fused[:, 0], exposures)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if step % 5 == 4:
        print(f"step {step + 1}: loss {value.item():.4f}")
