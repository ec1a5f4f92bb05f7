"""What autograd does not record needs no gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def recorded(tensor: Tensor) -> Tensor:
    """The tensor, without its demand for a gradient while autograd records nothing.

    The forward pass of an ``autograd.Function`` cannot see ``torch.no_grad()``: it would make a
    gradient that nobody can ask for.
    """
    return tensor if torch.is_grad_enabled() else tensor.detach()
