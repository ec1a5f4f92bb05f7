"""Every public operation and the network, compiled by the default backend without graph breaks."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import COLOR, EXPOSURES, uniform
from torch import Tensor

from fastmef import FusionNet, WeightedSSIMLoss, functional

pytestmark = [
    pytest.mark.usefixtures("kernels"),
    pytest.mark.skipif(
        not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor: no C++ compiler"
    ),
]

HERE = Path(__file__).parent


def declared() -> Iterator[tuple[str, Any]]:
    """Yield the calls that test files of operations declare as ``COMPILED``."""
    for path in sorted(HERE.glob("test_*.py")):
        if "\nCOMPILED = " in path.read_text():
            yield from runpy.run_path(str(path))["COMPILED"].items()


# Name and number of a case → function, and the tensors w.r.t. which it is differentiated.
CASES: dict[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], tuple[Tensor, ...]]] = {
    **dict(declared()),
    "well_exposedness": (functional.well_exposedness, (EXPOSURES,)),
    "exposure_shares": (
        lambda x: functional.exposure_shares(x) + 0 * x[:, :, 0, 0, 0],  # they have no gradient
        (COLOR,),
    ),
    "WeightedSSIMLoss": (WeightedSSIMLoss(), (COLOR[:, 0], COLOR)),
}


def test_every_public_operation_is_here() -> None:
    assert {name.split("-")[0] for name in CASES} >= set(functional.__all__)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Reset the compiler, because code of one test counts toward the limit of the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _check(
    function: Callable[..., Any],
    *given: Tensor,
    parameters: tuple[Tensor, ...] = (),
    backend: str = "inductor",
) -> None:
    results = []
    for call in (function, torch.compile(function, fullgraph=True, backend=backend)):
        fresh = [x.clone().requires_grad_() for x in given]
        outputs = call(*(1 * x for x in fresh))
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        total = sum(x.square().sum() for x in values)
        grads = torch.autograd.grad(total, [*fresh, *parameters])
        results.append([*(x.detach() for x in values), *grads])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("name", CASES)
def test_compiles(name: str) -> None:
    function, given = CASES[name]
    # Inductor can take ten minutes to simplify the indices of an enlarged plane, and one or two to
    # compile the reference of a pyramid.
    plain = ("guided_upsample_fuse", "multiscale_fuse-everything", "multiscale_fuse-contrast")
    backend = "aot_eager" if name in plain else "inductor"
    _check(function, *given, backend=backend)


@pytest.mark.parametrize(
    ("exposures", "size", "backend"),
    [(2, (17, 33), "inductor"), (2, (16, 24), "aot_eager"), ("any", (17, 33), "aot_eager")],
)
def test_network(exposures: int | str, size: tuple[int, int], backend: str) -> None:
    """Compare gradients w.r.t. the exposures and the parameters.

    Inductor, which changes layouts, compiles one network: each takes it a minute or more.
    """
    torch.manual_seed(0)
    net = FusionNet(exposures, width=2).eval()
    images = uniform(1, 3 if exposures == "any" else 2, 3, *size)
    _check(net, images, parameters=tuple(net.parameters()), backend=backend)
