"""descent_step on every backend: the new logits, the moments and the luma of the new fusion."""

from __future__ import annotations

from functools import partial

import torch
from cases import scene
from conformance import Case, Conformance
from torch import Tensor

from fastmef.ops import descent
from fastmef.reference import descent as reference
from fastmef.reference.descent import Adam, DescentState, GradientPart
from fastmef.reference.pyramid import halved_size

ADAM = Adam(momentum=0.5, decay=0.9, rate=0.2, epsilon=1e-3)


def _inputs(count: int, height: int, width: int) -> tuple[Tensor, ...]:
    """Return logits, both moments, exposures, and gradients of images halved up to twice."""
    shape = 1, count, height, width
    logits, mean = 3 * scene(*shape, seed=1) - 1.5, scene(*shape, seed=2) - 0.5
    second_moment, exposures = scene(*shape, seed=3), scene(*shape, seed=4)
    sizes = (halved_size((height, width), halvings) for halvings in (0, 0, 1, 2))
    parts = (scene(1, *size, seed=5 + i) - 0.5 for i, size in enumerate(sizes))
    return logits, mean, second_moment, exposures, *parts


def _step(function, *inputs: Tensor) -> tuple[Tensor, ...]:
    *state, exposures, first, other, half, quarter = (x.clone() for x in inputs)
    parts = [
        GradientPart(first),
        GradientPart(other, -0.5),
        GradientPart(half, 2.0, 1),
        GradientPart(quarter, -3.0, 2),
    ]
    state.append(torch.empty_like(first))
    function(DescentState(*state), exposures, parts, 0.25, ADAM)
    return tuple(state)


class TestDescentStep(Conformance):
    operation = "descent_step"
    test_half_precision = None  # the base is never in half precision
    cases = tuple(
        Case(
            f"{count} exposures",
            partial(_step, descent.descent_step),
            partial(_step, reference.descent_step),
            partial(_inputs, count),
            grads=(),
            thorough=count == 3,
        )
        for count in (1, 2, 3, 9)
    )
