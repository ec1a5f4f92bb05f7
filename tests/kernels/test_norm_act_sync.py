"""Two processes with unequal shares of a batch have the statistics of one with the whole batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastmef import backends
from fastmef.nn.norm_act import fused_norm_act

SHARES = (1, 3)

pytestmark = pytest.mark.skipif(
    not backends.INTERPRETED or not dist.is_available() or sys.platform != "linux",
    reason="two processes on one GPU cannot form a group; gloo shares tensors of the CPU",
)


def inputs() -> tuple[Tensor, Tensor, nn.SyncBatchNorm]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((4, 3, 4, 4), generator=generator) + torch.arange(4.0).reshape(4, 1, 1, 1)
    grad_output = torch.randn((4, 3, 2, 2), generator=generator)
    norm = nn.SyncBatchNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1, 2]))
    return x.contiguous(memory_format=torch.channels_last), grad_output, norm


def work(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(SHARES))
    x, grad_output, norm = inputs()
    own = x.split(SHARES)[rank].contiguous(memory_format=torch.channels_last).requires_grad_()
    _, pooled = fused_norm_act(own, norm, "pool", False)
    pooled.backward(grad_output.split(SHARES)[rank])
    found = [pooled.detach(), own.grad, norm.weight.grad, norm.bias.grad]
    torch.save([*found, norm.running_mean, norm.running_var], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    # spawn would import the function by this file's module name, which is not importable.
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(len(SHARES))]
    assert [process.wait(300) for process in processes] == [0] * len(SHARES)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(len(SHARES)))
    x, grad_output, norm = inputs()
    whole = nn.BatchNorm2d(3).double()
    whole.load_state_dict(norm.state_dict())
    leaf = x.double().requires_grad_()
    pooled = nn.functional.max_pool2d(whole(leaf).relu(), 2)
    pooled.backward(grad_output.double())
    expected = [pooled.detach(), leaf.grad, whole.weight.grad, whole.bias.grad]
    joined = [torch.cat((a, b)) for a, b in zip(first[:2], second[:2], strict=True)]
    # Gradients of the parameters are those of the own share, as DistributedDataParallel expects.
    joined += [a + b for a, b in zip(first[2:4], second[2:4], strict=True)]
    for got, true in zip(joined, expected, strict=True):
        torch.testing.assert_close(got.double(), true, rtol=1e-5, atol=1e-5)
    for state in (first, second):
        torch.testing.assert_close(state[4].double(), whole.running_mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(state[5].double(), whole.running_var, rtol=1e-6, atol=1e-6)


if __name__ == "__main__":
    work(int(sys.argv[2]), sys.argv[1])
