"""local_variance, sobel_gradient and gamma_weights on every backend."""

from __future__ import annotations

from functools import partial

from cases import EXPOSURES, GAMMAS, scene
from conformance import Case, Conformance
from torch import Tensor

from fastmef import backends, functional, reference

# The largest error of one image varies by three times, whatever computes it: four are comparable.
PLANES = 2 if backends.INTERPRETED else 4


def _planes(height: int, width: int) -> tuple[Tensor]:
    return (scene(2, height, width),)


def _bright_flat(height: int, width: int) -> tuple[Tensor]:
    return (0.9 + 2e-3 * (scene(2, height, width) - 0.5),)


def _variance(name: str, thorough: bool = False, **options: object) -> Case:
    options = {"window": 5, **options}
    function = partial(functional.local_variance, **options)
    oracle = partial(reference.local_variance, **options)
    return Case(name, function, oracle, _planes, thorough=thorough)


# For test_compile.py.
COMPILED = {
    "local_variance": (functional.local_variance, (EXPOSURES,)),
    "sobel_gradient": (functional.sobel_gradient, (EXPOSURES,)),
    "gamma_weights": (functional.gamma_weights, (EXPOSURES,)),
}


class TestLocalVariance(Conformance):
    operation = "local_variance"
    cases = (
        *(
            _variance(border, thorough=True, border=border)
            for border in ("valid", "zero", "reflect")
        ),
        _variance("default window", window=11, border="reflect"),
        _variance("flat window", window=3, sigma=None, floor=0.0),
        _variance("single pixels", window=1, border="zero"),
    )


class TestSobelGradient(Conformance):
    operation = "sobel_gradient"
    cases = (
        Case("any", functional.sobel_gradient, reference.sobel_gradient, _planes, thorough=True),
        Case("flat", functional.sobel_gradient, reference.sobel_gradient, _bright_flat),
    )


def _gamma(
    name: str,
    count: int = 2,
    thorough: bool = False,
    gamma: str = "variance_gradient",
    **options: object,
) -> Case:
    options = {"window": 3, **options}
    return Case(
        name,
        partial(functional.gamma_weights, gamma=gamma, **options),
        partial(reference.gamma_weights, gamma=gamma, **options),
        lambda height, width: (scene(PLANES, count, height, width),),
        # Nearly all of the gradient of a single exposure's share cancels: 1 - A / (A + eps).
        noise=(1e-6, 1e-5),
        thorough=thorough,
    )


class TestGammaWeights(Conformance):
    operation = "gamma_weights"
    cases = (
        *(_gamma(name, gamma=name, thorough=name == GAMMAS[-1]) for name in GAMMAS),
        *(_gamma(f"{count} exposures", count, gamma=GAMMAS[-1]) for count in (1, 3, 5)),
        _gamma("default window", window=11, thorough=not backends.INTERPRETED),
        _gamma("large eps", eps=0.1),
    )
