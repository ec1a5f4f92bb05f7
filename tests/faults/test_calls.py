"""Random calls give the same result in all threads, or a clear error, for any arguments."""

from __future__ import annotations

import math
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fastmef import FusionNet, WeightedSSIMLoss, backends, functional, metrics
from fastmef.data.images import read_image, write_image
from fastmef.errors import FastmefError, InputError, shown

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIDES = (1, 2, 3, 7, 8, 12, 23, 40)


def _image(rng: random.Random, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(40))
    values = torch.rand(shape, generator=generator)
    dtype = dtype or rng.choice(FLOATS)
    values = values.to(dtype) if dtype.is_floating_point else (255 * values).to(dtype)
    layout = rng.randrange(3)
    if layout == 1 and len(shape) > 1:
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == 2:
        return torch.stack((values, values), dim=-1)[..., 0]
    return values


def _call(rng: random.Random):
    """Return a function without arguments that makes a call with valid arguments."""
    height, width, count = rng.choice(SIDES), rng.choice(SIDES), rng.randrange(2, 5)
    dtype = rng.choice(FLOATS)
    window, border = rng.choice((1, 3, 11)), rng.choice(("valid", "zero", "reflect"))
    gray = _image(rng, 2, count, height, width, dtype=dtype)
    plane = _image(rng, 2, height, width, dtype=dtype)
    color = _image(rng, 1, count, 3, height, width, dtype=rng.choice((*FLOATS, torch.uint8)))
    logits = _image(rng, 1, count, height, width)
    f = functional
    return rng.choice(
        [
            lambda: f.local_variance(plane, window, border=border),
            lambda: f.sobel_gradient(plane),
            lambda: f.well_exposedness(plane),
            lambda: f.gamma_weights(gray, rng.choice(("variance", "gradient_well_exposedness"))),
            lambda: f.ssim(plane, 1 - plane, window, luminance=rng.random() < 0.5),
            lambda: f.weighted_ssim_loss(plane, gray, window=window, scales=(1.0, 0.5)),
            lambda: f.fusion_loss(gray, 1 - gray, window=window),
            lambda: f.softmax_fuse(logits, color),
            lambda: f.softmax_fuse(logits, color, True, 0.5)[1],
            lambda: f.guided_upsample_fuse(logits[..., : -(-height // 2), : -(-width // 3)], color),
            lambda: f.mef_ssim(plane, gray, "mefnet"),
            lambda: f.mef_ssim(plane, gray, scales=1),
            lambda: metrics.saturation(color),
        ]
    )


def _odd(rng: random.Random):
    """Return a random invalid argument."""
    tensor = torch.rand(1, 2, 8, 8)
    return rng.choice(
        [
            None, True, 0, -1, 5, 10**30, 2**63, 0.5, -0.5, math.nan, math.inf, 1e400, 1e-320, 1j,
            "", "variance", "nonsense", b"bytes", "\0", [], (), {}, [1, "a"], (math.nan,), object(),
            np.float32(0.5), np.ones(3), np.ones((2, 2)), tensor, tensor.int(), tensor.to_sparse(),
            tensor.bool(), tensor.to(torch.complex64), tensor.to("meta"), torch.empty(0),
            torch.rand(()), torch.rand(1, 2, 3, 8, 8), torch.rand(2, 8, 8).requires_grad_(),
            torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8), tensor * math.nan,
            torch.nested.nested_tensor([tensor[0], tensor[0, :, :4]], layout=torch.strided),
            tensor[0].to_mkldnn() if torch.backends.mkldnn.is_available() else None,
        ]
    )  # fmt: skip


ABUSED = [
    (functional.local_variance, (torch.rand(1, 8, 8), 3, 1.5, 1e-4, "valid")),
    (functional.sobel_gradient, (torch.rand(1, 8, 8),)),
    (functional.well_exposedness, (torch.rand(1, 8, 8), 0.5, 0.2)),
    (functional.gamma_weights, (torch.rand(1, 2, 8, 8), "variance", 3, 1.5, 1e-4, 1e-12)),
    (functional.ssim, (torch.rand(1, 8, 8), torch.rand(1, 8, 8), 3, 1.5, 0.01, 0.03, 1.0, True,
                       "valid", "mean")),
    (functional.weighted_ssim_loss, (torch.rand(1, 8, 8), torch.rand(1, 2, 8, 8), "variance", False,
                                     3, 1.5, 0.01, 0.03, 1e-4, 1e-12, (1.0,), None, "mean")),
    (functional.fusion_loss, (torch.rand(1, 2, 8, 8), torch.rand(1, 2, 8, 8), "variance", False,
                              3, 1.5, 0.01, 0.03, 1e-4, 1e-12, (1.0,))),
    (functional.softmax_fuse, (torch.rand(1, 2, 8, 8), torch.rand(1, 2, 3, 8, 8), False, 1.0,
                               None)),
    (functional.guided_upsample_fuse, (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 3, 8, 8), 2, 1e-4)),
    (functional.mef_ssim, (torch.rand(1, 16, 16), torch.rand(1, 2, 16, 16), "mefnet", None)),
    (metrics.saturation, (torch.rand(3, 8, 8),)),
    (metrics.score_name, ("ma2015", 3)),
    (WeightedSSIMLoss, ("variance", False, 3, 1.5, 0.01, 0.03, 1e-4, 1e-12, (1.0,))),
    (FusionNet, (2, 1, "gray", False, "bilinear")),
    (FusionNet(width=1).eval(), (torch.rand(1, 2, 3, 8, 8),)),
    (FusionNet("any", width=1).eval(), (torch.rand(1, 2, 3, 8, 8),)),
    (functional.exposure_shares, (torch.rand(1, 2, 3, 8, 8),)),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments"), ABUSED)
def test_abusive_arguments(function, arguments, effort, rng, count):
    """One or two arguments are odd: an InputError that names what was got, or a result."""
    tries, refused = effort(200, 30_000), 0
    for _ in range(tries):
        given = list(arguments)
        for place in rng.sample(range(len(given)), min(len(given), rng.choice((1, 1, 2)))):
            given[place] = _odd(rng)
        try:
            function(*given)
        except FastmefError as error:
            assert isinstance(error, InputError) and "\n" not in str(error)
            refused += 1
        except Exception as error:
            pytest.fail(
                f"{type(error).__name__}: {error} for {[*map(shown, given)]}", pytrace=False
            )
    name = getattr(function, "__name__", "FusionNet.forward")
    count(f"{tries} calls with odd arguments, {name}: {refused} refused")


@pytest.mark.parametrize("sparse", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_tensors_are_named(sparse):
    plane = torch.eye(8)[None]
    plane = plane.to_sparse(layout=sparse)
    with pytest.raises(InputError, match="images must be a dense tensor, got layout torch.sparse"):
        functional.sobel_gradient(plane)


def test_gamma_that_is_no_name():
    with pytest.raises(InputError, match="gamma must be a function, .* got 5"):
        WeightedSSIMLoss(gamma=5)


@pytest.fixture
def own_threads():
    """Use the kernels' own threads, which sanitizers support, if a variable asks for them."""
    threads = int(os.environ.get("FASTMEF_TEST_OWN_THREADS", "0"))
    if not threads or backends.CPU is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    backends.CPU.use_own_threads(True)
    try:
        yield
    finally:
        backends.CPU.use_own_threads(False)
        torch.set_num_threads(before)


def test_calls_in_threads(tmp_path, effort, rng, count, own_threads):
    """Eight threads compute, bit by bit, what one computes; some of them read and write files."""
    calls = effort(800, 500_000)
    seeds = [rng.getrandbits(40) for _ in range(calls)]

    def compute(seed):
        random_ = random.Random(seed)
        if random_.random() < 0.02:
            pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
            path = tmp_path / f"{seed}-{threading.get_ident()}.png"
            write_image(path, pixels)
            read = read_image(path).pixels
            os.unlink(path)
            return read.tobytes()
        return _bytes(_call(random_)())

    expected = [compute(seed) for seed in seeds]
    with ThreadPoolExecutor(8) as pool:
        for seed, one, other in zip(seeds, expected, pool.map(compute, seeds), strict=True):
            assert one == other, seed
    count(f"{2 * calls} calls, half of them by 8 threads")


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


OPERATIONS = {
    "guided_upsample_fuse": lambda logits, small, color: functional.guided_upsample_fuse(
        small, color
    ),
    "well_exposedness": lambda logits, small, color: functional.well_exposedness(logits),
    "softmax_fuse": lambda logits, small, color: functional.softmax_fuse(logits, color),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_number_of_threads_changes_nothing(name, effort, rng, count):
    before, tries = torch.get_num_threads(), effort(12, 400)
    try:
        for _ in range(tries):
            height, width = rng.randrange(20, 600), rng.randrange(20, 600)
            color = _image(rng, 1, 2, 3, height, width, dtype=torch.float32)
            logits = _image(rng, 1, 2, height, width, dtype=torch.float32)
            small = logits[..., : height // rng.randrange(1, 6), : width // rng.randrange(1, 6)]
            results = set()
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                results.add(_bytes(OPERATIONS[name](logits, small, color)))
            assert len(results) == 1
    finally:
        torch.set_num_threads(before)
    count(f"{tries} results of {name} by 1, 2, 3 and 7 threads")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("center", "sigma"), [(0.5, 0.2), (0.45, 0.05)])
def test_well_exposedness_of_halves_is_rounded_once(dtype, center, sigma):
    images = torch.linspace(0, 1, 5000).to(dtype)
    ours = functional.well_exposedness(images, center, sigma).double()
    exact = functional.well_exposedness(images.double(), center, sigma)
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert ((ours - exact).abs() <= 0.51 * torch.finfo(dtype).eps * exact + smallest).all()
