"""ssim on every backend: map and mean, gradients w.r.t. both images."""

from __future__ import annotations

import itertools
from functools import partial

from cases import EXPOSURES, scene
from conformance import Case, Conformance
from torch import Tensor

from fastmef import functional, reference


def _images(height: int, width: int) -> tuple[Tensor, Tensor]:
    a = scene(2, height, width)
    return a, 0.5 * a + 0.5 * scene(2, height, width, seed=1)


def _case(name: str, thorough: bool = False, **options: object) -> Case:
    options = {"window": 5, **options}
    return Case(
        name,
        partial(functional.ssim, **options),
        partial(reference.ssim, **options),
        _images,
        grads=(0, 1),
        # The derivatives of one window's SSIM reach 2 / C2 = 2000 and cancel where nothing varies.
        noise=(2e-6, 1e-3),
        thorough=thorough,
    )


# For test_compile.py.
COMPILED = {
    "ssim": (functional.ssim, (EXPOSURES[:, 0], EXPOSURES[:, 1])),
    "ssim-map": (
        lambda a, b: functional.ssim(a, b, border="reflect", reduction="none"),
        (EXPOSURES[:, 0], EXPOSURES[:, 1]),
    ),
}


class TestSsim(Conformance):
    operation = "ssim"
    cases = (
        *(
            _case(
                f"{border}, {reduction}, {'with' if luminance else 'no'} luminance",
                thorough=(reduction == "none") == luminance == (border != "zero"),
                border=border,
                reduction=reduction,
                luminance=luminance,
            )
            for border, reduction, luminance in itertools.product(
                ("valid", "zero", "reflect"), ("mean", "none"), (True, False)
            )
        ),
        _case("default window", window=11),
        _case("flat window", window=9, sigma=None, reduction="none"),
        _case("single pixels", window=1, reduction="none"),
        _case("another range", reduction="none", data_range=255.0, k1=0.02, k2=0.05),
    )
