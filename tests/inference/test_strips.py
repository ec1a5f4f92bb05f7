"""Fusion in strips of rows is that of the whole image, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmef import backends, functional
from fastmef.errors import InputError
from fastmef.inference import fuser as fuser_module
from fastmef.inference.arrays import ArraySink, ArraySource
from fastmef.inference.blend import StripBlender, blended_rows, needed_rows
from fastmef.inference.controls import Control
from fastmef.inference.core import KNEE
from fastmef.inference.frames import Frames
from fastmef.inference.fuser import Fuser
from fastmef.inference.plan import Plan
from fastmef.inference.pyramid import reduce_frames
from tests.support.photographs import photographs, random_network

SIZES = [(300, 500), (301, 499), (523, 77), (97, 811), (131, 256)]
DTYPES = [np.uint8, np.uint16, np.float16, np.float32]


class StrictSource:
    """A file that is decoded while it is read: each sweep reads rows once, from top to bottom."""

    has_alpha = linear = False
    streams = True
    resident_bytes = 0
    name = "file"

    def __init__(self, pixels, alpha=None):
        self.pixels, self.alpha, self.has_alpha = pixels, alpha, alpha is not None
        self.height, self.width, self.channels = pixels.shape
        self.dtype = pixels.dtype
        self.next = self.sweeps = 0

    def rows(self, top, bottom):
        if top == 0:
            self.next, self.sweeps = 0, self.sweeps + 1
        assert top == self.next and top < bottom <= self.height
        self.next = bottom
        alpha = None if self.alpha is None else self.alpha[top:bottom]
        return self.pixels[top:bottom].copy(), alpha

    def close(self):
        pass


def stored_as(images, dtype):
    if dtype == np.uint8:
        return images
    if dtype == np.uint16:
        return [image.astype(dtype) * 257 for image in images]
    return [(image / 255).astype(dtype) for image in images]


def some_masks(size, count):
    rng = np.random.default_rng(2)
    masks = rng.uniform(size=(count, *size)) > 0.3
    masks[0, : size[0] // 3] = False
    masks[:, size[0] // 2 : size[0] // 2 + 5, : size[1] // 2] = False
    return masks


@pytest.fixture
def no_kernels(monkeypatch):
    monkeypatch.setattr(backends, "CPU", None)


def check_strips(images, levels, kept, strip, masks=None, order=None):
    """Fuse in strips, compare with one call for the whole image."""
    order = list(range(len(images))) if order is None else order
    sources = [StrictSource(image) for image in images]
    frames = Frames(sources, masks)
    pyramid = reduce_frames(frames, levels, kept, strip, lambda rows: None)
    stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[None]
    valid = None if masks is None else torch.from_numpy(np.stack(masks))[None]
    whole = functional.exposure_pyramid(stack, levels, valid)
    assert torch.equal(pyramid.base, whole.base)
    for level in range(kept, levels):
        assert torch.equal(pyramid.stack(level), whole.inner[level - 1])
        if masks is not None:
            assert torch.equal(pyramid.valid(level), whole.validity[level - 1])
    if masks is not None:
        assert torch.equal(pyramid.valid(levels), whole.validity[-1])
    base = pyramid.base[:, order].mean(dim=1)
    shares = torch.linspace(0.3, 1, len(order))[None]
    blender = StripBlender(frames, pyramid, order, pyramid.base[:, order], base, shares, 1.3, strip)
    size = images[0].shape
    result = torch.empty(size, dtype=stack.dtype)
    for begin in range(0, size[0], strip):
        end = min(begin + strip, size[0])
        assert blender.rows(begin, end, result[begin:end].permute(2, 0, 1)[None]) is None
    stack = stack.permute(0, 1, 3, 4, 2)[:, order].permute(0, 1, 4, 2, 3)
    exact = functional.multiscale_fuse(
        None,
        stack,
        base=base,
        knee=KNEE,
        shares=shares,
        contrast=1.3,
        valid=None if valid is None else valid[:, order],
    )
    assert torch.equal(result.permute(2, 0, 1)[None], exact)
    # Every row was read once in each of the two sweeps; one strip is still there in the second.
    sweeps = 1 if strip >= size[0] else 2
    assert {(source.sweeps, source.next) for source in sources} == {(sweeps, size[0])}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("strip", [8, 32, 56, 4096])
def test_strips_equal_the_whole(size, kept, strip):
    check_strips(photographs(*size, 3), 4, kept, strip)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kept", [1, 3])
def test_every_dtype_with_masks(dtype, count, masked, kept):
    size = 213, 318
    images = stored_as(photographs(*size, count), dtype)
    order = list(range(count))[::-1]
    check_strips(images, 3, kept, 40, some_masks(size, count) if masked else None, order)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_kernels(no_kernels, channels, masked, dtype):
    """The reference in plain PyTorch has the same strips."""
    size = 121, 98
    images = stored_as([x[..., :channels] for x in photographs(*size, 3)], dtype)
    check_strips(images, 3, 2, 24, some_masks(size, 3) if masked else None)


def test_frames_in_several_layouts():
    """Sources in several layouts are copied into one tensor."""
    images = photographs(213, 318, 3)
    planar = np.ascontiguousarray(images[1].transpose(2, 0, 1)).transpose(1, 2, 0)
    sources = [ArraySource("image", image) for image in (images[0], planar, images[2])]
    assert Frames(sources).apart([0, 1, 2], 8, 40) is None
    apart = Frames([sources[0], sources[2]]).apart([1, 0], 8, 40)
    assert [frame.data_ptr() for frame in apart] == [images[k][8:].ctypes.data for k in (2, 0)]
    fuser = Fuser(random_network("any"), device="cpu")
    expected = fuser.fuse(images, refine=1)
    assert np.array_equal(fuser.fuse([images[0], planar, images[2]], refine=1), expected)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_any_number_of_levels(levels):
    check_strips(photographs(211, 190, 2), levels, min(levels, 2), 36)


def test_windows_of_rows():
    """The expected rows are computed by hand for 100 rows and their halves: 50, 25, 13."""
    heights = [100, 50, 25, 13]
    blended = blended_rows(40, 48, heights)
    assert blended == [(36, 52), (14, 30), (2, 20)]
    # Rows 2 to 19 of the third level come from 3 to 40 of the second, these from 5 to 82.
    assert needed_rows(blended, heights, 3) == [(2, 86), (2, 42), (2, 20)]
    assert needed_rows(blended, heights, 1) == blended


@pytest.fixture(scope="module")
def network():
    return random_network("any")


class TestFuser:
    @pytest.fixture
    def planned(self, monkeypatch):
        """Fuse with a given plan instead of one that fits the memory."""

        def fuse(fuser, images, kept, strip, **options):
            monkeypatch.setattr(fuser_module, "make_plan", lambda *_: Plan(kept, strip, 0))
            height, width, channels = images[0].shape
            sink = ArraySink(height, width, channels, images[0].dtype)
            sources = [StrictSource(image) for image in images]
            return sink.pixels, fuser.stream(sources, sink, Control(refine=2, **options))

        return fuse

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [(701, 533), (530, 1001)])
    def test_no_plan_changes_the_result(self, network, planned, size, channels):
        fuser = Fuser(network, device="cpu")
        images = [image[..., :channels] for image in photographs(*size, 3)][::-1]
        images = [np.ascontiguousarray(image) for image in images]
        expected = planned(fuser, images, 1, 4096)
        for kept, strip in ((1, 32), (2, 64), (2, 256), (3, 128)):
            for result, value in zip(planned(fuser, images, kept, strip), expected, strict=True):
                assert np.array_equal(result, value)

    @pytest.mark.parametrize("masked", [False, True])
    def test_streams_and_arrays_agree(self, network, planned, masked):
        fuser = Fuser(network, device="cpu")
        images = photographs(330, 401, 3)
        masks = list(some_masks((330, 401), 3)) if masked else None
        fused, weights = planned(fuser, images, 1, 64, masks=masks)
        again, same = fuser.fuse_with_weights(images, masks=masks, refine=2)
        assert np.array_equal(fused, again) and np.array_equal(weights, same)

    def test_a_black_frame_that_alone_is_valid_somewhere(self, network):
        """All other frames are used there, as if none were valid."""
        images = photographs(330, 401, 3)
        masks = [np.ones((330, 401), bool) for _ in images]
        for mask in masks:
            mask[100:140, 50:90] = False
        expected = Fuser(network).fuse(images, masks=masks)
        black = np.zeros_like(images[0])
        fused = Fuser(network).fuse([*images, black], masks=[*masks, None])
        assert np.array_equal(fused, expected)

    def test_files_may_reach_beyond_white(self, network):
        images = [(image / 200).astype(np.float32) for image in photographs(330, 401, 2)]
        sources = [StrictSource(image) for image in images]
        sink = ArraySink(330, 401, 3, np.dtype(np.float32))
        Fuser(network).stream(sources, sink, Control())
        assert max(image.max() for image in images) > 1.2
        assert np.isfinite(sink.pixels).all() and sink.pixels.max() <= 1
        with pytest.raises(InputError, match="got values from"):
            Fuser(network).fuse(images)

    def test_alpha_is_where_any_frame_is_valid(self, network):
        images = photographs(330, 401, 2)
        alphas = some_masks((330, 401), 2)
        sources = [StrictSource(*pair) for pair in zip(images, alphas, strict=True)]
        sink = ArraySink(330, 401, 3, np.dtype(np.uint8))
        Fuser(network).stream(sources, sink, Control())
        assert np.array_equal(sink.alpha, alphas.any(axis=0))
        assert np.array_equal(sink.pixels, Fuser(network).fuse(images, masks=list(alphas)))
