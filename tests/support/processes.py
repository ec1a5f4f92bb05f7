"""Start functions in several processes, as torchrun does."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

# Processes are forked from a server that has imported PyTorch, including modules that optimisers
# import late, and has not computed anything.
CONTEXT: Any = None


def context() -> Any:
    """Return the multiprocessing context."""
    global CONTEXT
    if CONTEXT is None:
        CONTEXT = multiprocessing.get_context("forkserver")
        CONTEXT.set_forkserver_preload(["fastmef.training", "torch._dynamo", "processes"])
    return CONTEXT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(size: int, target: Callable[..., None], *arguments: Any) -> list[BaseProcess]:
    """Start ``target(*arguments)`` in ``size`` processes with the environment of torchrun."""
    port = free_port()
    started = []
    for rank in range(size):
        process = context().Process(target=_run, args=(rank, size, port, target, arguments))
        process.start()
        started.append(process)
    return started


def finish(started: list[BaseProcess], seconds: float = 300) -> list[int | None]:
    """Wait for processes; return their exit codes."""
    for process in started:
        process.join(seconds)
    return [process.exitcode for process in started]


def _run(
    rank: int, size: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    target(*arguments)
