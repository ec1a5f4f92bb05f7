"""The processes of a training: a single one, or those that torchrun starts on its machines."""

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

_PATIENCE = timedelta(hours=6)  # longest time that one process waits for the others


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
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """Return the items of this process: every ``size``-th."""
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
        """Return the mean over the processes, bit for bit the same in all of them."""
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
        """Return the device on which NCCL exchanges objects; ``None`` for gloo."""
        return self.device if self.device.type == "cuda" else None


@contextmanager
def join_world() -> Iterator[World]:
    """Join the processes that torchrun has started, following its environment variables.

    An existing process group is used and left as it is. Without a group and without torchrun, the
    world is this process alone.
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
            # No wrapped network may hold the last reference to the group: gloo's threads and its
            # destructor would wait for each other.
            gc.collect()
            dist.destroy_process_group()
