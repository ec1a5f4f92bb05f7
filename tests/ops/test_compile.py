"""Every public operation and the network, compiled by the default backend without graph breaks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastmef import FusionNet, WeightedSSIMLoss, functional

pytestmark = [
    pytest.mark.usefixtures("kernels"),
    pytest.mark.skipif(
        not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor: no C++ compiler"
    ),
]

STACK = (2, 2, 24, 25)


def _images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


EXPOSURES, COLOR = _images(*STACK), _images(2, 2, 3, 24, 25, seed=1)
MASK = _images(2, 24, 25, seed=2)

# By name and number of a case: the function, and the tensors that it is differentiated by.
CASES: dict[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], tuple[Tensor, ...]]] = {
    "local_variance": (functional.local_variance, (EXPOSURES,)),
    "sobel_gradient": (functional.sobel_gradient, (EXPOSURES,)),
    "well_exposedness": (functional.well_exposedness, (EXPOSURES,)),
    "gamma_weights": (functional.gamma_weights, (EXPOSURES,)),
    "ssim": (functional.ssim, (EXPOSURES[:, 0], EXPOSURES[:, 1])),
    "ssim-map": (
        lambda a, b: functional.ssim(a, b, border="reflect", reduction="none"),
        (EXPOSURES[:, 0], EXPOSURES[:, 1]),
    ),
    "weighted_ssim_loss": (
        lambda x: functional.weighted_ssim_loss(x, EXPOSURES, mask=MASK, scales=(1.0, 0.5)),
        (MASK,),
    ),
    "weighted_ssim_loss-map": (
        lambda x: functional.weighted_ssim_loss(x, EXPOSURES, reduction="none"),
        (MASK,),
    ),
    "weighted_ssim_loss-exposures": (functional.weighted_ssim_loss, (MASK, EXPOSURES)),
    "fusion_loss": (
        lambda x: functional.fusion_loss(x, EXPOSURES, scales=(1.0, 0.5)),
        (_images(*STACK, seed=3),),
    ),
    "softmax_fuse": (
        lambda x, images: functional.softmax_fuse(x, images, True, 0.5),
        (EXPOSURES, COLOR),
    ),
    "softmax_fuse-alone": (functional.softmax_fuse, (EXPOSURES, COLOR)),
    "guided_upsample_fuse": (functional.guided_upsample_fuse, (_images(2, 2, 6, 7), COLOR)),
    "exposure_pyramid": (
        lambda x: (lambda y: (y.base, *y.inner))(functional.exposure_pyramid(x, 2)),
        (COLOR,),
    ),
    "exposure_shares": (
        lambda x: functional.exposure_shares(x) + 0 * x[:, :, 0, 0, 0],  # they have no gradient
        (COLOR,),
    ),
    "multiscale_fuse": (
        lambda x: functional.multiscale_fuse(x, COLOR),
        (_images(2, 2, 6, 7),),
    ),
    "multiscale_fuse-everything": (
        lambda x, images, shares: functional.multiscale_fuse(
            x, images, shares=shares, contrast=(1.2, 0.9), valid=COLOR[:, :, 0] > 0.2
        ),
        (_images(2, 2, 6, 7), COLOR, _images(2, 2, seed=4) + 0.1),
    ),
    "multiscale_fuse-contrast": (
        lambda x, contrast: functional.multiscale_fuse(x, COLOR, contrast=contrast),
        (_images(2, 2, 6, 7), torch.tensor(1.2)),
    ),
    "mef_ssim": (lambda x: functional.mef_ssim(x, EXPOSURES), (MASK,)),
    "mef_ssim-mefnet": (lambda x: functional.mef_ssim(x, EXPOSURES, "mefnet"), (MASK,)),
    "WeightedSSIMLoss": (WeightedSSIMLoss(), (COLOR[:, 0], COLOR)),
}


def test_every_public_operation_is_here() -> None:
    assert {name.split("-")[0] for name in CASES} >= set(functional.__all__)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What one test has compiled counts toward the limit of the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _check(function: Callable[..., Any], *given: Tensor, backend: str = "inductor") -> None:
    results = []
    for call in (function, torch.compile(function, fullgraph=True, backend=backend)):
        fresh = [x.clone().requires_grad_() for x in given]
        outputs = call(*(1 * x for x in fresh))
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(x.square().sum() for x in values).backward()
        results.append([*(x.detach() for x in values), *(x.grad for x in fresh)])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("name", CASES)
def test_compiles(name: str) -> None:
    function, given = CASES[name]
    # Inductor can take ten minutes to simplify the indices of an enlarged plane.
    backend = "aot_eager" if name == "guided_upsample_fuse" else "inductor"
    _check(function, *given, backend=backend)


@pytest.mark.parametrize(("exposures", "size"), [(2, (16, 24)), (2, (17, 33)), ("any", (17, 33))])
def test_network_by_its_exposures(exposures: int | str, size: tuple[int, int]) -> None:
    _check(FusionNet(exposures, width=2).eval(), _images(1, 2, 3, *size))


@pytest.mark.parametrize(("exposures", "count"), [(2, 2), ("any", 3)])
def test_network(exposures: int | str, count: int) -> None:
    """By its parameters, as it is trained."""
    torch.manual_seed(0)
    net, images = FusionNet(exposures, width=2).eval(), _images(1, count, 3, 17, 33)
    results = []
    for call in (net, torch.compile(net, fullgraph=True)):
        net.zero_grad()
        fused, weights = call(images)
        (fused.square().sum() + weights.square().sum()).backward()
        results.append([fused.detach(), weights.detach(), *(x.grad for x in net.parameters())])
    torch.testing.assert_close(results[1], results[0])
