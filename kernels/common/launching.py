"""How kernels are started, and how their variants are listed for compilation without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BYTES = {"u8": 1, "u16": 2, "fp16": 2, "bf16": 2, "fp32": 4}  # of a value of a Triton type


# How many warps a multiprocessor should hold, by what keeps it busy. Not timed on a GPU.
# Bytes: 512 threads with two 16-byte loads each are 16 KiB on the way, about what a multiprocessor
# of an H100 needs for its share of 3.35 TB/s at a latency of 0.6 µs.
BYTES_ON_THE_WAY = 16
# Single values instead of vectors, or little else to do: twice that.
SINGLE_VALUES = 32
# Arithmetic on several maps or pixels at once, each a chain of its own: three warps for each of the
# four schedulers, or two where the sums of many maps are held.
ARITHMETIC, MANY_MAPS = 12, 8


@dataclass(frozen=True)
class Configuration:
    """One variant of a kernel, as its launcher starts it.

    Args:
        name: unique in the file, words a reader of a table understands.
        kernel: the ``triton.jit`` function.
        signature: Triton type of every run-time argument, such as ``"*fp32:16"`` (an address
            divisible by 16 bytes), ``"i32:16"`` (divisible by 16) or ``"i64"``.
        constants: value of every other argument: ``tl.constexpr`` ones, strides of 1, ``None``.
        pixels: how many pixels of one plane one run of the main loop handles, or the whole kernel
            where it has no loop (for counts of instructions).
        bytes_per_pixel: what the variant reads and writes at least, for one such pixel.
        resident: warps that must fit a multiprocessor at once, which limits :attr:`registers`.
        maxnreg: the limit that the launcher sets for an architecture, if any.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    pixels: int
    bytes_per_pixel: float
    resident: int
    num_warps: int = 4
    num_stages: int = 3
    maxnreg: Mapping[int, int] = field(default_factory=dict)
    architectures: tuple[int, ...] = field(default=(80, 90, 100))

    @property
    def registers(self) -> int:
        """The most that a thread may use, of 65536 for all, which warps get in eights a thread."""
        warps = self.num_warps * cdiv(self.resident, self.num_warps)
        return min(255, 65536 // (32 * warps) // 8 * 8)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device current: Triton launches there, whatever device the tensors are on."""
    if device.type != "cuda":
        return nullcontext()
    import torch

    return torch.cuda.device(device)


def launch(kernel: Any, programs: int, device: torch.device, *args: Any, **options: Any) -> None:
    """Run ``programs`` programs of a kernel on the device's current stream.

    ``options`` are constants of the kernel, ``num_warps`` and ``num_stages``.
    """
    if programs == 0:
        return
    with _on(device):
        # Contraction to fused multiply-add: Triton 3.10 changes the default.
        kernel[(programs,)](*args, enable_fp_fusion=True, **options)


def cdiv(a: int, b: int) -> int:
    return -(-a // b)
