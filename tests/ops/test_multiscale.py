"""exposure_pyramid and multiscale_fuse on every backend: levels, fused image, gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from brackets import bracket, check_fused, small_logits, some_valid
from cases import COLOR, INTEGERS, uniform
from conformance import Backend, Case, Conformance
from torch import Tensor

from fastmef import backends, functional, reference

LEVELS = 1 if backends.INTERPRETED else 2  # the interpreter takes its time


def _levels(exposures: Tensor) -> int:
    """Return :data:`LEVELS`, or the number of levels down to a single pixel if that is less."""
    return min(LEVELS, (max(exposures.shape[-2:]) - 1).bit_length())


def _exposures(count: int, channels: int, height: int, width: int) -> tuple[Tensor]:
    return (bracket(2, count, channels, height, width, dtype=torch.float64),)


def _flat(pyramid: functional.ExposurePyramid) -> tuple[Tensor, ...]:
    return (*pyramid.inner, pyramid.base, *pyramid.validity)


def _masked(function: Any, exposures: Tensor, masked: bool) -> tuple[Tensor, ...]:
    valid = some_valid(exposures).to(exposures.device) if masked else None
    return _flat(function(exposures, _levels(exposures), valid))


def _pyramid(name: str, count: int, channels: int, masked: bool = False) -> Case:
    return Case(
        name,
        partial(_masked, functional.exposure_pyramid, masked=masked),
        partial(_masked, reference.exposure_pyramid, masked=masked),
        partial(_exposures, count, channels),
        thorough=channels == 3 and not (masked and backends.INTERPRETED),
        limits={"validity": torch.ones(1) if masked else None},
    )


# For test_compile.py.
COMPILED = {
    "exposure_pyramid": (
        lambda x: (lambda y: (y.base, *y.inner))(functional.exposure_pyramid(x, 2)),
        (COLOR,),
    ),
    "multiscale_fuse": (
        lambda x: functional.multiscale_fuse(x, COLOR),
        (uniform(2, 2, 6, 7),),
    ),
    "multiscale_fuse-everything": (
        lambda x, images, shares: functional.multiscale_fuse(
            x, images, shares=shares, contrast=(1.2, 0.9), valid=COLOR[:, :, 0] > 0.2
        ),
        (uniform(2, 2, 6, 7), COLOR, uniform(2, 2, seed=4) + 0.1),
    ),
    "multiscale_fuse-contrast": (
        lambda x, contrast: functional.multiscale_fuse(x, COLOR, contrast=contrast),
        (uniform(2, 2, 6, 7), torch.tensor(1.2)),
    ),
}


class TestExposurePyramid(Conformance):
    operation = "exposure_pyramid"
    cases = (
        _pyramid("two exposures", 2, 3),
        _pyramid("gray", 3, 1),
        _pyramid("masked", 2, 3, masked=True),
    )

    @pytest.mark.parametrize("dtype", INTEGERS, ids=str)
    def test_integers_are_exact(self, backend: Backend, dtype: torch.dtype) -> None:
        exposures = bracket(2, 2, 3, 13, 18, dtype=dtype)
        ours = functional.exposure_pyramid(exposures.to(backend.device), 3)
        expected = reference.exposure_pyramid(exposures, 3)
        assert all(torch.equal(x.cpu(), y) for x, y in zip(ours.inner, expected.inner, strict=True))
        torch.testing.assert_close(ours.base.cpu(), expected.base, rtol=2e-7, atol=0)


def _inputs(count: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    (exposures,) = _exposures(count, channels, height, width)
    return small_logits(exposures, _levels(exposures), torch.float64), exposures


def _moved(exposures: Tensor, masked: bool, shares: Tensor | None) -> dict[str, Tensor | None]:
    """Return arguments that depend on the size, device and dtype of the exposures."""
    valid = some_valid(exposures).to(exposures.device) if masked else None
    return {"valid": valid, "shares": None if shares is None else shares.to(exposures)}


def _fused(
    logits: Tensor,
    exposures: Tensor,
    masked: bool = False,
    shares: Tensor | None = None,
    **options: Any,
) -> Tensor:
    moved = _moved(exposures, masked, shares)
    return functional.multiscale_fuse(logits, exposures, **moved, **options)


def _fused_by_reference(
    logits: Tensor,
    exposures: Tensor,
    masked: bool = False,
    shares: Tensor | None = None,
    **options: Any,
) -> Tensor:
    moved = _moved(exposures, masked, shares)
    return reference.multiscale_fuse(logits, exposures, _levels(exposures), **moved, **options)


def _case(
    name: str,
    count: int = 2,
    channels: int = 3,
    grads: tuple[int, ...] = (0,),
    thorough: bool = False,
    **options: Any,
) -> Case:
    options = {"radius": 1, **options}
    masked = options.get("masked", False)
    return Case(
        name,
        partial(_fused, **options),
        partial(_fused_by_reference, **options),
        partial(_inputs, count, channels),
        grads=grads,
        noise=(2e-6, 1e-5),
        thorough=thorough,
        limits={"radius": options["radius"], "validity": torch.ones(1) if masked else None},
        record_tensors=lambda logits, exposures: (exposures, exposures, exposures),
    )


class TestMultiscaleFuse(Conformance):
    operation = "multiscale_fuse"
    layout_changes_no_bit = False  # the base is fused by softmax_fuse, see test_fusion.py
    sizes = ((1, 1), (2, 3)) if backends.INTERPRETED else Conformance.sizes
    cases = (
        _case("two exposures", thorough=True),
        *([] if backends.INTERPRETED else [_case("default window", 3, radius=4)]),
        _case("single pixels as windows", radius=0),
        _case("large floor", radius=7, floor=1e-4),
        _case("large window", radius=8),
        _case("shares of two exposures", 2, shares=torch.tensor([[0.5, 1], [0.0, 2]])),
        _case("shares", 3, shares=torch.tensor([[0.5, 0.5, 1], [0.0, 2, 1]])),
        _case("gray", 2, 1),
        _case("nine exposures", 9),
        _case("gradients of exposures", grads=(0, 1), thorough=not backends.INTERPRETED),
        _case("masked", 3, masked=True, thorough=not backends.INTERPRETED),
        _case("no knee", knee=None),
        _case("wide knee", knee=(0.3, 0.5), contrast=3.0),
        _case("contrast of each band", contrast=(1.2, -0.5)[:LEVELS]),
    )

    @pytest.mark.parametrize("dtype", INTEGERS, ids=str)
    def test_stored_types(self, backend: Backend, dtype: torch.dtype) -> None:
        """Integers keep their dtype and layout and are rounded to the nearest."""
        exposures = bracket(2, 3, 3, 7, 10, dtype=dtype)
        shares = torch.tensor([[0.5, 0.5, 1], [0.0, 2, 1]])
        options = {"device": backend.device, "radius": 1, "shares": shares}
        for layout in ("planar", "strided", "channels_last"):
            fused = check_fused(exposures, 2, layout, **options)
        assert fused.permute(0, 2, 3, 1).is_contiguous()

    @pytest.mark.parametrize("dtype", [*INTEGERS, torch.float32], ids=str)
    @pytest.mark.parametrize(("levels", "size"), [(0, (4, 7)), (1, (3, 3)), (2, (2, 1))])
    def test_a_base_between_two_levels(
        self, backend: Backend, dtype: torch.dtype, levels: int, size: tuple[int, int]
    ) -> None:
        """The base is resampled from the level above, and one more band lies between the two."""
        exposures = bracket(1, 2, 3, 7, 10, dtype=dtype)
        check_fused(exposures, levels, device=backend.device, size=size, radius=1)
