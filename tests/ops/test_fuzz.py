"""Random shapes, layouts, dtypes, options and values: the answer of float64, or an InputError."""

from __future__ import annotations

from typing import Any

import torch
from brackets import fused_in
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastmef import functional, reference
from fastmef.errors import FastmefError
from fastmef.reference.mef_ssim import mef_ssim as reference_mef_ssim
from fastmef.reference.pyramid import halved_size

# The same examples in every run, so that a failure can be repeated.
SETTINGS = settings(
    max_examples=60,
    phases=[Phase.generate],  # a smaller example is not worth minutes
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
HIGHEST = {torch.uint8: 255, torch.uint16: 65535}
SIZES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(1, 700), (600, 1), (3, 290), (11, 11), (140, 12)]),
)
OPTIONS = st.fixed_dictionaries(
    {
        "gamma": st.sampled_from(["variance", "variance_gradient", "gradient_well_exposedness"]),
        "luminance": st.booleans(),
        "window": st.sampled_from([1, 3, 5, 11, 13]),
        "sigma": st.sampled_from([None, 0.5, 1.5, 1e-200, 1e200]),
        "floor": st.sampled_from([1e-4, 1e-3]),
    }
)
LAYOUTS = ["dense", "sliced", "transposed", "shifted"]


def images(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(shape, generator=generator, dtype=torch.float64)
    return noise * torch.linspace(0.1, 1, shape[-1], dtype=torch.float64)


def stored(values: Tensor, dtype: torch.dtype) -> Tensor:
    return (values * HIGHEST[dtype]).round().to(dtype) if dtype in HIGHEST else values.to(dtype)


def laid_out(x: Tensor, layout: str) -> Tensor:
    if layout == "sliced":
        wide = x.new_zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1] + 1))
        view = wide[..., ::2, 1::3]
        view.copy_(x)
        return view
    if layout == "transposed":
        return x.mT.contiguous().mT
    if layout == "shifted":  # an address that no vector width divides
        return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)
    return x


def evaluate(function: Any, tensors: list[Tensor], **options: Any) -> list[Tensor]:
    """Return the value and the gradient w.r.t. the first tensor as float64."""
    first = tensors[0].detach().requires_grad_()
    if len(tensors) == 3:
        options["mask"] = tensors[2]
    value = function(first, tensors[1], **options)
    grad_output = (1 + torch.arange(value.numel()) % 3).reshape(value.shape).to(value)
    (gradient,) = torch.autograd.grad(value, first, grad_output)
    return [value.detach().double(), gradient.double()]


def check(name: str, tensors: list[Tensor], share: float, **options: Any) -> None:
    """``share``: what one window counts for in the value."""
    exact, single = (
        evaluate(getattr(reference, name), [x.to(dtype) for x in tensors], **options)
        for dtype in (torch.float64, torch.float32)
    )
    ours = evaluate(getattr(functional, name), tensors, **options)
    dtype = tensors[0].dtype
    eps = torch.finfo(dtype).eps
    for e, s, o in zip(exact, single, ours, strict=True):
        assert torch.isfinite(o).all() and o.shape == e.shape
        if dtype == torch.float64:
            assert (o - e).abs().max() <= 1e-10 * (1 + e.abs().max())
            continue
        # The derivatives of one window's SSIM reach 2 / C2 = 2000 and cancel where nothing varies.
        budget = 2 * (s - e).abs().max() + 2e-6 * (1 + e.abs().max()) + 3e-4 * share
        # Halves are rounded when they are made and when ``grad_output`` scales them.
        rounding = 1.01 * eps * e.abs() + 1e-7 if eps > 1e-6 else 0
        assert ((o - e).abs() <= budget + rounding).all()


def window_count(shape: tuple[int, ...], window: int) -> int:
    return reference.crop_to_centers(torch.empty(shape), window).numel()


@SETTINGS
@given(
    size=SIZES,
    batch=st.integers(1, 2),
    count=st.integers(1, 5),
    dtype=st.sampled_from(FLOATS),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 3),
    form=st.sampled_from(["fused", "logits", "mask", "map"]),
    scales=st.sampled_from([(1.0,), (1.0, 0.5), (0.0, 1.0, 1.0)]),
    options=OPTIONS,
    seed=st.integers(0, 1000),
)
def test_losses(
    size: tuple[int, int],
    batch: int,
    count: int,
    dtype: torch.dtype,
    layouts: tuple[str, str, str],
    form: str,
    scales: tuple[float, ...],
    options: dict[str, Any],
    seed: int,
) -> None:
    stack, plane = (batch, count, *size), (batch, *size)
    shapes = [stack if form == "logits" else plane, stack]
    tensors = [
        laid_out(images(shape, seed + i).to(dtype), layout)
        for i, (shape, layout) in enumerate(zip(shapes, layouts, strict=False))
    ]
    share = 1 / window_count(plane, options["window"])
    if form == "logits":
        check("fusion_loss", tensors, share, scales=scales, **options)
    elif form == "mask":
        mask = laid_out(0.1 + images(plane, seed + 2).to(dtype), layouts[2])
        check("weighted_ssim_loss", [*tensors, mask], share, scales=scales, **options)
    elif form == "map":
        check("weighted_ssim_loss", tensors, 3.0, reduction="none", **options)
    else:
        check("weighted_ssim_loss", tensors, share, scales=scales, **options)


@SETTINGS
@given(
    size=SIZES,
    count=st.integers(1, 9),
    channels=st.integers(1, 4),
    logits_dtype=st.sampled_from(FLOATS),
    dtype=st.sampled_from([*HIGHEST, *FLOATS]),
    layouts=st.tuples(*[st.sampled_from([*LAYOUTS, "channels_last"])] * 2),
    special=st.sampled_from([None, float("nan"), float("inf"), -float("inf")]),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_softmax_fuse(
    size: tuple[int, int],
    count: int,
    channels: int,
    logits_dtype: torch.dtype,
    dtype: torch.dtype,
    layouts: tuple[str, str],
    special: float | None,
    temperature: float,
    masked: bool,
    seed: int,
) -> None:
    logits = (6 * images((1, count, *size), seed) - 3).to(logits_dtype)
    exposures = stored(images((1, count, channels, *size), seed + 1), dtype)
    if special is not None:
        logits[0, seed % count, seed % size[0], seed % size[1]] = special
    logits = laid_out(logits, layouts[0])
    if layouts[1] == "channels_last":
        exposures = exposures.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    else:
        exposures = laid_out(exposures, layouts[1])
    flags = laid_out(images((1, count, *size), seed + 2) < 0.7, layouts[0]) if masked else None
    fused, weights = functional.softmax_fuse(logits, exposures, True, temperature, flags)
    exact, exact_weights = reference.softmax_fuse(
        logits.double(), exposures.double(), temperature, flags
    )
    assert fused.dtype == dtype and weights.dtype == logits_dtype
    assert torch.equal(weights.isnan(), exact_weights.isnan())
    if dtype in HIGHEST:
        allowed = 0.5 + 2e-6 * HIGHEST[dtype]
        exact = exact.nan_to_num(0.0)
    else:
        assert torch.equal(fused.isnan(), exact.isnan())
        allowed = torch.finfo(dtype).eps + 2e-6
    assert ((fused.double() - exact).nan_to_num(0.0).abs() <= allowed).all()


@SETTINGS
@given(
    size=SIZES,
    levels=st.integers(0, 4),
    count=st.integers(1, 9),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([*HIGHEST, *FLOATS]),
    layout=st.sampled_from([*LAYOUTS, "channels_last"]),
    special=st.sampled_from([None, float("nan"), float("inf"), -float("inf")]),
    radius=st.integers(0, 6),
    knee=st.sampled_from([None, (1 / 64, 1 / 16), (0.5, 0.5)]),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_multiscale_fuse(
    size: tuple[int, int],
    levels: int,
    count: int,
    channels: int,
    dtype: torch.dtype,
    layout: str,
    special: float | None,
    radius: int,
    knee: tuple[float, float] | None,
    masked: bool,
    seed: int,
) -> None:
    levels = min(levels, (max(size) - 1).bit_length())
    small = halved_size(size, levels)
    logits = (6 * images((1, count, *small), seed) - 3).float()
    exposures = stored(images((1, count, channels, *size), seed + 1), dtype)
    if special is not None and dtype not in HIGHEST:
        exposures[0, seed % count, seed % channels, seed % size[0], seed % size[1]] = special
    if layout == "channels_last":
        exposures = exposures.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    else:
        exposures = laid_out(exposures, layout)
    valid = images((1, count, *size), seed + 2) < 0.7 if masked else None
    options: dict[str, Any] = {"radius": radius, "knee": knee, "valid": valid}
    fused = functional.multiscale_fuse(logits, exposures, **options)
    exact, single = (
        fused_in(to, logits, exposures, levels=levels, **options).double()
        for to in (torch.float64, torch.float32)
    )
    assert fused.dtype == dtype and fused.shape == exact.shape
    if dtype in HIGHEST:
        allowed = 0.5 / HIGHEST[dtype] + 4e-6
        exact = exact.clamp(0, 1)
    else:
        assert torch.equal(fused.isfinite(), exact.isfinite())
        allowed = 2 * torch.finfo(dtype).eps + 4e-6
    spared = 2 * float((single - exact).nan_to_num(0.0, 0.0, 0.0).abs().max())
    difference = fused.double() / HIGHEST.get(dtype, 1) - exact
    assert (difference.nan_to_num(0.0, 0.0, 0.0).abs() <= spared + allowed).all()


@SETTINGS
@given(
    size=SIZES,
    dtype=st.sampled_from(FLOATS),
    layout=st.sampled_from(LAYOUTS),
    name=st.sampled_from(["local_variance", "sobel_gradient", "gamma_weights", "ssim"]),
    window=st.sampled_from([1, 3, 11]),
    seed=st.integers(0, 1000),
)
def test_filters(
    size: tuple[int, int], dtype: torch.dtype, layout: str, name: str, window: int, seed: int
) -> None:
    tensors = [laid_out(images((1, 2, *size), seed).to(dtype), layout)]
    options: dict[str, Any] = {} if name == "sobel_gradient" else {"window": window}
    if name == "ssim":
        tensors.append(laid_out(images((1, 2, *size), seed + 1).to(dtype), layout))
    exact, single = (
        getattr(reference, name)(*[x.to(to) for x in tensors], **options).double()
        for to in (torch.float64, torch.float32)
    )
    ours = getattr(functional, name)(*tensors, **options).double()
    eps = torch.finfo(dtype).eps
    budget = 2 * (single - exact).abs().max() + 2e-6 + (1.01 * eps * exact.abs() + 1e-7)
    assert ((ours - exact).abs() <= budget).all()


@SETTINGS
@given(
    size=SIZES,
    count=st.integers(1, 5),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2),
    variant=st.sampled_from([("ma2015", 1), ("ma2015", 3), ("mefnet", None), ("mefnet_cs", None)]),
    bad=st.sampled_from([None, None, float("nan")]),
    seed=st.integers(0, 1000),
)
def test_mef_ssim(
    size: tuple[int, int],
    count: int,
    dtype: torch.dtype,
    layouts: tuple[str, str],
    variant: tuple[str, int | None],
    bad: float | None,
    seed: int,
) -> None:
    exposures = images((1, count, *size), seed).to(dtype)
    fused = images((1, *size), seed + 1).to(dtype)
    if bad is not None:
        fused[..., size[0] // 2, size[1] // 2] = bad
    exposures, fused = laid_out(exposures, layouts[0]), laid_out(fused, layouts[1])

    def score(function: Any, to: torch.dtype) -> tuple[Tensor, Tensor]:
        x = fused.to(to).detach().requires_grad_()
        value = function(x, exposures.to(to), *variant)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach().double(), gradient.double()

    exact, single = (score(reference_mef_ssim, to) for to in (torch.float64, torch.float32))
    ours = score(functional.mef_ssim, dtype)
    if bad is not None:
        assert ours[0].isnan().all() and exact[0].isnan().all()
        return
    eps = torch.finfo(dtype).eps
    share = 1 / window_count((1, *size), 11)
    for e, s, o in zip(exact, single, ours, strict=True):
        budget = 2 * (s - e).abs().max() + 2e-6 * (1 + e.abs().max()) + 1e-4 * share
        rounding = 1.01 * eps * e.abs() + 1e-7 if eps > 1e-6 else 0
        assert ((o - e).abs() <= budget + rounding).all()


@SETTINGS
@given(
    bad=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
    where=st.sampled_from(["source", "exposures"]),
    form=st.sampled_from(["fused", "logits"]),
    dtype=st.sampled_from(FLOATS),
    size=SIZES,
    seed=st.integers(0, 1000),
)
def test_what_is_not_a_number_is_not_hidden(
    bad: float, where: str, form: str, dtype: torch.dtype, size: tuple[int, int], seed: int
) -> None:
    stack = (1, 2, *size)
    source = images(stack if form == "logits" else (1, *size), seed).to(dtype)
    exposures = images(stack, seed + 1).to(dtype)
    spoiled = source if where == "source" else exposures
    # Only one exposure is spoiled: if all logits were infinite, the weights would be NaN anyway.
    image = spoiled[:, -1] if spoiled.ndim == 4 else spoiled
    y, x = size[0] // 2, size[1] // 2
    image[:, y, x] = bad
    name = "fusion_loss" if form == "logits" else "weighted_ssim_loss"
    exact = getattr(reference, name)(source.double(), exposures.double())
    ours = getattr(functional, name)(source, exposures)
    assert exact.isnan() == ours.isnan()
    if form == "fused":  # nor does it spoil more than the windows over it
        values = functional.weighted_ssim_loss(source, exposures, reduction="none")
        top, left = max(0, y - size[0] + values.shape[1]), max(0, x - size[1] + values.shape[2])
        values[:, top : y + 1, left : x + 1] = 0
        assert torch.isfinite(values).all()


LENGTHS = st.sampled_from([0, 1, 2, 2, 40])
PLANES = st.one_of(st.tuples(*[LENGTHS] * 3), st.tuples(*[LENGTHS] * 4))
STACKS = st.one_of(st.tuples(*[LENGTHS] * 4), st.tuples(*[LENGTHS] * 5))
LOSS = ("variance_gradient", False)
REST = (1.5, 0.01, 0.03, 1e-4, 1e-12)


@SETTINGS
@given(
    shapes=st.tuples(PLANES, STACKS, PLANES),
    dtypes=st.tuples(*[st.sampled_from([*FLOATS, torch.uint8])] * 3),
    window=st.integers(-2, 12),
)
def test_direct_calls_with_anything_raise_or_answer(
    kernels: Any, shapes: tuple[Any, Any, Any], dtypes: tuple[Any, Any, Any], window: int
) -> None:
    """The registered operations are reachable without the checks of functional."""
    a, b, c = (torch.zeros(s, dtype=t) for s, t in zip(shapes, dtypes, strict=True))
    ops = torch.ops.fastmef
    for call in (
        lambda: ops.weighted_ssim_loss(a, b, c, *LOSS, window, *REST, [1.0, 1.0], True),
        lambda: ops.weighted_ssim_map(a, b, *LOSS, window, *REST),
        lambda: ops.weighted_ssim_map_backward(c, a, b, *LOSS, window, *REST),
        lambda: ops.softmax_fuse(a, b, True),
        lambda: ops.softmax_fuse_backward(c, None, a, b, True, True),
        lambda: ops.softmax_fuse_backward(None, c, a, b, True, True),
        lambda: ops.pyramid_reduce(b, True),
        lambda: ops.pyramid_reduce(b, False, a),
        lambda: ops.blend_band(b, b, a, None, None, None, window, 1e-6, 1.0, True, 0.1, 0.1, True),
        lambda: ops.blend_band(b, b, a, c, a, c, window, 1e-6, 1.0, False, 0.0, 0.0, False),
        lambda: ops.blend_band_backward(a, c, True),
        lambda: ops.local_variance(a, window, 1.5, 1e-4, "valid"),
        lambda: ops.local_variance_backward(c, a, window, 1.5, 1e-4, "reflect"),
        lambda: ops.sobel_gradient(a),
        lambda: ops.sobel_gradient_backward(c, a),
        lambda: ops.gamma_weights(b, "variance", window, 1.5, 1e-4, 1e-12),
        lambda: ops.gamma_weights_backward(b, b, "variance", window, 1.5, 1e-4, 1e-12),
        lambda: ops.ssim_map(a, c, window, 1.5, 1e-4, 1e-3, True, "zero"),
        lambda: ops.ssim_map_backward(b, a, c, window, 1.5, 1e-4, 1e-3, True, "zero", True, True),
        lambda: ops.ssim_mean(a, c, window, 1.5, 1e-4, 1e-3, False, "reflect", True, True),
        lambda: ops.ma2015_level(b),
        lambda: ops.ma2015_quality(b, b, b, a, a, True),
        lambda: ops.ma2015_quality(b, None, None, None, a, True),
        lambda: ops.halve(a),
        lambda: ops.mefnet_sources(b),
        lambda: ops.mefnet_factors(b, b.long()[:, :1], a, a, a, a, True),
        lambda: ops.color2018_sources(b),
        lambda: ops.color2018_score(b, b.long()[:, :1], a, a, a, c, True),
        lambda: functional.softmax_fuse(a, b),
        lambda: functional.multiscale_fuse(a, b, radius=window),
        lambda: functional.fusion_loss(a, b, window=window),
        lambda: functional.weighted_ssim_loss(a, b, mask=c, window=window),
    ):
        try:
            call()
        except (RuntimeError, ValueError, TypeError, FastmefError, NotImplementedError):
            continue
