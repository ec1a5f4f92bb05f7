"""Launch kernels, and describe their variants for compilation without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The size of a value of each Triton type.
BYTES = {"u8": 1, "u16": 2, "fp16": 2, "bf16": 2, "fp32": 4}

# The constants below are the numbers of warps that a multiprocessor should hold, depending on what
# limits the kernel. They were not timed on a GPU.
# Memory: 512 threads with two 16-byte loads each have 16 KiB in flight, about what a multiprocessor
# of an H100 needs for its part of 3.35 TB/s at a latency of 0.6 µs.
BYTES_IN_FLIGHT = 16
# Loads of single values instead of vectors, or kernels that do little else, need twice as many.
SINGLE_VALUES = 32
# Arithmetic on several independent maps or pixels needs three warps for each of the four
# schedulers, or two if a thread holds the sums of many maps.
ARITHMETIC, MANY_MAPS = 12, 8


@dataclass(frozen=True)
class Configuration:
    """One variant of a kernel that a launcher uses.

    Args:
        name: a name for tables, unique in the file.
        kernel: the ``triton.jit`` function.
        signature: Triton type of every run-time argument, such as ``"*fp32:16"`` (an address
            divisible by 16 bytes), ``"i32:16"`` (divisible by 16) or ``"i64"``.
        constants: value of every other argument: ``tl.constexpr`` ones, strides of 1, ``None``.
        pixels: how many pixels of one plane one iteration of the main loop handles, or the whole
            kernel if it has no loop (for counts of instructions).
        bytes_per_pixel: the least that the variant reads and writes for one such pixel.
        resident: warps that must fit a multiprocessor at once, which limits :attr:`registers`.
        maxnreg: the limit on registers that the launcher sets for some architectures.
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
        """The most registers of a thread with ``resident`` warps.

        A multiprocessor has 65536 registers and allocates them in multiples of 8 for each thread.
        """
        warps = self.num_warps * cdiv(self.resident, self.num_warps)
        return min(255, 65536 // (32 * warps) // 8 * 8)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device current: Triton launches on the current device, not on that of the tensors."""
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
        # Products and sums become fused multiply-adds. The default changes in Triton 3.10.
        kernel[(programs,)](*args, enable_fp_fusion=True, **options)


def cdiv(a: int, b: int) -> int:
    return -(-a // b)
