"""What a GPU would be asked to compile is what ``python -m bench.machine_code triton`` compiles.

Public operations are called with tensors of many sizes, strides and addresses. What Triton would
specialise each launch on is noted, and nothing is compiled.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", minversion="3.4", reason="compiling needs Triton 3.4 or newer")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)

import fastmef.kernels  # noqa: E402
from bench.machine_code.recording import TritonKernels, recording  # noqa: E402
from fastmef import functional, reference  # noqa: E402
from fastmef.nn.blocks import ConvNormAct  # noqa: E402
from fastmef.ops.common.rings import largest_window  # noqa: E402

KERNELS = Path(fastmef.kernels.__file__).parent
Pattern = dict[str, str]  # what is taken for granted of each run-time argument
Noted = tuple[Any, Pattern]


class Patterns:
    """Notes kernels and patterns in place of compiling kernels."""

    def __init__(self) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.compiler import make_backend

        self.backend = make_backend(GPUTarget("cuda", 90, 32))
        self.binders: dict[Any, Any] = {}

    @contextmanager
    def listening(self, note: Callable[[Noted], None]) -> Iterator[None]:
        from triton.runtime.jit import JITFunction, create_function_from_signature

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
            if kernel not in self.binders:
                self.binders[kernel] = create_function_from_signature(
                    kernel.signature, kernel.params, self.backend
                )
            _, found, _ = self.binders[kernel](*args, **{"debug": False, **options})
            note((kernel, _pattern(kernel, found)))

        with mock.patch.object(JITFunction, "run", run):
            yield


def _pattern(kernel: Any, specialization: list[tuple[str, Any]]) -> Pattern:
    pattern = {}
    for parameter, (type_, hint) in zip(kernel.params, specialization, strict=True):
        if not parameter.is_constexpr and (type_, hint) != ("constexpr", None):
            of_integer = type_ if type_[0] in "iu" else ""
            pattern[parameter.name] = "1" if type_ == "constexpr" else of_integer + (hint or "")
    return pattern


def _checked_pattern(configuration: Any) -> Pattern:
    kernel = configuration.kernel
    pattern = {}
    for parameter in kernel.params:
        if parameter.name in configuration.signature:
            type_, _, hint = configuration.signature[parameter.name].partition(":")
            pattern[parameter.name] = (type_ if type_[0] in "iu" else "") + ("D" if hint else "")
        elif not parameter.is_constexpr and configuration.constants[parameter.name] is not None:
            pattern[parameter.name] = str(configuration.constants[parameter.name])
    return pattern


@pytest.fixture(scope="module")
def configurations() -> list[Any]:
    found = []
    for path in sorted(KERNELS.rglob("[!_]*.py")):
        name = ".".join(path.relative_to(KERNELS).with_suffix("").parts)
        module = importlib.import_module(f"fastmef.kernels.{name}")
        found += getattr(module, "CONFIGURATIONS", [])
    return found


@pytest.fixture(scope="module")
def checked(configurations: list[Any]) -> dict[Any, Pattern]:
    """Return variant of a kernel → its pattern, without absent arrays."""
    patterns: dict[Any, Pattern] = {}
    for configuration in configurations:
        pattern = patterns.setdefault(configuration.kernel, {})
        for name, value in _checked_pattern(configuration).items():
            assert pattern.setdefault(name, value) == value, configuration.name
    return patterns


def _images(*shape: int, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """Yield a tensor in every layout that makes a difference to an address or a stride."""
    yield torch.zeros(shape, dtype=dtype)
    *outer, height, width = shape
    yield torch.zeros((*outer, width, height), dtype=dtype).transpose(-1, -2)
    # Rows of a larger image, which begin at multiples of 16 or at none.
    for margin in (16, 3):
        yield torch.zeros((*outer, height + 1, width + margin), dtype=dtype)[..., 1:, margin:]
    for step in (2, 16):
        yield torch.zeros((*outer, height, width * step), dtype=dtype)[..., ::step]
    yield torch.zeros(math.prod(shape) + 1, dtype=dtype)[1:].view(shape)
    if len(shape) > 3:
        yield torch.zeros((*shape[:-3], height, width, shape[-3]), dtype=dtype).movedim(-1, -3)
    yield torch.zeros((*outer, 1, 1), dtype=dtype).expand(shape)


def _needing(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _backward(*outputs: Tensor) -> None:
    """Backpropagate gradients of every layout, one after the other."""
    for output in outputs:
        if output.ndim < 2:
            output.backward(retain_graph=True)
            continue
        for gradient in _images(*output.shape, dtype=output.dtype):
            output.backward(gradient, retain_graph=True)


SIZES = ((1, 1), (16, 16), (33, 17), (48, 64), (40, 130))


def _filters(height: int, width: int) -> None:
    for x in _images(2, height, width):
        for border in ("valid", "zero", "reflect"):
            if border != "reflect" or min(height, width) > 10:
                _backward(functional.local_variance(_needing(x), border=border))
        _backward(functional.sobel_gradient(_needing(x)))
    for x in _images(2, 2, height, width):
        for gamma in ("variance_gradient", "variance_gradient_well_exposedness"):
            _backward(functional.gamma_weights(_needing(x), gamma))


def _ssim(height: int, width: int) -> None:
    for a in _images(2, height, width):
        for b in (torch.zeros(2, height, width), a):
            functional.ssim(_needing(a), b).backward()
            _backward(functional.ssim(_needing(a), _needing(b), reduction="none"))


def _loss(height: int, width: int) -> None:
    masks: list[Tensor | None] = [None, torch.zeros(1, height, width)]
    scales = (1.0,) if min(height, width) < 44 else (1.0, 0.5, 0.25)
    for exposures in _images(1, 2, height, width):
        fused = _needing(exposures[:, 0])
        for mask in masks:
            loss = partial(functional.weighted_ssim_loss, fused, exposures, mask=mask)
            _backward(loss(scales=scales))
            _backward(loss(reduction="none"))
        _backward(functional.fusion_loss(_needing(exposures), exposures, scales=scales))
        # A scalar that is not at the beginning of its memory.
        total = functional.weighted_ssim_loss(fused, exposures)
        total.backward(torch.zeros(3)[1])


def _fusion(height: int, width: int) -> None:
    for dtype in (torch.float32, torch.uint8):
        for exposures in _images(2, 2, 3, height, width, dtype=dtype):
            for logits in _images(2, 2, height, width):
                logits = _needing(logits)
                given = _needing(exposures) if dtype.is_floating_point else exposures
                fused, weights = functional.softmax_fuse(logits, given, return_weights=True)
                if dtype.is_floating_point:
                    _backward(fused, weights)
                    _backward(functional.softmax_fuse(logits, exposures))


def _guided(height: int, width: int) -> None:
    for exposures in _images(2, 2, 3, height, width, dtype=torch.uint8):
        logits = torch.zeros(2, 2, max(1, height // 4), max(1, width // 4))
        functional.guided_upsample_fuse(logits, exposures)


def _mef_ssim(height: int, width: int) -> None:
    for fused in _images(1, height, width):
        for count in (2, 3):
            exposures = torch.zeros(1, count, height, width)
            for variant, scales in (("ma2015", 1), ("mefnet", None)):
                score = functional.mef_ssim(
                    _needing(fused), exposures, variant=variant, scales=scales
                )
                _backward(score.sum())


def _multiscale(height: int, width: int) -> None:
    if min(height, width) < 32:
        return
    for dtype in (torch.float32, torch.uint8):
        for exposures in _images(1, 2, 3, height, width, dtype=dtype):
            pyramid = functional.exposure_pyramid(exposures, levels=2)
            logits = _needing(torch.zeros(1, 2, *pyramid.base.shape[-2:]))
            fused = functional.multiscale_fuse(logits, exposures, pyramid=pyramid)
            if fused.requires_grad:
                _backward(fused)


def _norm_act(height: int, width: int) -> None:
    for channels in (5, 16, 64):
        block = ConvNormAct(channels, channels, padding="zeros")
        block[0] = torch.nn.Identity()
        whole = torch.zeros(2, height, width, channels)
        for x in (whole, torch.zeros(whole.numel() + 1)[1:].view(whole.shape)):
            for then in ("", "pool", "bilinear"):
                if then == "pool" and min(height, width) < 2:
                    continue
                y = block(_needing(x.permute(0, 3, 1, 2)), then, then == "pool")
                for output in y if isinstance(y, tuple) else (y,):
                    if output is not None and output.numel():
                        output.backward(torch.zeros_like(output), retain_graph=True)


CALLS = (_filters, _ssim, _loss, _fusion, _guided, _mef_ssim, _multiscale, _norm_act)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("call", CALLS, ids=lambda x: x.__name__)
def test_launches_ask_for_what_was_checked(
    call: Callable[[int, int], None], size: tuple[int, int], checked: dict[Any, Pattern]
) -> None:
    with recording(("triton",), None, cast(TritonKernels, Patterns())) as launches:
        call(*size)
    noted = cast(list[Noted], launches)
    assert noted or (call is _multiscale and min(size) < 32)
    for kernel, pattern in noted:
        name = kernel.fn.__name__
        assert kernel in checked, f"no variant like this one of {name} is compiled: {pattern}"
        assert pattern.items() <= checked[kernel].items() | {
            # Arrays that are None in all that is checked ahead of time.
            (x, y)
            for x, y in pattern.items()
            if x not in checked[kernel] and y == ""
        }, name


def _variance_launches(window: int) -> tuple[Tensor, Tensor, int]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 70, 70, generator=generator)
    with recording(("triton",), None, cast(TritonKernels, Patterns())) as launches:
        found = functional.local_variance(images, window=window)
    return found, reference.local_variance(images, window=window), len(launches)


def test_windows_that_would_spill_take_another_way() -> None:
    largest = largest_window(2)
    assert _variance_launches(largest)[2] == 1
    found, expected, launches = _variance_launches(largest + 2)
    assert launches == 0 and torch.equal(found, expected)


def _large(count: int, window: int, kind: str) -> Callable[[], Any]:
    exposures = torch.zeros(1, count, 64, 64)
    first = exposures[:, 0]
    calls: dict[str, Callable[[], Any]] = {
        "local_variance": lambda: functional.local_variance(first, window=window),
        "gamma_weights": lambda: functional.gamma_weights(exposures, window=window),
        "ssim": lambda: functional.ssim(first, first, window=window),
        "loss": lambda: functional.weighted_ssim_loss(first, exposures, window=window),
        "fusion_loss": lambda: functional.fusion_loss(exposures, exposures, window=window),
    }
    return calls[kind]


LARGEST = [
    ("local_variance", 1, 2, "variance_kernel"),
    ("ssim", 1, 4, "ssim_kernel"),
    *(("gamma_weights", count, 2 * count, "gamma_kernel") for count in range(1, 5)),
    *(
        (kind, count, 2 + 3 * count, "forward_kernel")
        for kind in ("loss", "fusion_loss")
        for count in (1, 2)
    ),
]


@pytest.mark.parametrize(("kind", "count", "maps", "kernel"), LARGEST)
def test_the_largest_window_was_compiled(
    kind: str, count: int, maps: int, kernel: str, configurations: list[Any]
) -> None:
    largest = largest_window(maps)
    for window, taken in ((largest, True), (largest + 2, False)):
        with recording(("triton",), None, cast(TritonKernels, Patterns())) as launches:
            _large(count, window, kind)()
        names = [x.fn.__name__ for x, _ in cast(list[Noted], launches)]
        assert (kernel in names) is taken
    assert any(
        x.kernel.fn.__name__ == kernel
        and len(x.constants["TAPS_Y"]) == largest
        and x.constants.get("K", count) == count
        for x in configurations
    )
