"""Batch normalisation with the statistics of the batches of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Normalise with mean and variance over the batches of all processes.

    PyTorch's ``SyncBatchNorm`` runs on GPUs only. This module computes the same on every device,
    and gradients flow through the shared statistics:

    .. math:: \\mu = \\sum_r \\sum x_r / N, \\quad \\sigma^2 = \\sum_r \\sum (x_r - \\mu)^2 / N,
        \\quad N = \\sum_r n_r
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or dist.get_world_size() == 1:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = (0, 2, 3)
        number = values.new_tensor([values.numel() / values.shape[1]])
        sums = _sum_over_processes(torch.cat((values.sum(axes), number)))
        total, sums = sums[-1].detach(), sums[:-1]
        mean = (sums / total)[:, None, None]
        centred = values - mean
        variance = _sum_over_processes(centred.square().sum(axes)) / total
        if self.track_running_stats:
            self._track(mean.flatten(), variance, total)
        scale = (self.weight * torch.rsqrt(variance + self.eps))[:, None, None]
        return (centred * scale + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        """Update the running statistics; ``total`` is the number of values of a channel."""
        state: Any = self
        state.num_batches_tracked += 1
        unbiased = variance * (total / (total - 1))
        state.running_mean.lerp_(mean, state.momentum)
        state.running_var.lerp_(unbiased, state.momentum)


def synchronize_batchnorm(network: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch normalisation of a network use the batches of all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
    return network


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes. All of them use the sum, so its gradient is summed as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        grad_output = grad_output.clone()
        dist.all_reduce(grad_output)
        return grad_output


def _sum_over_processes(values: Tensor) -> Tensor:
    return _SumOverProcesses.apply(values)
