"""Semantics of SASS instructions in float32, for integer divisions and coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.machine_code.operands import Reader
from bench.machine_code.values import UNKNOWN, Value, all_known, constant, floats, signed


def _of_floats(function: Callable[..., NDArray], *given: Value) -> list[Value]:
    """Apply a function of float32 numbers, unless an input is unknown in all threads."""
    if (known := all_known(*given)) is False:
        return [UNKNOWN]
    with np.errstate(all="ignore"):
        numbers = np.asarray(function(*map(floats, given)), np.float32)
    return [Value(numbers.view(np.uint32), known)]


def half_constant(read: Reader) -> list[Value]:
    """HFMA2 of zeros: the compiler uses it to load a constant as two float16 numbers."""
    if [x.lstrip("-") for x in read.operands[:2]] != ["RZ", "RZ"]:
        return [UNKNOWN]
    try:
        high, low = (np.float16(float(x)) for x in read.operands[2:4])
    except ValueError:
        return [UNKNOWN]
    return [constant(int(high.view(np.uint16)) << 16 | int(low.view(np.uint16)))]


def to_float(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    if any("64" in x or "F16" in x for x in modifiers):
        return [UNKNOWN]
    a = read.value(0)
    unsigned = "U32" in modifiers or modifiers == ("RP",)
    exact = (a.bits if unsigned else signed(a)).astype(np.float64)
    rounded = exact.astype(np.float32)
    if "RP" in modifiers:
        rounded = np.where(rounded < exact, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return [Value(rounded.astype(np.float32).view(np.uint32), a.known)]


def rounding(modifiers: Sequence[str]) -> Callable[..., NDArray]:
    """Return the rounding function that modifiers name; by default, round to the nearest."""
    ways = {"FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc}
    return next((function for way, function in ways.items() if way in modifiers), np.rint)


def to_integer(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    if any("64" in x or "F16" in x for x in modifiers):
        return [UNKNOWN]
    a = read.value(0)
    x = np.nan_to_num(floats(a).astype(np.float64), posinf=2.0**33, neginf=-(2.0**33))
    whole = rounding(modifiers)(x)
    if "U32" in modifiers:
        return [Value(np.clip(whole, 0, 2**32 - 1).astype(np.uint32), a.known)]
    return [Value(np.clip(whole, -(2**31), 2**31 - 1).astype(np.int32).view(np.uint32), a.known)]


def rounded(read: Reader) -> list[Value]:
    return _of_floats(rounding(read.instruction.modifiers), read.value(0))


def reciprocal(read: Reader) -> list[Value]:
    if read.instruction.modifiers != ("RCP",):
        return [UNKNOWN]
    return _of_floats(np.reciprocal, read.value(0))


def float_sum(read: Reader) -> list[Value]:
    return _of_floats(np.add, read.value(0), read.value(1))


def float_product(read: Reader) -> list[Value]:
    return _of_floats(np.multiply, read.value(0), read.value(1))


def float_multiply_add(read: Reader) -> list[Value]:
    def fused(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
        return a.astype(np.float64) * b + c

    return _of_floats(fused, *(read.value(i) for i in range(3)))


def float_least(read: Reader) -> list[Value]:
    least = read.conditions()[-1]
    if least.known is not True:
        return [UNKNOWN]

    def choose(a: NDArray, b: NDArray) -> NDArray:
        return np.where(least.bits, np.fmin(a, b), np.fmax(a, b))

    return _of_floats(choose, read.value(0), read.value(1))
