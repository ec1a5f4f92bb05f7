"""The processes of a training: one, or those that torchrun starts, on one machine or several."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

_PATIENCE = timedelta(hours=6)  # in which the others must reach the point that one has reached


@dataclass(frozen=True)
class World:
    """This process among those of a training."""

    rank: int
    size: int
    local_size: int
    """Processes on this machine."""
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Return every ``size``-th item, those of this process."""
        return list(items[self.rank :: self.size])

    def from_main(self, value: T) -> T:
        """Return the main process's value."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, device=self._exchange)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes, the same bits in all of them."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def take_buffers_from_main(self, *modules: nn.Module) -> None:
        """Copy the running statistics of the main process into the modules."""
        if self.size > 1:
            for module in modules:
                for buffer in module.buffers():
                    dist.broadcast(buffer, 0)

    @property
    def _exchange(self) -> torch.device | None:
        """Where NCCL exchanges objects; gloo does it in main memory."""
        return self.device if self.device.type == "cuda" else None


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes that torchrun has started, by its environment variables.

    A process group that exists is used as it is. Without one, and without torchrun, this process
    is alone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    joined = dist.is_available() and dist.is_initialized()
    begins = size > 1 and not joined
    if begins:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        if not (begins or joined):
            yield World(0, 1, 1, device)
        else:
            local_size = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
            yield World(dist.get_rank(), dist.get_world_size(), local_size, device)
    finally:
        if begins:
            # The last reference must be that of the group's own module: where a wrapped network has
            # it, gloo's threads and its destructor wait for each other.
            gc.collect()
            dist.destroy_process_group()
