"""Check a result before it is rounded to integers, which would hide NaN and infinity."""

from __future__ import annotations

import math

from torch import Tensor

from fastmef.errors import InputError


def check_finite(fused: Tensor) -> None:
    """Check that no value is NaN or infinite.

    Raises:
        InputError: a value is.
    """
    low, high = (float(value) for value in fused.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            "the network gives these photographs no finite result: its weights are unusable, as"
            " after a training that diverged"
        )
