"""The losses and the fusions allocate no temporary of the size of an image."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.usefixtures("kernels")

# 24 megapixels, two exposures. The peak of the process before and after tells what a call takes
# above its results. A peak never falls, so every call has a process of its own: a copy of one that
# has imported everything.
PROGRAM = """
import os, resource, sys, torch
from fastmef import functional

def run(call, logits, images, valid):
    if call.startswith("multiscale"):
        color = images.view(torch.uint8)[..., : images.shape[-1] // 3 * 3]
        color = color.unflatten(-1, (-1, 3)).movedim(-1, 2)
        size = [-(-n // 16) for n in color.shape[-2:]]
        return functional.multiscale_fuse(torch.zeros(1, 2, *size), color)
    if call.startswith("fuse"):
        temperature = 0.5 if "temperature" in call else 1.0
        logits.requires_grad_("gradient" in call)
        fused = functional.softmax_fuse(logits, images.unsqueeze(2), False, temperature, valid)
        if "gradient" in call:
            fused.backward(images[:, :1])
        return fused
    scales = (1.0, 1.0, 1.0) if "scales" in call else (1.0,)
    if "fused" in call:
        fused = logits[:, 0].detach().requires_grad_()
        return functional.weighted_ssim_loss(fused, images, scales=scales)
    return functional.fusion_loss(logits.requires_grad_(), images, scales=scales)

def measure(call):
    torch.set_num_threads(2)
    dtype = torch.float16 if "half" in call else torch.float32
    exposures = torch.full((1, 2, 4001, 6001), 0.5, dtype=dtype)
    small = torch.full((1, 2, 64, 64), 0.5, dtype=dtype)
    valid = torch.ones_like(exposures, dtype=torch.bool) if "valid" in call else None
    # The first call loads.
    run(call, small.clone(), small, None if valid is None else valid[..., :64, :64])
    logits = torch.zeros_like(exposures).fill_(0.1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(call, logits, exposures, valid)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / 1024

for line in sys.stdin:
    if os.fork() == 0:
        try:
            print(measure(line.strip()), end="", flush=True)
        finally:
            os._exit(0)
    os.wait()
    print(flush=True)
"""
PLANE = 4001 * 6001 / 2**20  # MiB, one byte a pixel


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Start a process that reads calls, and writes the MiB that each allocates."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A package that lies in the current folder would come before the installed one.
        cwd=tmp_path_factory.mktemp("empty"),
    ) as process:
        yield process


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize(
    "call, bytes_of_results",
    [
        ("fuse", 4),
        ("fuse-half", 2),
        ("fuse-temperature", 4),
        ("fuse-valid", 4),
        ("fuse-gradient", 12),
        ("fuse-gradient-temperature-valid", 12),
        ("fuse-gradient-half-temperature-valid", 6),
        # A third of the columns, three channels: the result, the levels of two exposures in 16
        # bits, and the fused image of the second level in float32.
        ("multiscale", 1 + 4 / 3 + 1),
        ("loss", 8),
        # The gradient of the coarser levels is one of the second level, a quarter, in float32.
        ("loss-scales", 8 + 1),
        ("loss-half-scales", 4 + 1),
        ("loss-fused-scales", 4 + 1),
        ("loss-fused-half-scales", 2 + 1),
    ],
)
def test_a_call_takes_its_results_and_little_more(
    call: str, bytes_of_results: int, measuring: subprocess.Popen[str]
) -> None:
    assert measuring.stdin is not None and measuring.stdout is not None
    print(call, file=measuring.stdin, flush=True)
    assert float(measuring.stdout.readline()) <= bytes_of_results * PLANE + 12
