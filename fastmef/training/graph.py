"""A training step as one CUDA graph, which the host launches without waiting.

A small step has some hundreds of kernels. Launching them one by one takes longer than running them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastmef.nn.objective import ObjectiveOutput

WARM_UP = 3


def warmup(function: Callable[..., Any], *arguments: Any, times: int = WARM_UP) -> Any:
    """Call a function on a side stream, so that a CUDA graph can be captured from its next call.

    The first calls compile and load kernels, choose algorithms and allocate memory, which is not
    allowed during a capture.

    Args:
        function: the function to capture, called with ``arguments``. Its side effects happen
            ``times`` times.
        times: number of calls; cuDNN's choice of algorithms and the allocator settle within three.

    Returns:
        The result of the last call. Without a GPU the function is called in the same way.

    Example:
        >>> calls = []
        >>> warmup(calls.append, "step")
        >>> calls
        ['step', 'step', 'step']
    """
    if not torch.cuda.is_available():
        return [function(*arguments) for _ in range(times)][-1]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = [function(*arguments) for _ in range(times)]
    torch.cuda.current_stream().wait_stream(stream)
    return results[-1]


def capturable_adamw(parameters: Any, **options: Any) -> torch.optim.AdamW:
    """Return a fused AdamW whose learning rate is a tensor on the device of the parameters.

    A CUDA graph would repeat the value of a number, but reads a tensor at every replay; see
    :func:`set_learning_rate`.
    """
    optimizer = torch.optim.AdamW(parameters, fused=True, **options)
    for group in optimizer.param_groups:
        device = group["params"][0].device
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)
        group["capturable"] = device.type == "cuda"
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of an optimiser. :func:`capturable_adamw` keeps it in float32."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Update:
    """One optimiser step on a batch that never waits for the device.

    Args:
        network: the network, which is passed to ``objective``.
        objective: maps ``(network, batch, precision)`` to loss and terms, as
            :class:`fastmef.training.objective.Objective` does.
        optimizer: optimiser of the network's parameters, from :func:`capturable_adamw`.
        precision: ``"float32"`` or ``"bfloat16"``.
        clip: gradients with a larger norm are scaled to this norm; 0 clips none.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        objective: Callable[[Any, Tensor, str], ObjectiveOutput],
        optimizer: torch.optim.Optimizer,
        precision: str = "float32",
        clip: float = 0.0,
    ) -> None:
        self.network, self.objective, self.optimizer = network, objective, optimizer
        self.precision, self.clip = precision, clip
        self.terms: tuple[str, ...] = ()
        """Names of the terms of the loss; empty before the first call."""

    def __call__(self, batch: Tensor) -> Tensor:
        """Take a step; return loss and terms from before it, ``(1 + terms,)``."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, terms = self.objective(self.network, batch, self.precision)
        self.terms = tuple(terms)
        loss.backward()
        if self.clip:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        self.optimizer.step()
        return torch.stack([x.detach().float() for x in (loss, *terms.values())])


class GraphedStep:
    """Run a step as one CUDA graph for each shape of its batches.

    The first calls with a shape run the step without a graph, on a side stream; the next call
    captures it. On a CPU every call runs without a graph. If a capture fails, a warning says so
    once, and all later calls run without a graph. Results are bit for bit the same.

    Args:
        step: maps a batch to a tensor and works on the device only, as :class:`Update` does.
    """

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self._step = step
        self._captured: dict[Any, _Captured] = {}
        self._pool: Any = None
        self._gave_up = False

    def __call__(self, batch: Tensor) -> Tensor:
        """Take a step. The next step overwrites the result.

        ``batch`` may be in pinned memory; it is copied to the memory that the graph reads.
        """
        key = (batch.shape, batch.dtype, batch.stride())
        if key not in self._captured:
            self._captured[key] = _Captured(batch)
        captured = self._captured[key]
        captured.batch.copy_(batch, non_blocking=True)
        if captured.batch.device.type != "cuda" or self._gave_up:
            return self._step(captured.batch)
        if captured.graph is None and captured.calls < WARM_UP:
            captured.calls += 1
            return warmup(self._step, captured.batch, times=1)
        if captured.graph is None and not self._capture(captured):
            return self._step(captured.batch)
        assert captured.graph is not None and captured.result is not None
        captured.graph.replay()
        return captured.result

    def _capture(self, captured: _Captured) -> bool:
        """Capture the step without running it; return whether that was possible."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                result = self._step(captured.batch)
        except (RuntimeError, torch.AcceleratorError) as error:
            self._gave_up = True
            reason = " ".join(str(error).split())[:300]
            warnings.warn(
                f"fastmef: the training step runs without a CUDA graph: {reason}",
                RuntimeWarning,
                stacklevel=3,
            )
            return False
        self._pool = self._pool or graph.pool()
        captured.graph, captured.result = graph, result
        return True


class _Captured:
    """The graph for one shape of batches, and the tensors that it reads and writes."""

    def __init__(self, batch: Tensor) -> None:
        device = "cuda" if torch.cuda.is_available() else batch.device
        self.batch = torch.empty_like(batch, device=device)
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Tensor | None = None


class ValueLog:
    """Keep the values of the last steps on the device and read them together.

    Reading waits for the device. Values are therefore read every ``every`` steps only.
    """

    def __init__(self, every: int) -> None:
        self._every, self._rows = every, 0
        self._values: Tensor | None = None

    def add(self, values: Tensor) -> Sequence[Sequence[float]]:
        """Keep the values of a step, ``(N,)``; every ``every`` steps return all kept values."""
        if self._values is None:
            self._values = values.new_empty((self._every, *values.shape))
        self._values[self._rows].copy_(values)
        self._rows += 1
        return self.flush() if self._rows == self._every else ()

    def flush(self) -> Sequence[Sequence[float]]:
        """Return the values that have not been returned yet, one row for each step."""
        if self._values is None:
            return ()
        rows, self._rows = self._values[: self._rows].tolist(), 0
        return rows
