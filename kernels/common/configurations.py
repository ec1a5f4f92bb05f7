"""Variants of the windowed kernels, for compilation without a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .launching import MANY_MAPS, Configuration, Kernel
from .windows import COLUMNS

# The default window, not normalised: the sum of the taps makes no difference to the code.
TAPS = tuple(math.exp(-((i - 5) ** 2) / 4.5) for i in range(11))
WINDOW = {"TAPS_Y": TAPS, "TAPS_X": TAPS, "COLUMNS": COLUMNS}
# The margins of derivative maps (see maps.py).
MARGINS = {border: {"MARGIN_Y": n, "MARGIN_X": n} for border, n in (("valid", 10), ("zero", 5))}


def configuration(
    name: str,
    kernel: Kernel,
    given: Mapping[str, str],
    constants: Mapping[str, Any],
    bytes_per_pixel: float,
    resident: int,
    pixels: int = COLUMNS,
    layout: int = 0,
) -> Configuration:
    """List a variant of a windowed kernel."""
    return kernel.configuration(
        name,
        given,
        constants,
        layout,
        pixels=pixels,
        bytes_per_pixel=bytes_per_pixel,
        resident=resident,
    )


def with_window(found: Configuration, size: int, each: int = 1) -> Configuration:
    """Return a variant of ``"valid"`` windows for the largest ones that its launcher is given.

    ``each``: columns of a thread, where the kernel knows several.
    """
    taps = dict.fromkeys(("TAPS_Y", "TAPS_X"), (1 / size,) * size)
    margins = {x: size - 1 for x in ("MARGIN_Y", "MARGIN_X") if x in found.constants}
    columns = {x: each for x in ("EACH",) if x in found.constants}
    return replace(
        found,
        name=f"{found.name}, window {size}",
        constants={**found.constants, **taps, **margins, **columns},
        resident=MANY_MAPS,
        maxnreg={},
    )
