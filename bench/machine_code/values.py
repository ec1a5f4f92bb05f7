"""Values of a register in many threads at once, some of which may be unknown.

A value is a pair of arrays: the bits of the register, and whether they are known. Values loaded
from memory are unknown, and so are values computed from them. ``known`` is ``True`` or ``False`` if
it is the same in all threads.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Known: TypeAlias = "bool | NDArray[np.bool_]"


class Value(NamedTuple):
    bits: NDArray
    known: Known


UNKNOWN = Value(np.zeros(1, np.uint32), False)
UNKNOWN_CONDITION = Value(np.zeros(1, np.bool_), False)
TRUE, FALSE = Value(np.ones(1, np.bool_), True), Value(np.zeros(1, np.bool_), True)


def constant(number: int) -> Value:
    return Value(np.array([number & 0xFFFFFFFF], np.uint32), True)


def all_known(*values: Value) -> Known:
    known: Known = True
    for value in values:
        if value.known is False:
            return False
        if value.known is not True:
            known = value.known if known is True else known & value.known
    return known


def select(mask: Known, new: Value, old: Value) -> Value:
    """Return ``new`` in the threads of ``mask`` and ``old`` in the others."""
    if mask is True or (new.known is False and old.known is False):
        return new
    known = new.known if new.known is old.known else np.where(mask, new.known, old.known)
    return Value(np.where(mask, new.bits, old.bits), known)


def wide(low: Value, high: Value) -> Value:
    bits = low.bits.astype(np.uint64) | (high.bits.astype(np.uint64) << np.uint64(32))
    return Value(bits, all_known(low, high))


def halves(value: Value) -> tuple[Value, Value]:
    low, high = value.bits, value.bits >> np.uint64(32)
    return Value(low.astype(np.uint32), value.known), Value(high.astype(np.uint32), value.known)


def logic(function: Callable[..., NDArray], *conditions: Value) -> Value:
    """Apply a function of conditions. The result is known if unknown conditions do not matter."""
    if (known := all_known(*conditions)) is True:
        return Value(function(*(x.bits for x in conditions)), True)
    unknown = [i for i, x in enumerate(conditions) if x.known is not True]
    results = []
    for guess in product((False, True), repeat=len(unknown)):
        given = [x.bits for x in conditions]
        for i, bit in zip(unknown, guess, strict=True):
            given[i] = np.where(conditions[i].known, given[i], bit)
        results.append(function(*given))
    agree = np.logical_and.reduce([x == results[0] for x in np.broadcast_arrays(*results)])
    return Value(results[0], agree if known is False else agree | known)


def signed(value: Value) -> NDArray:
    return value.bits.view(np.int32)


def floats(value: Value) -> NDArray:
    return value.bits.view(np.float32)


def negated(value: Value) -> Value:
    return Value(np.uint32(0) - value.bits, value.known)


def inverted(value: Value) -> Value:
    return Value(~value.bits, value.known)
