"""What a result must be before it is rounded to 8 bit, which would hide that it is not."""

from __future__ import annotations

import math

from torch import Tensor

from fastmef.errors import InputError


def check_finite(fused: Tensor) -> None:
    """Refuse a result with NaN or infinity, which would be rounded to black or white.

    Raises:
        InputError: see above.
    """
    low, high = (float(value) for value in fused.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            "the network gives these photographs no finite result: its weights are unusable, as"
            " after a training that diverged"
        )
