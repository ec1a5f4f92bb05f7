"""Semantics of SASS instructions that set, combine or read conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine_code.operands import Reader, number
from bench.machine_code.values import FALSE, TRUE, UNKNOWN, Value, all_known, floats, logic, signed

COMPARE: Mapping[str, Callable[..., NDArray]] = {
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
}
COMBINE: Mapping[str, Callable[..., NDArray]] = {
    "AND": np.logical_and,
    "OR": np.logical_or,
    "XOR": np.logical_xor,
}


def _combined(combine: str, outcome: Value, other: Value) -> list[Value]:
    inverse = Value(~outcome.bits, outcome.known)
    return [logic(COMBINE[combine], x, other) for x in (outcome, inverse)]


def compare_integers(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    how, combine = modifiers[0], next(x for x in modifiers if x in COMBINE)
    a, b = read.value(0), read.value(1)
    x, y = (a.bits, b.bits) if "U32" in modifiers else (signed(a), signed(b))
    known = all_known(a, b)
    conditions = read.conditions()
    if how in ("T", "F"):
        outcome = TRUE if how == "T" else FALSE
    elif "EX" in modifiers:
        low = conditions[1]
        if how == "NE":
            outcome = logic(np.logical_or, Value(x != y, known), low)
        else:
            strict = COMPARE[how[0] + "T"](x, y) if how != "EQ" else np.zeros(1, np.bool_)
            outcome = logic(
                np.logical_or,
                Value(strict, known),
                logic(np.logical_and, Value(x == y, known), low),
            )
    else:
        outcome = Value(COMPARE[how](x, y), known)
    return _combined(combine, outcome, conditions[0])


def compare_floats(read: Reader) -> list[Value]:
    modifiers = [x for x in read.instruction.modifiers if x != "FTZ"]
    how = modifiers[0]
    a, b = read.value(0), read.value(1)
    x, y = floats(a), floats(b)
    unordered = np.isnan(x) | np.isnan(y)
    if how in ("NUM", "NAN"):
        bits = unordered if how == "NAN" else ~unordered
    else:
        bits = COMPARE[how[:2]](x, y) & ~unordered
        bits = bits | unordered if how.endswith("U") else bits
    combine = next(x for x in modifiers if x in COMBINE)
    return _combined(combine, Value(bits, all_known(a, b)), read.conditions()[0])


def _lut(table: int, a: NDArray, b: NDArray, c: NDArray, ones: Any) -> NDArray:
    """Apply a truth table of three inputs to bits or to conditions."""
    result = a & ~a
    for row in range(8):
        if table >> row & 1:
            x = a if row & 4 else a ^ ones
            y = b if row & 2 else b ^ ones
            z = c if row & 1 else c ^ ones
            result = result | (x & y & z)
    return result


def plop3(read: Reader) -> list[Value]:
    given = [read.condition(i) for i in range(3)]
    tables = [int(x, 16) for x in read.operands[3:5]]
    return [
        logic(lambda a, b, c, table=table: _lut(table, a, b, c, np.True_), *given)
        for table in tables
    ]


def lop3(read: Reader) -> list[Value]:
    a, b, c = (read.value(i) for i in range(3))
    table = int(read.operands[3], 16)
    bits = _lut(table, a.bits, b.bits, c.bits, np.uint32(0xFFFFFFFF))
    known = all_known(a, b, c)
    return [Value(bits, known), Value(bits != 0, known)]


def choose(read: Reader) -> list[Value]:
    a, b, condition = read.value(0), read.value(1), read.conditions()[-1]
    known = all_known(a, b, condition)
    return [Value(np.where(condition.bits, a.bits, b.bits), known)]


def pack_conditions(read: Reader) -> list[Value]:
    mask = number(read.operands[2], False)
    if mask is None or read.operands[1] != "RZ":
        return [UNKNOWN]
    total, given = np.zeros(1, np.uint32), []
    for bit in range(7):
        if int(mask.bits[0]) >> bit & 1:
            condition = read.machine.condition(f"P{bit}")
            total = total | (condition.bits.astype(np.uint32) << np.uint32(bit))
            given.append(condition)
    return [Value(total, all_known(*given))]


def check_division(read: Reader) -> list[Value]:
    """Return false: divisors and dividends of ordinary size do not need the slow path."""
    return [FALSE]
