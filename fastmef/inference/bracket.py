"""Logits for any number of exposures from a network that knows a smaller number."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmef.errors import InputError
from fastmef.nn.network import FusionNet


def bracket_logits(network: FusionNet, exposures: Tensor) -> Tensor:
    r"""Logits ``(1, K, H, W)`` of a bracket ``(1, K, 3, H, W)`` sorted from dark to bright.

    A network for K exposures is asked directly. A network for two is asked about every pair of
    neighbours, and its log-odds :math:`d_k = x_{k+1} - x_k` are chained,

    .. math:: x_k = \sum_{j < k} d_j, \qquad \frac{W_{k+1}}{W_k} = e^{d_k},

    so that any two neighbours share their weight as they would alone. For K = 2 these are the
    weights of the network itself.

    Raises:
        InputError: the network is for a number of exposures other than 2 and K.
    """
    count = exposures.shape[1]
    expected = network.config["exposures"]
    if expected == count:
        return network.logits(exposures)
    if expected != 2:
        raise InputError(f"this model fuses exactly {expected} images, got {count}")
    logits = [exposures.new_zeros(1, *exposures.shape[-2:])]
    for k in range(count - 1):
        dark, bright = network.logits(exposures[:, k : k + 2]).unbind(dim=1)
        logits.append(logits[-1] + (bright - dark))
    return torch.stack(logits, dim=1)
