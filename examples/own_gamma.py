"""Weight the structure of the exposures by a rule of your own instead of the paper's γ.

python examples/own_gamma.py
"""

import torch
from torch import Tensor

import fastmef
from fastmef import functional


def sharpness(exposures: Tensor) -> Tensor:
    """Return A_k for (B, K, H, W): the square of local variance times well-exposedness.

    The loss samples A_k at the centres of its windows and divides by its sum over k.
    """
    variance = functional.local_variance(exposures, border="reflect")
    return (variance * functional.well_exposedness(exposures)).square()


torch.manual_seed(0)
light = torch.rand(1, 1, 64, 64)
exposures = torch.cat([0.3 * light, (2 * light).clamp(max=1)], dim=1)  # grey, dark and bright
logits = torch.zeros_like(exposures, requires_grad=True)
loss = fastmef.WeightedSSIMLoss(gamma=sharpness)  # or a module, whose parameters are then trained
optimizer = torch.optim.Adam([logits], lr=0.1)
for step in range(20):  # gradient descent on the weights of every pixel, as in fastmef.fuse
    value = loss.from_logits(logits, exposures)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if step % 5 == 4:
        print(f"step {step + 1}: loss {value.item():.4f}")
