"""The variants of ssim that are compiled ahead of time."""

from __future__ import annotations

from ..common.configurations import MARGINS, WINDOW, configuration, with_window
from ..common.launching import ARITHMETIC, BYTES_IN_FLIGHT, Configuration, Kernel
from .backward import ssim_backward_kernel
from .forward import ssim_kernel


def _configuration(
    name: str,
    kernel: Kernel,
    pointers: dict[str, str],
    bytes_per_pixel: float,
    border: str = "valid",
    luminance: bool = True,
    gradients: str = "",
    layout: int = 0,
) -> Configuration:
    """Return a variant; arguments without a type in ``pointers`` are ``None``."""
    given = {x: f"*{dtype}" for x, dtype in pointers.items()}
    given |= {x: "fp32" for x in ("c1", "c2", "scale") if x in kernel.arg_names}
    optional = ("grad_output", "values", "sums", "shifts", "maps", "gradient_a", "gradient_b")
    fixed = {"PADDED": border == "zero", **MARGINS[border]}
    if kernel is ssim_kernel:
        fixed |= {"LUMINANCE": luminance, "EACH": 2}
        fixed |= {"FOR_A": "a" in gradients, "FOR_B": "b" in gradients}
    absent = [x for x in optional if x in kernel.arg_names and x not in given]
    return configuration(
        f"{name}, {border} border, {'with' if luminance else 'no'} luminance, {pointers['a']}"
        + (", any strides" if layout else ""),
        kernel,
        given,
        {**WINDOW, **fixed, **dict.fromkeys(absent)},
        bytes_per_pixel,
        resident=ARITHMETIC if kernel is ssim_kernel else BYTES_IN_FLIGHT,
        layout=layout,
    )


_MAPS = {"maps": "fp32", "shifts": "fp32"}
_HALF = {"a": "bf16", "b": "bf16"}
_SINGLE = {"a": "fp32", "b": "fp32"}
_MEAN = {**_SINGLE, "sums": "fp32"}
_GRADIENTS = {"gradient_a": "fp32", "gradient_b": "fp32"}
CONFIGURATIONS = [
    _configuration("ssim map", ssim_kernel, {**_SINGLE, "values": "fp32"}, 12),
    _configuration("ssim map", ssim_kernel, {**_SINGLE, "values": "fp32"}, 12, "zero"),
    _configuration("ssim map", ssim_kernel, {**_HALF, "values": "bf16"}, 6, luminance=False),
    _configuration("ssim mean", ssim_kernel, _MEAN, 8),
    _configuration("ssim mean, one gradient", ssim_kernel, {**_MEAN, **_MAPS}, 20, gradients="a"),
    _configuration(
        "ssim mean, both gradients", ssim_kernel, {**_MEAN, **_MAPS}, 24, "zero", gradients="ab"
    ),
    _configuration(
        "ssim map backward, first pass",
        ssim_kernel,
        {**_SINGLE, **_MAPS, "grad_output": "fp32"},
        28,
        gradients="ab",
    ),
    _configuration(
        "one gradient, second pass",
        ssim_backward_kernel,
        {**_SINGLE, **_MAPS, "gradient_a": "fp32"},
        24,
    ),
    _configuration(
        "both gradients, second pass",
        ssim_backward_kernel,
        {**_SINGLE, **_MAPS, **_GRADIENTS},
        32,
    ),
    _configuration(
        "both gradients, second pass",
        ssim_backward_kernel,
        {**_HALF, **_MAPS, "gradient_a": "bf16", "gradient_b": "bf16"},
        24,
        "zero",
    ),
    _configuration(
        "ssim mean, both gradients",
        ssim_kernel,
        {**_MEAN, **_MAPS},
        24,
        "zero",
        gradients="ab",
        layout=1,
    ),
    _configuration(
        "both gradients, second pass",
        ssim_backward_kernel,
        {**_SINGLE, **_MAPS, **_GRADIENTS},
        32,
        layout=1,
    ),
    *(
        with_window(
            _configuration(
                "ssim mean, both gradients", ssim_kernel, {**_MEAN, **_MAPS}, 24, gradients="ab"
            ),
            window,
            each,
        )
        for window, each in ((13, 2), (27, 1))
    ),
    with_window(
        _configuration(
            "both gradients, second pass",
            ssim_backward_kernel,
            {**_SINGLE, **_MAPS, **_GRADIENTS},
            32,
        ),
        27,
    ),
]
