"""upsample_join on every backend: features at double size with others behind their channels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from cases import stack
from conformance import Case, Conformance
from torch import Tensor

from fastmef.ops.common.operation import RefusedError
from fastmef.ops.upsample_join import UPSAMPLE_JOIN, upsample_join
from fastmef.reference import upsample_join as reference


def _inputs(channels: int, skipped: int, height: int, width: int) -> tuple[Tensor, ...]:
    small = 1, channels, height + 2, width + 2
    large = 1, skipped, 2 * height + 2, 2 * width + 2
    return tuple(
        stack(*shape, dtype=torch.float64, seed=seed) - 0.5
        for seed, shape in enumerate((small, large))
    )


class TestUpsampleJoin(Conformance):
    operation = "upsample_join"
    cases = tuple(
        Case(
            f"{channels} and {skipped} channels",
            upsample_join,
            reference.upsample_join,
            partial(_inputs, channels, skipped),
            grads=(),
            thorough=channels == 5,
        )
        for channels, skipped in ((1, 1), (5, 3), (16, 8), (48, 20))
    )


def test_features_that_do_not_fit_are_refused() -> None:
    features, skipped = torch.rand(1, 2, 5, 6), torch.rand(1, 2, 8, 9)
    if UPSAMPLE_JOIN.has_kernels_for(features, skipped):
        with pytest.raises(RefusedError, match="must fit"):
            upsample_join(features, skipped)
