"""Every registered operation has calls in tests/support/opchecks.py and passes ``opcheck``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import opchecks
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastmef import backends, reference
from fastmef.reference import norm_act

CPU = torch.device("cpu")


def _guide(exposures: Tensor, rows: int, columns: int) -> Tensor:
    guide = reference.guided.luma_guide(exposures, torch.float32)
    return F.adaptive_avg_pool2d(guide, (rows, columns))


def _fuse(slopes: Tensor, offsets: Tensor, exposures: Tensor) -> Tensor:
    guide = reference.guided.luma_guide(exposures, torch.float32)
    a, b = (F.interpolate(x, guide.shape[-2:], mode="bilinear") for x in (slopes, offsets))
    return reference.softmax_fuse(a * guide + b, exposures)[0]


def _move(statistics: Tensor, mean: Tensor | None, variance: Tensor | None, share: float) -> Tensor:
    if mean is not None and variance is not None:
        mean.lerp_(statistics[0], share)
        variance.lerp_(statistics[1], share)
    return statistics


def _norm_act(x: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    *affine, then, keep = options
    y, after = norm_act.norm_act(x, *affine, then)
    empty = x.new_empty(0)
    if not then:
        return y, empty
    return (y if keep and then == "pool" else empty), after


def _sums(by_y: Tensor | None, by_after: Tensor | None, x: Tensor, *options: Any) -> Any:
    by_z = x * 0 if options[-1] == "bilinear" else x.new_empty(0)
    return x.new_zeros(2, x.shape[1]), by_z


# No kernel on the CPU stands behind these; where gradients are made the numbers do not matter here.
STAND_INS = {
    "guided_guide": _guide,
    "guided_fuse": _fuse,
    "norm_statistics": lambda x, *running: _move(norm_act.moments(x), *running),
    "norm_merge_statistics": lambda parts, *running: _move(parts.mean(0), *running),
    "norm_act": _norm_act,
    "norm_act_sums": _sums,
    "norm_act_backward": lambda by_y, by_after, x, *options: x * 0,
}


@pytest.fixture
def stand_ins() -> Iterator[None]:
    with torch.library._scoped_library("fastmef", "IMPL") as library:
        for name, function in STAND_INS.items():
            library.impl(name, function, "CPU")
        yield


def test_every_operation_has_calls() -> None:
    calls = opchecks.calls(CPU)
    assert sorted(calls) == opchecks.REGISTERED and all(calls.values())


@pytest.mark.parametrize("name", opchecks.REGISTERED)
def test_opcheck(name: str, stand_ins: None) -> None:
    if name not in STAND_INS and backends.CPU is None:
        pytest.skip(f"C++ kernels: {backends.cpu_status()}")
    for arguments in opchecks.calls(CPU)[name]:
        torch.library.opcheck(getattr(torch.ops.fastmef, name).default, arguments)
