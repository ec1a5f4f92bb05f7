"""Launch kernels, and describe their variants for compilation without a GPU."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import triton

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
            divisible by 16 bytes), ``"i32:16"`` (divisible by 16) or ``"i64"``: see
            :class:`Layout`.
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


class Layout(NamedTuple):
    """What the machine code of a kernel takes for granted about values that a launch passes.

    Args:
        ones: sizes and strides that are 1.
        multiples: sizes, strides and addresses (in bytes) that are multiples of 16.
    """

    ones: tuple[str, ...] = ()
    multiples: tuple[str, ...] = ()

    def type_of(self, name: str, type_: str) -> str:
        """Return the type of an argument with what this layout says about its value."""
        return f"{type_}:16" if name in self.multiples else type_


class Kernel:
    """A kernel in one variant for each of its layouts; the first that fits a launch runs.

    Left alone, Triton compiles a kernel again for every pattern of "is 1" and "divisible by 16"
    among its integers and addresses: 2^15 for 15 strides, few of which were ever checked for
    spills. With one variant a layout, the layouts that ``CONFIGURATIONS`` list are all there are.
    """

    def __init__(self, function: Callable[..., None], layouts: Sequence[Layout]) -> None:
        self.layouts = tuple(layouts)
        self.arg_names = list(inspect.signature(function).parameters)
        self.variants = tuple(_jit(function, self.arg_names, x) for x in self.layouts)

    def variant_for(self, arguments: Sequence[Any]) -> Any:
        """Return the ``triton.jit`` function for the values of the run-time arguments."""
        given = dict(zip(self.arg_names, arguments, strict=False))
        for layout, variant in zip(self.layouts, self.variants, strict=True):
            if all(given[x] == 1 for x in layout.ones) and all(
                _is_multiple(given[x]) for x in layout.multiples
            ):
                return variant
        raise ValueError(f"{self.variants[0].fn.__name__} has no variant for these addresses")

    def configuration(
        self,
        name: str,
        types: Mapping[str, str],
        constants: Mapping[str, Any],
        layout: int = 0,
        **others: Any,
    ) -> Configuration:
        """List the variant of a layout; arguments without a type that are not constant are int32.

        ``others`` are fields of :class:`Configuration`.
        """
        taken = self.layouts[layout]
        constants = {**constants, **dict.fromkeys(taken.ones, 1)}
        signature = {
            x: taken.type_of(x, types.get(x, "i32")) for x in self.arg_names if x not in constants
        }
        return Configuration(name, self.variants[layout], signature, constants, **others)


def _jit(function: Callable[..., None], names: Sequence[str], layout: Layout) -> Any:
    unknown = {*layout.ones, *layout.multiples}.difference(names)
    if unknown:
        raise ValueError(f"{function.__name__} has no arguments {', '.join(sorted(unknown))}")
    constants = {x for x in names if "constexpr" in str(function.__annotations__.get(x, ""))}
    taken = {*layout.ones, *layout.multiples, *constants}
    free = [x for x in names if x not in taken]
    return triton.jit(function, do_not_specialize=free, do_not_specialize_on_alignment=free)


def _is_multiple(value: Any) -> bool:
    """Return whether a number, or the address of a tensor that is not None, divides by 16."""
    return value is None or (value if isinstance(value, int) else value.data_ptr()) % 16 == 0


def compiled_for(*layouts: Layout) -> Callable[[Callable[..., None]], Kernel]:
    """Make a function a :class:`Kernel`. The last layout must fit every launch."""
    return lambda function: Kernel(function, layouts)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a device current: Triton launches on the current device, not on that of the tensors."""
    if device.type != "cuda":
        return nullcontext()
    import torch

    return torch.cuda.device(device)


def launch(kernel: Kernel, programs: int, device: torch.device, *args: Any, **options: Any) -> None:
    """Run ``programs`` programs of a kernel on the device's current stream.

    ``args`` are its run-time arguments in order, ``options`` its constants, ``num_warps`` and
    ``num_stages``.
    """
    if programs == 0:
        return
    with _on(device):
        # Products and sums become fused multiply-adds. The default changes in Triton 3.10.
        kernel.variant_for(args)[(programs,)](*args, enable_fp_fusion=True, **options)


def cdiv(a: int, b: int) -> int:
    return -(-a // b)
