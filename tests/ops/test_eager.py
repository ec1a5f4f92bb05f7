"""Eager calls start GPU kernels at once; whoever watches operations sees the registered one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from recorded import RegisteredCalls
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from fastmef import backends
from fastmef.ops.common.transforms import called_eagerly
from fastmef.ops.loss import SCALE_GRADIENT

NAME = "scale_gradient_"


class Subclass(Tensor):
    pass


def traced_before_dispatch(look: Callable[[Tensor], Tensor]) -> None:
    make_fx(look, pre_dispatch=True)(torch.ones(1))


def profiled(look: Callable[[Tensor], Tensor]) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        look(torch.ones(1))


def in_a_mode(mode: Callable[[], Any]) -> Callable[[Callable[[Tensor], Tensor]], None]:
    def call(look: Callable[[Tensor], Tensor]) -> None:
        with mode():
            look(torch.ones(1))

    return call


@pytest.mark.parametrize(
    "watch",
    [
        in_a_mode(RegisteredCalls),
        in_a_mode(FakeTensorMode),
        lambda look: torch.func.vmap(look)(torch.ones(1)),
        lambda look: torch.func.grad(lambda x: look(x).sum())(torch.ones(1)),
        lambda look: torch.jit.trace(look, torch.ones(1), check_trace=False),
        lambda look: torch.compile(look, backend="eager", fullgraph=True)(torch.ones(1)),
        lambda look: look(torch.ones(1).as_subclass(Subclass)),
        traced_before_dispatch,
        profiled,
    ],
    ids=["mode", "fake", "vmap", "grad", "jit", "compile", "subclass", "make_fx", "profiler"],
)
def test_watchers_see_the_registered_operation(watch: Callable[..., Any]) -> None:
    eager = []

    def look(x: Tensor) -> Tensor:
        eager.append(called_eagerly((x, 1.0)))
        return x * 1

    look(torch.nn.Parameter(torch.ones(1)))
    watch(look)
    assert eager.pop(0) and eager and not any(eager)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return a list of calls of the CUDA kernels, which are replaced and compute nothing."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(backends, "FAILED", {})
    monkeypatch.setattr(backends, "INTERPRETED", False)
    kernels = SCALE_GRADIENT.kernels[NAME]
    monkeypatch.setitem(kernels, backends.CUDA, lambda *given: calls.append(given))
    return calls


def test_eager_calls_skip_the_dispatcher(made: list[tuple[Any, ...]]) -> None:
    """The registered operation would find no CUDA kernel for CPU tensors."""
    gradient = torch.ones(2)
    run = SCALE_GRADIENT.eager(NAME)
    run(backends.CUDA, gradient, gradient[:1], 2.0)
    assert len(made) == 1 and made[0][0] is gradient
    with RegisteredCalls() as watcher, contextlib.suppress(NotImplementedError):
        run(backends.CUDA, gradient, gradient[:1], 2.0)
    assert watcher.names == {NAME} and len(made) == 1


def test_failed_launch_goes_to_the_dispatcher_once_and_for_all(
    made: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        made.append(given)
        raise RuntimeError("no kernel image")

    monkeypatch.setitem(SCALE_GRADIENT.kernels[NAME], backends.CUDA, fails)
    run = SCALE_GRADIENT.eager(NAME)
    gradient = torch.ones(2, device="meta")  # the registered operation accepts meta tensors
    with pytest.warns(RuntimeWarning, match="cuda kernels of scale_gradient failed .*kernel image"):
        run(backends.CUDA, gradient, gradient[:1], 2.0)
    run(backends.CUDA, gradient, gradient[:1], 2.0)
    assert len(made) == 1
