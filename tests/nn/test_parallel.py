"""DistributedDataParallel: gradients of the loss from logits are those of the double batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import parallel_gradients
import pytest
import torch
import torch.distributed as dist

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()),
    reason="this PyTorch has no gloo",
)


def gradients_of_two(folder: Path, way: str) -> list[list[torch.Tensor]]:
    paths = [folder / f"{rank}.pt" for rank in (0, 1)]
    processes = [
        subprocess.Popen(
            [sys.executable, parallel_gradients.__file__, folder / "meet", str(rank), way, path],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, path in enumerate(paths)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return [torch.load(path) for path in paths]


@pytest.mark.parametrize("way", ["forward", "logits"])
def test_gradients_of_two_processes(tmp_path, way):
    network, loss, exposures = parallel_gradients.problem()
    loss.from_logits(network(exposures, fuse=False), exposures).backward()
    expected = [parameter.grad for parameter in network.parameters()]
    assert all(gradient.abs().max() > 1e-9 for gradient in expected[:-1])
    first, second = gradients_of_two(tmp_path, way)
    if way == "forward":
        for each in (first, second):
            torch.testing.assert_close(each, expected, rtol=1e-9, atol=1e-15)
    else:
        # The documentation warns of this: the wrapper does not see other methods.
        assert not torch.allclose(first[0], second[0])
