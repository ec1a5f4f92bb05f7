"""Run one of two processes that train in parallel, and write its gradients to a file.

Arguments: the file of the rendezvous, the rank, "forward" or "logits", the file to write.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fastmef import FusionNet, WeightedSSIMLoss


def problem() -> tuple[FusionNet, WeightedSSIMLoss, torch.Tensor]:
    """Return the network, the loss and the double batch, the same in every process."""
    torch.manual_seed(0)
    # The network is in eval mode, because batch statistics would be those of half a batch.
    network = FusionNet(2, 4, skip_connections=True).double().eval()
    torch.nn.init.normal_(network.body.head.weight)
    return network, WeightedSSIMLoss(), torch.rand(4, 2, 3, 24, 32, dtype=torch.float64)


def main(rendezvous: str, rank: int, way: str, path: str) -> None:
    network, loss, exposures = problem()
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    parallel = DistributedDataParallel(network)
    own = exposures[2 * rank : 2 * rank + 2]
    logits = parallel(own, fuse=False) if way == "forward" else parallel.module.logits(own)
    loss.from_logits(logits, own).backward()
    torch.save([parameter.grad for parameter in network.parameters()], path)
    dist.barrier()
    # Otherwise its destructor would wait for gloo's threads, and these for the interpreter's lock.
    del parallel
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
