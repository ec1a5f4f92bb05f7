"""Every operation on a real GPU: numbers, streams, graphs, torch.compile, equal bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef.ops.common.operation import OPERATIONS

SIZES = [(45, 70), (129, 270)]


def on_gpu(inputs: list[Tensor]) -> list[Tensor]:
    return [x.cuda() for x in inputs]


@pytest.mark.parametrize("size", [(1, 1), (7, 200), *SIZES], ids=str)
def test_values_and_gradients(operation: Any, size: tuple[int, int]) -> None:
    inputs = operation.inputs(*size)
    exact = operation.run(operation.exact, [x.double() for x in inputs])
    single = operation.run(operation.exact, inputs)
    ours = operation.run(operation.function, on_gpu(inputs))
    for e, s, o in zip(exact, single, ours, strict=True):
        error, allowed = (o.cpu() - e).abs().max(), (s - e).abs().max()
        assert o.shape == e.shape
        assert error <= 2 * allowed + 1e-6 * (e.abs().max() + 1)


def test_kernels_are_used(operation: Any) -> None:
    limits = {"window": 11, "scales": (1.0,)} if "loss" in operation.name else {}
    given = (*on_gpu(operation.inputs(4, 5)), *([None] if limits else []))
    given = given[::-1] if operation.name == "guided_upsample_fuse" else given
    assert OPERATIONS[operation.name].has_kernels_for(*given, **limits)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_bits_again(operation: Any, size: tuple[int, int]) -> None:
    inputs = on_gpu(operation.inputs(*size))
    first = operation.run(operation.function, inputs)
    for _ in range(5):
        again = operation.run(operation.function, inputs)
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


def test_side_stream(operation: Any) -> None:
    inputs = on_gpu(operation.inputs(129, 270))
    expected = operation.run(operation.function, inputs)
    stream = torch.cuda.Stream()
    stale = [torch.zeros_like(x) for x in inputs]
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # The inputs become right only on this stream, after a while.
        torch.cuda._sleep(50_000_000)
        for x, y in zip(stale, inputs, strict=True):
            x.copy_(y)
        found = operation.run(operation.function, stale)
    stream.synchronize()
    assert all(torch.equal(x, y) for x, y in zip(expected, found, strict=True))


def test_cuda_graph(operation: Any) -> None:
    inputs = on_gpu(operation.inputs(45, 70))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            operation.run(operation.function, inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = operation.run(operation.function, inputs)
    for seed in (1, 2):
        others = on_gpu(operation.inputs(45, 70, seed))
        for x, y in zip(inputs, others, strict=True):
            x.copy_(y)
        graph.replay()
        torch.cuda.synchronize()
        expected = operation.run(operation.function, others)
        assert all(torch.equal(x, y) for x, y in zip(expected, captured, strict=True))


def test_compiles_without_graph_breaks(operation: Any) -> None:
    inputs = on_gpu(operation.inputs(45, 70))
    expected = operation.run(operation.function, inputs)
    compiled = torch.compile(operation.function, fullgraph=True)
    found = operation.run(compiled, inputs)
    for x, y in zip(expected, found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_not_contiguous(operation: Any) -> None:
    inputs = on_gpu(operation.inputs(45, 70))
    expected = operation.run(operation.function, inputs)
    turned = [x.mT.contiguous().mT for x in inputs]
    found = operation.run(operation.function, turned)
    for x, y in zip(expected, found, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_not_the_current_device(operation: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    inputs = operation.inputs(45, 70)
    expected = operation.run(operation.function, on_gpu(inputs))
    found = operation.run(operation.function, [x.to("cuda:1") for x in inputs])
    assert all(torch.equal(x.cpu(), y.cpu()) for x, y in zip(expected, found, strict=True))
