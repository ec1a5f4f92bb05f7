"""Fakes of registered operations have the shape, dtype, strides and device of real results.

``torch.compile`` lays out memory by it. Fake CUDA tensors need no GPU; where the C++ kernels run
an operation its real results on the CPU are compared too.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from recorded import described
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fastmef import ops  # noqa: F401  # declares every operation

HEIGHT, WIDTH = 20, 24
PLANE, STACK, COLOR = (2, HEIGHT, WIDTH), (2, 3, HEIGHT, WIDTH), (2, 3, 3, HEIGHT, WIDTH)
FUSED = (2, 3, HEIGHT, WIDTH)
SMALL_COLOR = (2, 3, 3, HEIGHT // 2, WIDTH // 2)
WINDOWS = (HEIGHT - 10, WIDTH - 10)
LOSS = ("variance_gradient", False, 11, 1.5, 0.01, 0.03, 1e-4, 1e-12)
SSIM = (11, 1.5, 1e-4, 9e-4, True, "valid")
NORM = (2, 8, 6, 10)
SINGLE, DOUBLE, HALF, BYTE = torch.float32, torch.float64, torch.bfloat16, torch.uint8

# Shape, type, and whether the channels of a pixel are neighbours.
Meta = tuple[tuple[int, ...], torch.dtype, bool]
NONE: Meta = ((0,), SINGLE, False)


def planar(*shape: int, dtype: torch.dtype = SINGLE) -> Meta:
    return shape, dtype, False


def last(*shape: int, dtype: torch.dtype = HALF) -> Meta:
    return shape, dtype, True


def norm(*more: Any) -> tuple[Any, ...]:
    """Return the arguments of batch normalisation other than its input."""
    each = planar(NORM[1])
    return each, each, each, each, 1e-5, *more


X, HALVED, DOUBLED = last(*NORM), last(2, 8, 3, 5), last(2, 8, 12, 20)
FEATURES = last(2, 16, 6, 10, dtype=SINGLE)
FRAMED = last(2, 8, 14, 22)  # doubled, with a border
MAPS = planar(*STACK), planar(2, 3, *WINDOWS), planar(2, 3, *WINDOWS), planar(2, *WINDOWS)
SOURCES = planar(2, 1, HEIGHT, WIDTH, dtype=torch.int64), *[planar(*PLANE)] * 3
PATCHES = HEIGHT - 7, WIDTH - 7
COLOR_SOURCES = planar(2, 1, *PATCHES, dtype=torch.int64), *[planar(2, *PATCHES)] * 3

# The operation, its arguments, and its results.
CALLS: list[tuple[str, tuple[Any, ...], list[Meta]]] = [
    *(
        ("softmax_fuse", (planar(*STACK, dtype=by), color, wanted, 0.5, None), [like, weights])
        for by in (SINGLE, HALF)
        for color, like in (
            (planar(*COLOR, dtype=BYTE), planar(*FUSED, dtype=BYTE)),
            (last(*COLOR, dtype=BYTE), last(*FUSED, dtype=BYTE)),
            (planar(*COLOR, dtype=HALF), planar(*FUSED, dtype=HALF)),
        )
        for wanted, weights in (
            (True, planar(*STACK, dtype=by)),
            (False, planar(0, dtype=by)),
        )
    ),
    *(
        ("fuse_restored", (planar(*STACK), color, 0.5, wanted), [like, weights])
        for color, like in (
            (planar(*COLOR, dtype=BYTE), planar(*FUSED, dtype=BYTE)),
            (last(*COLOR, dtype=BYTE), last(*FUSED, dtype=BYTE)),
        )
        for wanted, weights in ((True, planar(*STACK)), (False, NONE))
    ),
    *(
        (
            "softmax_fuse_backward",
            (last(*FUSED, dtype=HALF), None, planar(*STACK), last(*COLOR), *wanted),
            [
                planar(*STACK) if wanted[0] else NONE,
                planar(*COLOR, dtype=HALF) if wanted[1] else planar(0, dtype=HALF),
            ],
        )
        for wanted in ((True, True), (True, False), (False, True))
    ),
    ("guided_guide", (last(*COLOR, dtype=BYTE), 5, 6), [planar(2, 1, 5, 6)]),
    ("guided_guide", (planar(*COLOR, dtype=HALF), 5, 6), [planar(2, 1, 5, 6)]),
    *(
        ("guided_fuse", (planar(2, 3, 5, 6), planar(2, 3, 5, 6), layout(*COLOR, dtype=dtype)),
         [layout(*FUSED, dtype=dtype)])
        for layout in (planar, last)
        for dtype in (BYTE, HALF, SINGLE)
    ),
    *(
        ("pyramid_reduce", (layout(*COLOR, dtype=dtype), is_base, valid), [
            planar(*SMALL_COLOR, dtype=SINGLE if is_base or dtype == HALF else torch.uint16),
            NONE if valid is None else planar(2, 3, 10, 12),
        ])
        for layout in (planar, last)
        for dtype in (BYTE, HALF)
        for is_base in (True, False)
        for valid in (None, planar(*STACK))
    ),
    *(
        ("blend_band", (layout(*COLOR, dtype=dtype), planar(*SMALL_COLOR), planar(2, 3, 10, 12),
         planar(2, 3), None, None, 4, 1e-6, 1.0, finest, 0.1, 0.1, wanted), [
            layout(*FUSED, dtype=dtype) if finest else planar(*FUSED),
            planar(*FUSED) if wanted else NONE,
        ])
        for layout in (planar, last)
        for dtype in (BYTE, HALF, SINGLE)
        for finest, wanted in ((True, True), (True, False), (False, False))
    ),
    *(
        ("blend_band_backward", (last(*FUSED, dtype=HALF), planar(*FUSED), in_double),
         [planar(2, 3, 10, 12, dtype=DOUBLE if in_double else SINGLE)])
        for in_double in (False, True)
    ),
    *(
        ("weighted_ssim_loss", (source, exposures, None, *LOSS, [1.0], True), [value, gradient])
        for source, exposures, value, gradient in (
            (planar(*PLANE), planar(*STACK), planar(), planar(*PLANE)),
            (planar(*STACK), planar(*STACK), planar(), planar(*STACK)),
            (
                planar(*STACK, dtype=DOUBLE),
                planar(*STACK, dtype=DOUBLE),
                planar(dtype=DOUBLE),
                planar(*STACK, dtype=DOUBLE),
            ),
            (
                planar(*PLANE, dtype=HALF),
                planar(*STACK, dtype=HALF),
                planar(),
                planar(*PLANE, dtype=HALF),
            ),
        )
    ),
    (
        "weighted_ssim_loss",
        (planar(*PLANE), planar(*STACK), None, *LOSS, [1.0], False),
        [planar(), NONE],
    ),
    ("weighted_ssim_map", (planar(*PLANE), planar(*STACK), *LOSS), [planar(2, *WINDOWS)]),
    (
        "weighted_ssim_map_backward",
        (planar(2, *WINDOWS), planar(*PLANE), planar(*STACK), *LOSS),
        [planar(*PLANE)],
    ),
    ("ssim_map", (planar(*PLANE), planar(*PLANE), *SSIM), [planar(2, *WINDOWS)]),
    (
        "ssim_map_backward",
        (planar(2, *WINDOWS), planar(*PLANE), planar(*PLANE), *SSIM, True, False),
        [planar(*PLANE), NONE],
    ),
    (
        "ssim_mean",
        (planar(*PLANE), planar(*PLANE), *SSIM, False, True),
        [planar(), NONE, planar(*PLANE)],
    ),
    ("local_variance", (planar(*STACK), 11, 1.5, 1e-4, "valid"), [planar(2, 3, *WINDOWS)]),
    ("local_variance", (planar(*PLANE), 11, None, 1e-4, "reflect"), [planar(*PLANE)]),
    (
        "local_variance_backward",
        (planar(2, 3, *WINDOWS), planar(*STACK), 11, 1.5, 1e-4, "valid"),
        [planar(*STACK)],
    ),
    ("sobel_gradient", (planar(*STACK),), [planar(*STACK)]),
    ("sobel_gradient_backward", (planar(*STACK), planar(*STACK)), [planar(*STACK)]),
    (
        "gamma_weights",
        (planar(*STACK), "variance", 11, 1.5, 1e-4, 1e-12),
        [planar(2, 3, *WINDOWS)],
    ),
    (
        "gamma_weights_backward",
        (planar(2, 3, *WINDOWS), planar(*STACK), "variance", 11, 1.5, 1e-4, 1e-12),
        [planar(*STACK)],
    ),
    ("ma2015_level", (planar(*STACK),), [*MAPS]),
    ("ma2015_quality", (*MAPS, planar(*PLANE), True), [planar(2), planar(*PLANE)]),
    ("ma2015_quality", (*MAPS, planar(*PLANE), False), [planar(2), NONE]),
    ("mefnet_sources", (planar(*STACK),), [*SOURCES]),
    (
        "mefnet_factors",
        (planar(*STACK), *SOURCES, planar(*PLANE), True),
        [planar(2), planar(2), planar(*PLANE), planar(*PLANE)],
    ),
    (
        "ma2015_quality",
        (planar(*STACK), None, None, None, planar(*PLANE), True),
        [planar(2), planar(*PLANE)],
    ),
    ("color2018_sources", (planar(*COLOR),), [*COLOR_SOURCES]),
    *(
        (
            "color2018_score",
            (planar(*COLOR), *COLOR_SOURCES, planar(*FUSED), wanted),
            [planar(2), planar(*FUSED) if wanted else NONE],
        )
        for wanted in (True, False)
    ),
    ("halve", (planar(2, 3, 7, 8),), [planar(2, 3, 4, 4)]),
    ("norm_statistics", (X, planar(8), planar(8), 0.1), [planar(3, 8)]),
    ("norm_merge_statistics", (planar(4, 3, 8), None, None, 0.1), [planar(3, 8)]),
    ("norm_act", (X, *norm("", True)), [X, planar(0, dtype=HALF)]),
    ("norm_act", (X, *norm("pool", True)), [X, HALVED]),
    ("norm_act", (X, *norm("pool", False)), [planar(0, dtype=HALF), HALVED]),
    ("norm_act", (X, *norm("bilinear", False)), [planar(0, dtype=HALF), DOUBLED]),
    ("norm_act", (X, *norm("border", False)), [planar(0, dtype=HALF), last(2, 8, 8, 12)]),
    ("norm_act", (X, *norm("pool border", True)), [X, last(2, 8, 5, 7)]),
    ("norm_act", (X, *norm("bilinear border", False)), [planar(0, dtype=HALF), FRAMED]),
    (
        "norm_act_sums",
        (None, HALVED, X, *norm("pool")),
        [planar(2, 8), planar(0, dtype=HALF)],
    ),
    ("norm_act_sums", (None, DOUBLED, X, *norm("bilinear")), [planar(2, 8), X]),
    ("norm_act_sums", (None, FRAMED, X, *norm("bilinear border")), [planar(2, 8), X]),
    ("norm_act_backward", (X, None, X, *norm(""), planar(2, 8), planar(1)), [X]),
    ("conv3x3", (FEATURES, planar(32, 16, 3, 3), 0, False), [last(2, 32, 4, 8, dtype=SINGLE)]),
    ("conv3x3", (FEATURES, planar(16, 32, 3, 3), 2, True), [last(2, 32, 8, 12, dtype=SINGLE)]),
    (
        "conv3x3_weight_gradient",
        (last(2, 32, 6, 10, dtype=SINGLE), FEATURES, planar(32, 16, 3, 3), 1),
        [planar(32, 16, 3, 3)],
    ),
]  # fmt: skip


def is_meta(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 3 and isinstance(x[1], torch.dtype)


def empty(meta: Meta, device: str) -> Tensor:
    shape, dtype, interleaved = meta
    if not interleaved:
        return torch.ones(shape, dtype=dtype, device=device)
    *others, channels, height, width = shape
    return torch.ones(*others, height, width, channels, dtype=dtype, device=device).movedim(-1, -3)


def results(name: str, arguments: tuple[Any, ...], device: str) -> list[Tensor]:
    operation = getattr(torch.ops.fastmef, name).default
    found = operation(*(empty(x, device) if is_meta(x) else x for x in arguments))
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize(("name", "arguments", "expected"), CALLS)
def test_on_a_gpu_that_is_not_there(
    name: str, arguments: tuple[Any, ...], expected: list[Meta]
) -> None:
    with FakeTensorMode():
        for device in ("cuda:0", "cuda:1"):
            found = results(name, arguments, device)
            assert [described(x) for x in found] == [described(empty(x, "cpu")) for x in expected]
            assert {str(x.device) for x in found} == {device}


SERVED = [x for x in CALLS if not x[0].startswith(("guided", "norm"))]


@pytest.mark.parametrize(("name", "arguments", "expected"), SERVED)
def test_what_comes(
    name: str, arguments: tuple[Any, ...], expected: list[Meta], kernels: ModuleType
) -> None:
    found = results(name, arguments, "cpu")
    assert [described(x) for x in found] == [described(empty(x, "cpu")) for x in expected]
