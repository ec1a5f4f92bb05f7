"""Variants of the windowed kernels, for compilation without a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .launching import Configuration
from .windows import COLUMNS

# The default window, not normalised: the sum of the taps makes no difference to the code.
TAPS = tuple(math.exp(-((i - 5) ** 2) / 4.5) for i in range(11))
WINDOW = {"TAPS_Y": TAPS, "TAPS_X": TAPS, "COLUMNS": COLUMNS}
# The margins of derivative maps (see maps.py).
MARGINS = {border: {"MARGIN_Y": n, "MARGIN_X": n} for border, n in (("valid", 10), ("zero", 5))}


def configuration(
    name: str,
    kernel: Any,
    given: Mapping[str, str],
    constants: Mapping[str, Any],
    bytes_per_pixel: float,
    resident: int,
    pixels: int = COLUMNS,
) -> Configuration:
    """Return a variant. Arguments without a type in ``given`` that are not constant are int32."""
    signature = {
        x: given.get(x, "i32") for x in kernel.arg_names if x in given or x not in constants
    }
    return Configuration(
        name,
        kernel,
        signature,
        constants,
        pixels=pixels,
        bytes_per_pixel=bytes_per_pixel,
        resident=resident,
    )
