"""Launches of the loss that are prepared once: when they are repeated, and when not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import cuda_kernels
import pytest
import torch
from cases import LOSS, loss_inputs
from conformance import run_on
from recorded import RegisteredCalls
from torch import Tensor

from fastmef import backends, functional
from fastmef.errors import InputError
from fastmef.ops import loss_launch

LOSSES = {"fused": functional.weighted_ssim_loss, "logits": functional.fusion_loss}


@pytest.fixture(autouse=True)
def made(emulation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Run CPU tensors on the CUDA kernels; return the launches that are prepared."""
    monkeypatch.setattr(loss_launch, "_PREPARED", {})
    monkeypatch.setattr(backends, "FAILED", {})
    launches: list[Any] = []

    class Launch(loss_launch.CudaLaunch):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            launches.append(self)

    monkeypatch.setattr(loss_launch, "CudaLaunch", Launch)
    with run_on(backends.CUDA, lambda: emulation):
        yield launches


def inputs(form: str, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source, exposures = loss_inputs(form, *(shape or (2, 2, 14, 16)))
    generator = torch.Generator().manual_seed(seed)
    noise = 0.1 * torch.rand(source.shape, generator=generator)
    return (source + noise).float().requires_grad_(), exposures.float()


def step(form: str, source: Tensor, exposures: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    value = LOSSES[form](source, exposures, **options)
    return value, torch.autograd.grad(value, source)[0]


@pytest.mark.parametrize("form", LOSSES)
def test_repeated_launches_give_the_bits_of_the_kernel(form: str, made: list[Any]) -> None:
    arguments = (None, *LOSS.values(), (1.0,), True)
    for seed in range(3):
        source, exposures = inputs(form, seed=seed)
        expected = cuda_kernels.loss(source.detach(), exposures, *arguments)
        for got, want in zip(step(form, source, exposures), expected, strict=True):
            assert torch.equal(got, want)
    assert len(made) == 1


@pytest.mark.parametrize("form", LOSSES)
def test_everything_that_a_launch_depends_on(form: str, made: list[Any]) -> None:
    source, exposures = inputs(form)
    wide = torch.zeros(2, 2, 14, 32)
    wide[..., ::2] = exposures
    calls: list[Callable[[], Tensor]] = [
        lambda: LOSSES[form](source, exposures),
        lambda: LOSSES[form](source.detach(), exposures),
        lambda: LOSSES[form](source, wide[..., ::2]),
        lambda: LOSSES[form](source.half(), exposures.half()),
        lambda: LOSSES[form](source, exposures, k1=0.02, luminance=True),
        lambda: LOSSES[form](*inputs(form, 1, 2, 24, 22), scales=(1.0, 2.0)),
        lambda: LOSSES[form](*inputs(form, 1, 2, 24, 22), scales=(2.0, 1.0)),
        lambda: LOSSES[form](*inputs(form, 1, 3, 14, 16)),
    ]
    LOSSES[form](source, exposures, floor=1)
    del made[:]
    first = [call() for call in calls]
    assert len(made) == len(calls)
    assert all(torch.equal(call(), value) for call, value in zip(calls, first, strict=True))
    assert len(made) == len(calls) and len({float(value) for value in first}) > 4
    with pytest.raises(InputError, match="floor must be"):
        LOSSES[form](source, exposures, floor=True)  # equals 1, which is allowed
    with torch.no_grad():
        assert torch.equal(LOSSES[form](source, exposures.clone().requires_grad_()), first[0])
    assert len(made) == len(calls)


@pytest.mark.parametrize("form", LOSSES)
def test_bad_arguments_are_refused_after_good_ones(form: str) -> None:
    source, exposures = (x.detach() for x in inputs(form))
    LOSSES[form](source, exposures)
    other_form = {"fused": "logits", "logits": "fused"}[form]
    other = inputs(other_form)[0].detach()
    LOSSES[other_form](other, exposures)
    for bad, what in (
        (other, "must be"),
        (source.double(), "one dtype"),
        (source.to("meta"), "one device"),
        (source.to_sparse(), "dense"),
        (torch.nested.nested_tensor(list(source)), "dense"),
        (source.tolist(), "must be a torch.Tensor"),
        (source[..., :-1], "must be"),
    ):
        with pytest.raises(InputError, match=what):
            LOSSES[form](bad, exposures)
    for bad in (exposures.tolist(), exposures[:, 0], exposures.int(), exposures.to_sparse()):
        with pytest.raises(InputError):
            LOSSES[form](source, bad)


@pytest.mark.parametrize("form", LOSSES)
def test_memory_that_holds_the_negative_values(form: str) -> None:
    source, exposures = (x.detach() for x in inputs(form))
    value = LOSSES[form](source, exposures)
    for _ in range(2):
        negative = torch._neg_view(-source)
        assert negative.is_neg() and torch.equal(LOSSES[form](negative, exposures), value)


@pytest.mark.parametrize("form", LOSSES)
def test_watchers_see_the_registered_operation(form: str) -> None:
    source, exposures = inputs(form)
    value = LOSSES[form](source, exposures)
    with RegisteredCalls() as watcher:
        assert torch.equal(LOSSES[form](source, exposures), value)
    assert watcher.names == {"weighted_ssim_loss"}
    value = LOSSES[form](source, exposures)
    with RegisteredCalls() as watcher:
        value.backward()
    assert watcher.names == {"scale_gradient_"}


@pytest.mark.parametrize("form", LOSSES)
def test_backward_passes(form: str) -> None:
    source, exposures = inputs(form)
    _, expected = step(form, source, exposures)
    value = LOSSES[form](source, exposures)
    (kept,) = torch.autograd.grad(value, source, retain_graph=True)
    (tripled,) = torch.autograd.grad(value, source, torch.tensor(3.0), retain_graph=True)
    assert torch.equal(kept, expected) and torch.equal(tripled, 3 * expected)
    factors = torch.tensor([1.0, 3.0])
    (batched,) = torch.autograd.grad(
        value, source, factors, retain_graph=True, is_grads_batched=True
    )
    assert torch.equal(batched, torch.stack([expected, tripled]))
    (last,) = torch.autograd.grad(value, source, torch.tensor(3.0))
    assert torch.allclose(last, tripled)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()
    value = LOSSES[form](source, exposures)
    one = torch.ones((), requires_grad=True)
    (again,) = torch.autograd.grad(value, source, one, create_graph=True)
    assert torch.equal(again, expected)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        again.sum().backward()


@pytest.mark.parametrize("form", LOSSES)
def test_launch_that_fails(form: str, made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    source, exposures = inputs(form)
    value, gradient = step(form, source, exposures)

    failures: list[Any] = []

    def fails(*given: Any) -> None:
        failures.append(given)
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(type(made[0]), "__call__", fails)
    # The registered operation runs the kernel: in the emulation it fails nowhere else.
    with pytest.warns(RuntimeWarning, match="cuda kernels of .* failed .*no kernel image"):
        again = step(form, source, exposures)
    assert torch.allclose(again[0], value) and torch.allclose(again[1], gradient, atol=1e-6)
    assert len(backends.FAILED) == 1
    step(form, source, exposures)
    assert len(made) == len(failures) == 1


@pytest.mark.parametrize("form", LOSSES)
def test_backward_launch_that_fails(
    form: str, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, exposures = inputs(form)
    _, gradient = step(form, source, exposures)
    values = [LOSSES[form](source, exposures) for _ in range(2)]
    failures: list[Any] = []

    def fails(*given: Any) -> None:
        failures.append(given)
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(type(made[0]), "scale", fails)
    with pytest.warns(RuntimeWarning, match="cuda kernels of scale_gradient failed"):
        (first,) = torch.autograd.grad(values[0], source)
    (second,) = torch.autograd.grad(values[1], source)
    assert torch.equal(first, gradient) and torch.equal(second, gradient)
    assert len(failures) == 1 and len(backends.FAILED) == 1
