"""Exact semantics of SASS instructions on integers of 32 and 64 bits."""

from __future__ import annotations

import numpy as np

from bench.machine_code.operands import Reader, number
from bench.machine_code.values import (
    UNKNOWN,
    Value,
    all_known,
    constant,
    halves,
    signed,
    wide,
)

ONE = np.uint64(1) << np.uint64(32)


def add(read: Reader) -> list[Value]:
    a, b = read.value(0), read.value(1)
    return [Value(a.bits + b.bits, all_known(a, b))]


def add3(read: Reader) -> list[Value]:
    parts = [read.addend(i) for i in range(3)]
    total = parts[0].bits + parts[1].bits + parts[2].bits
    known = all_known(*parts)
    if "X" in read.instruction.modifiers:
        for carry in read.conditions():
            total = total + carry.bits.astype(np.uint64)
            known = all_known(Value(total, known), carry)
    low = Value(total.astype(np.uint32), known)
    return [low, Value(total >= ONE, known), Value(total >= np.uint64(2) * ONE, known)]


def multiply_add(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    a, b = read.value(0), read.value(1)
    if "WIDE" in modifiers or "HI" in modifiers:
        if "U32" in modifiers:
            product = a.bits.astype(np.uint64) * b.bits.astype(np.uint64)
        else:
            product = (signed(a).astype(np.int64) * signed(b).astype(np.int64)).view(np.uint64)
        c = read.pair(2)
        total = product + c.bits
        known = all_known(a, b, c)
        if "HI" in modifiers:
            return [halves(Value(total, known))[1]]
        return [*halves(Value(total, known)), Value(total < product, known)]
    c = read.value(2)
    total = a.bits * b.bits + c.bits
    known = all_known(a, b, c)
    if "X" in modifiers:
        (carry,) = read.conditions()[-1:]
        total, known = total + carry.bits.astype(np.uint32), all_known(Value(total, known), carry)
    return [Value(total, known)]


def lea(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    a, b = read.value(0), read.addend(1)
    if "HI" in modifiers:
        extends = "SX32" in modifiers
        c = Value((signed(a) >> 31).view(np.uint32), a.known) if extends else read.value(2)
        shift = read.value(2 if extends else 3)
        wide_a = wide(a, c)
        shifted = ((wide_a.bits << shift.bits.astype(np.uint64)) >> np.uint64(32)) & np.uint64(
            0xFFFFFFFF
        )
        known = all_known(wide_a, b, shift)
    else:
        shift = read.value(2) if read.count() > 2 else constant(0)
        shifted = (a.bits << shift.bits).astype(np.uint64)
        known = all_known(a, b, shift)
    total = shifted + b.bits
    if "X" in modifiers:
        carry = read.conditions()[-1]
        total, known = total + carry.bits.astype(np.uint64), all_known(Value(total, known), carry)
    return [Value(total.astype(np.uint32), known), Value(total >= ONE, known)]


def shift(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    low, shift, high = (read.value(i) for i in range(3))
    known = all_known(low, shift, high)
    by = np.minimum(shift.bits, 63 if "64" in "".join(modifiers) else 32).astype(np.uint64)
    if "W" in modifiers:
        by = (shift.bits & np.uint32(31)).astype(np.uint64)
    both = wide(low, high).bits
    if "L" in modifiers:
        if "HI" in modifiers:
            bits = (both << by) >> np.uint64(32)
        else:
            bits = low.bits.astype(np.uint64) << by
    elif any(x.startswith("S") for x in modifiers):
        if "HI" in modifiers:
            bits = (signed(high).astype(np.int64) >> by.astype(np.int64)).view(np.uint64)
        else:
            bits = (both.view(np.int64) >> by.astype(np.int64)).view(np.uint64)
    elif "HI" in modifiers:
        bits = high.bits.astype(np.uint64) >> by
    else:
        bits = both >> by
    return [Value(bits.astype(np.uint32), known)]


def least(read: Reader, add: bool = False) -> list[Value]:
    given = [read.value(i) for i in range(read.count())]
    known = all_known(*given)
    if add:
        given = [Value(given[0].bits + given[1].bits, known), given[2]]
    least = read.conditions()[-1]
    a, b = given
    x, y = (a.bits, b.bits) if "U32" in read.instruction.modifiers else (signed(a), signed(b))
    bits = np.where(least.bits, np.minimum(x, y), np.maximum(x, y)).view(np.uint32)
    return [Value(bits, known)]


def absolute(read: Reader) -> list[Value]:
    a = read.value(0)
    return [Value(np.abs(signed(a)).view(np.uint32), a.known)]


def permute(read: Reader) -> list[Value]:
    a, c = read.value(0), read.value(2)
    selector = number(read.operands[1], False)
    if selector is None or len(read.instruction.modifiers):
        return [UNKNOWN]
    both = wide(a, c).bits
    total = np.zeros(1, np.uint32)
    used = set()
    for byte in range(4):
        nibble = int(selector.bits[0]) >> 4 * byte & 15
        used.add(nibble % 8 // 4)
        found = (both >> np.uint64(8 * (nibble & 7))).astype(np.uint32) & np.uint32(0xFF)
        if nibble & 8:
            found = np.where(found & np.uint32(0x80), np.uint32(0xFF), np.uint32(0))
        total = total | (found.astype(np.uint32) << np.uint32(8 * byte))
    return [Value(total, all_known(*((a, c)[i] for i in used)))]


def sign_extend(read: Reader) -> list[Value]:
    a, bits = read.value(0), read.value(1)
    up = np.uint32(32) - np.minimum(bits.bits, np.uint32(32))
    raised = a.bits.astype(np.uint64) << up.astype(np.uint64)
    raised = raised.astype(np.uint32)
    if "U32" in read.instruction.modifiers:
        return [Value(raised >> up, all_known(a, bits))]
    return [Value((raised.view(np.int32) >> up.view(np.int32)).view(np.uint32), all_known(a, bits))]
