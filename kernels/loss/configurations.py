"""The variants of the loss kernels that ``python -m bench.machine_code triton`` compiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..common.configurations import MARGINS, WINDOW, configuration, with_window
from ..common.launching import (
    ARITHMETIC,
    BYTES,
    BYTES_IN_FLIGHT,
    MANY_MAPS,
    SINGLE_VALUES,
    Configuration,
    Kernel,
)
from .backward import backward_kernel, sum_kernel
from .forward import forward_kernel
from .launchers import REGISTERS, REGISTERS_FROM_LOGITS, SIDE
from .pyramid import pyramid_kernel
from .scale import BLOCK, scale_kernel

RESIDENT = {1: BYTES_IN_FLIGHT, 2: ARITHMETIC}


def _configuration(
    kernel: Kernel,
    name: str,
    count: int,
    dtype: str,
    from_logits: bool,
    constants: dict[str, Any],
    bytes_per_pixel: int,
    resident: int,
    maxnreg: dict[int, int] | None = None,
    layout: int = 0,
) -> Configuration:
    """Return a variant with the arguments that all kernels of the loss have in common."""
    constants = {**constants, "K": count, "FROM_LOGITS": from_logits}
    images = ("source", "exposures", "gradient")
    singles = ("partials", "shifts", "value", "levels", "coarse")
    scalars = ("scale", "c1", "c2", "floor", "eps")
    types = {
        **dict.fromkeys(scalars, "fp32"),
        **dict.fromkeys(singles, "*fp32"),
        "maps": "*fp32",
        **dict.fromkeys(images, f"*{dtype}"),
    }
    given = {x: types[x] for x in types if x in kernel.arg_names and x not in constants}
    source = "logits" if from_logits else "F"
    name = f"{name}, {source}, K={count}, {dtype}" + (", any strides" if layout else "")
    found = configuration(name, kernel, given, constants, bytes_per_pixel, resident, layout=layout)
    return replace(found, maxnreg=maxnreg or {})


def _planes(count: int, from_logits: bool) -> int:
    """Return the number of planes that a kernel reads for each pixel."""
    return 2 * count if from_logits else 1 + count


def _forward(
    count: int,
    dtype: str = "fp32",
    from_logits: bool = False,
    with_gradient: bool = True,
    luminance: bool = False,
    layout: int = 0,
) -> Configuration:
    """Return a variant of the forward kernel."""
    constants = {
        **dict.fromkeys(("weights", "norm", "values")),
        **({} if with_gradient else {"maps": None, "shifts": None}),
        "VARIANCE": True,
        "GRADIENT": True,
        "WELL_EXPOSEDNESS": luminance,
        "LUMINANCE": luminance,
        **WINDOW,
        **MARGINS["valid"],
    }
    limits = REGISTERS_FROM_LOGITS if from_logits else REGISTERS
    name = "forward" if with_gradient else "value only"
    written = 4 * (2 + count) if with_gradient else 0
    return _configuration(
        forward_kernel,
        name + (", luminance and well-exposedness" if luminance else ""),
        count,
        dtype,
        from_logits,
        constants,
        BYTES[dtype] * _planes(count, from_logits) + written,
        RESIDENT.get(count, MANY_MAPS),
        limits if count == 2 and not luminance else None,
        layout,
    )


def _backward(
    count: int,
    dtype: str = "fp32",
    from_logits: bool = False,
    coarse: bool = False,
    layout: int = 0,
) -> Configuration:
    """Return a variant of the backward kernel, which adds a coarser gradient if ``coarse``."""
    constants = {**WINDOW, **MARGINS["valid"], **({} if coarse else {"coarse": None})}
    moved = _planes(count, from_logits) + (count if from_logits else 1)
    return _configuration(
        backward_kernel,
        "backward" + (", next level" if coarse else ""),
        count,
        dtype,
        from_logits,
        constants,
        4 * (2 + count) + BYTES[dtype] * moved + coarse,
        {**RESIDENT, 3: ARITHMETIC}.get(count, MANY_MAPS),
        layout=layout,
    )


def _pyramid(count: int, from_logits: bool, layout: int = 0) -> Configuration:
    """Return a variant of the pyramid kernel for two levels."""
    constants: dict[str, Any] = {"mask": None, "LEVELS": 2, "SIDE": SIDE}
    read = 4 * _planes(count, from_logits)
    return _configuration(
        pyramid_kernel,
        "pyramid",
        count,
        "fp32",
        from_logits,
        constants,
        read,
        BYTES_IN_FLIGHT,
        layout=layout,
    )


def _scale(dtype: str, layout: int = 0) -> Configuration:
    """Return a variant of the kernel that scales the gradient."""
    return scale_kernel.configuration(
        f"scaling of the gradient, {dtype}" + (", any address" if layout else ""),
        {"gradient": f"*{dtype}", "grad_output": "*fp32", "divisor": "fp32"},
        {"BLOCK": BLOCK},
        layout,
        pixels=BLOCK,
        bytes_per_pixel=2 * BYTES[dtype],
        resident=BYTES_IN_FLIGHT,
    )


CONFIGURATIONS = [
    *(_forward(count) for count in (1, 2, 3, 4)),
    _forward(2, "bf16"),
    _forward(2, luminance=True),
    _forward(2, with_gradient=False),
    *(_forward(count, from_logits=True) for count in (2, 3)),
    _forward(2, "bf16", from_logits=True),
    *(_backward(count) for count in (1, 2, 3, 5)),
    _backward(2, "bf16"),
    *(_backward(count, from_logits=True) for count in (2, 3)),
    _backward(2, "bf16", from_logits=True),
    _backward(2, coarse=True),
    *(_pyramid(2, from_logits) for from_logits in (False, True)),
    *(_scale(dtype) for dtype in ("fp32", "bf16")),
    *(x(2, from_logits=True, layout=1) for x in (_forward, _backward, _pyramid)),
    _scale("fp32", layout=1),
    *(
        with_window(x(count, from_logits=from_logits), window)
        for x in (_forward, _backward)
        for count, window in ((1, 21), (2, 13))
        for from_logits in (False, True)
    ),
    sum_kernel.configuration(
        "sum of the programs' sums",
        {"partials": "*fp32", "value": "*fp32"},
        {},
        pixels=512,
        bytes_per_pixel=4,
        resident=SINGLE_VALUES,
    ),
]
