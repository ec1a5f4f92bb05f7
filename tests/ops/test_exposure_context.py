"""exposure_context on every backend: mean and maximum of the features of several exposures."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from cases import stack
from conformance import Case, Conformance
from torch import Tensor

from fastmef.ops.common.operation import RefusedError
from fastmef.ops.exposure_context import EXPOSURE_CONTEXT, exposure_context
from fastmef.reference import exposure_context as reference


def _inputs(count: int, channels: int, height: int, width: int) -> tuple[Tensor, ...]:
    shape = 1, channels, height, width
    return tuple(stack(*shape, dtype=torch.float64, seed=k) - 0.5 for k in range(count))


def _called(function, *frames: Tensor) -> Tensor:
    parts = [(k + 1) / 7 for k in range(len(frames))]
    return function(frames, parts)


class TestExposureContext(Conformance):
    operation = "exposure_context"
    cases = tuple(
        Case(
            f"{count} exposures of {channels} channels",
            partial(_called, exposure_context),
            partial(_called, reference.exposure_context),
            partial(_inputs, count, channels),
            grads=(),
            thorough=count in (2, 3),
        )
        for count, channels in ((1, 4), (2, 2), (2, 16), (3, 5), (9, 48))
    )


def test_frames_of_different_shapes_are_refused() -> None:
    frames = torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 5)
    if EXPOSURE_CONTEXT.has_kernels_for(*frames):
        with pytest.raises(RefusedError, match="one shape"):
            exposure_context(frames, [0.5, 0.5])
