"""descent_step: one step of Adam on the logits of a small fusion, in one sweep.

For inference: it has no gradient, and updates its state in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.operation import Operation, Support
from fastmef.ops.common.tensors import require
from fastmef.reference import descent as reference
from fastmef.reference.descent import Adam, DescentState, GradientPart
from fastmef.reference.pyramid import halved_size

DESCENT_STEP = Operation("descent_step", cpp=Support((torch.float32, torch.float64)))


def descent_step(
    state: DescentState,
    exposures: Tensor,
    parts: Sequence[GradientPart],
    constant: float,
    adam: Adam,
) -> None:
    """See :func:`fastmef.reference.descent.descent_step`."""
    tensors = *state, exposures, *(part.gradient for part in parts)
    if DESCENT_STEP.backend(*tensors) != backends.CPP:
        reference.descent_step(state, exposures, parts, constant, adam)
        return
    logits = state.logits
    _, count, height, width = logits.shape
    dense = [x.contiguous() for x in state]
    exposures = exposures.contiguous()
    parts = [part._replace(gradient=part.gradient.contiguous()) for part in parts]
    require(
        all(x.dtype == logits.dtype for x in tensors)
        and all(x.shape == (1, count, height, width) for x in (*state[:3], exposures))
        and state.luma.shape == (1, height, width)
        and all(
            part.gradient.shape == (1, *halved_size((height, width), part.halvings))
            for part in parts
        ),
        f"a tensor of the step does not fit logits {tuple(logits.shape)}",
    )
    backends.CPU.descent_step(  # type: ignore[union-attr]
        logits.dtype == torch.float64,
        (count, height, width),
        tuple(x.data_ptr() for x in (exposures, *dense)),
        [(part.gradient.data_ptr(), part.factor, part.halvings) for part in parts],
        constant,
        tuple(adam),
        torch.get_num_threads(),
    )
    for updated, copy in zip(state, dense, strict=True):
        if copy is not updated:
            updated.copy_(copy)
