"""What SASS instructions compute, as far as branches and addresses depend on it.

Integer arithmetic and conditions are exact. Floating-point arithmetic in float32 is there for
divisions of integers and for coordinates. The result of every other instruction is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.machine_code.sass import Instruction
from bench.machine_code.values import (
    FALSE,
    TRUE,
    UNKNOWN,
    Value,
    all_known,
    constant,
    halves,
    logic,
    wide,
)

PREDICATE = re.compile(r"!?U?P(\d|T)$")
REGISTER = re.compile(r"([-~|]*)(U?R)(\d+|Z)((?:\.\w+)*)\|?$")
BANK = re.compile(r"([-~|]*)c\[(0x[0-9a-f]+)\]\[(?:(U?R\d+|URZ|RZ)\+?)?(-?0x[0-9a-f]+)?\]\|?$")
ONE = np.uint64(1) << np.uint64(32)
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
# A register of these is a pair or four; ``.64`` and ``.128`` say so of themselves.
PAIRS = ("WIDE", "F64", "64H")
DOUBLE = ("DADD", "DMUL", "DFMA")
WITH_CARRY = ("IADD3", "UIADD3", "LEA", "ULEA", "IMAD", "UIMAD", "LOP3", "ULOP3")
CONDITIONS = ("SETP", "PLOP3", "FCHK")
# These write no register.
NO_RESULT = (
    *(
        "ST",
        "STG",
        "STS",
        "STL",
        "BRA",
        "EXIT",
        "BSSY",
        "BSYNC",
        "BAR",
        "NOP",
        "CALL",
        "RET",
        "RED",
    ),
    *("WARPSYNC", "MEMBAR", "BREAK", "DEPBAR", "LDGDEPBAR", "LDGSTS", "CCTL", "YIELD", "BRX"),
    *("RED", "ERRBAR", "UCGABAR_ARV", "UCGABAR_WAIT", "FENCE", "BMOV", "KILL", "BPT", "NANOSLEEP"),
)


def is_condition(operand: str) -> bool:
    return bool(PREDICATE.match(operand))


def width_of(instruction: Instruction) -> int:
    """Return how many registers the result takes."""
    name, modifiers = instruction.kind, instruction.modifiers
    if name in ("LDG", "LDS", "LDC", "ULDC", "LDL", "LD", "ATOMG"):
        return max(1, instruction.bytes // 4)
    if name == "CS2R":
        return 1 if "32" in modifiers else 2
    if name in ("F2F", "I2F", "F2I"):
        first = modifiers[0] if modifiers else ""
        return 2 if "64" in first else 1
    if name in ("HMMA", "IMMA", "LDSM"):
        return 4
    return 2 if name in DOUBLE or "WIDE" in modifiers else 1


def results_of(instruction: Instruction) -> tuple[list[str], int]:
    """Return the operands that are written, and the index of the first one that is read."""
    operands = instruction.operands
    if instruction.kind in NO_RESULT or not operands:
        return [], 0
    if any(x in instruction.kind for x in CONDITIONS):
        count = 1 if instruction.kind == "FCHK" else 2
        return list(operands[:count]), count
    count = 1
    if is_condition(operands[0]) or instruction.kind in WITH_CARRY:
        while count < len(operands) - 1 and is_condition(operands[count]):
            count += 1
        if is_condition(operands[0]):  # SHFL P0, R1, ...
            count += 1
    elif instruction.kind in ("VOTE", "VOTEU"):
        count = 2
    return list(operands[:count]), count


def _signed(value: Value) -> NDArray:
    return value.bits.view(np.int32)


def _floats(value: Value) -> NDArray:
    return value.bits.view(np.float32)


def _of_floats(function: Callable[..., NDArray], *given: Value) -> list[Value]:
    """Apply a function of float32 numbers; what is unknown is not computed."""
    if (known := all_known(*given)) is False:
        return [UNKNOWN]
    with np.errstate(all="ignore"):
        numbers = np.asarray(function(*map(_floats, given)), np.float32)
    return [Value(numbers.view(np.uint32), known)]


def negated(value: Value) -> Value:
    return Value(np.uint32(0) - value.bits, value.known)


def inverted(value: Value) -> Value:
    return Value(~value.bits, value.known)


def number(operand: str, floating: bool) -> Value | None:
    """Return an immediate operand; None if it is none."""
    try:
        if not floating or "0x" in operand:
            return constant(int(operand, 16 if "0x" in operand else 10))
    except ValueError:
        return None
    try:
        bits = np.array([float(operand.replace("+INF", "inf").replace("QNAN", "nan"))], np.float32)
    except ValueError:
        return None
    return Value(bits.view(np.uint32), True)


class Reader:
    """The operands of an instruction; the machine holds registers and constants."""

    def __init__(self, machine: Any, instruction: Instruction) -> None:
        self.machine, self.instruction = machine, instruction
        self.floating = instruction.kind[0] in "FM"
        _, first = results_of(instruction)
        self.operands = instruction.operands[first:]

    def value(self, index: int) -> Value:
        operand = self.operands[index]
        found = number(operand, self.floating)
        if found is not None:
            return found
        if register := REGISTER.match(operand):
            sign, kind, name, _ = register.groups()
            value = self.machine.register(kind, name)
        elif bank := BANK.match(operand):
            sign, which, base, offset = bank.groups()
            value = self.machine.constant(which, base, offset, 4)
        else:
            return UNKNOWN
        if not sign:
            return value
        if self.floating:
            bits = value.bits
            if "|" in sign:
                bits = bits & np.uint32(0x7FFFFFFF)
            return Value(bits ^ np.uint32(0x80000000) if "-" in sign else bits, value.known)
        if "|" in sign:
            value = Value(np.abs(_signed(value)).view(np.uint32), value.known)
        if "~" in sign:
            return inverted(value)
        return negated(value) if "-" in sign else value

    def pair(self, index: int) -> Value:
        operand = self.operands[index]
        register = REGISTER.match(operand)
        if register:
            sign, kind, name, _ = register.groups()
            value = self.machine.register_pair(kind, name)
            if "-" in sign:
                return Value(np.uint64(0) - value.bits, value.known)
            return Value(~value.bits, value.known) if "~" in sign else value
        if bank := BANK.match(operand):
            return self.machine.constant(bank[2], bank[3], bank[4], 8)
        low = self.value(index)
        # An immediate is extended with its sign.
        return Value(low.bits.view(np.int32).astype(np.int64).view(np.uint64), low.known)

    def addend(self, index: int) -> Value:
        """Return an operand of a sum in 64 bits: minus b is 2**32 - b, for the carry."""
        operand = self.operands[index]
        if operand.startswith("-") and number(operand, False) is None:
            plain = inverted(negated(self.value(index)))
            return Value(plain.bits.astype(np.uint64) + np.uint64(1), plain.known)
        value = self.value(index)
        return Value(value.bits.astype(np.uint64), value.known)

    def condition(self, index: int) -> Value:
        return self.machine.condition(self.operands[index])

    def conditions(self) -> list[Value]:
        return [self.machine.condition(x) for x in self.operands if is_condition(x)]

    def count(self) -> int:
        return sum(not is_condition(x) for x in self.operands)


def _add3(read: Reader) -> list[Value]:
    parts = [read.addend(i) for i in range(3)]
    total = parts[0].bits + parts[1].bits + parts[2].bits
    known = all_known(*parts)
    if "X" in read.instruction.modifiers:
        for carry in read.conditions():
            total = total + carry.bits.astype(np.uint64)
            known = all_known(Value(total, known), carry)
    low = Value(total.astype(np.uint32), known)
    return [low, Value(total >= ONE, known), Value(total >= np.uint64(2) * ONE, known)]


def _multiply_add(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    a, b = read.value(0), read.value(1)
    if "WIDE" in modifiers or "HI" in modifiers:
        if "U32" in modifiers:
            product = a.bits.astype(np.uint64) * b.bits.astype(np.uint64)
        else:
            product = (_signed(a).astype(np.int64) * _signed(b).astype(np.int64)).view(np.uint64)
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


def _lea(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    a, b = read.value(0), read.addend(1)
    if "HI" in modifiers:
        signed = "SX32" in modifiers
        c = Value((_signed(a) >> 31).view(np.uint32), a.known) if signed else read.value(2)
        shift = read.value(2 if signed else 3)
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


def _lop3(read: Reader) -> list[Value]:
    a, b, c = (read.value(i) for i in range(3))
    table = int(read.operands[3], 16)
    bits = _lut(table, a.bits, b.bits, c.bits, np.uint32(0xFFFFFFFF))
    known = all_known(a, b, c)
    return [Value(bits, known), Value(bits != 0, known)]


def _plop3(read: Reader) -> list[Value]:
    given = [read.condition(i) for i in range(3)]
    tables = [int(x, 16) for x in read.operands[3:5]]
    return [
        logic(lambda a, b, c, table=table: _lut(table, a, b, c, np.True_), *given)
        for table in tables
    ]


def _shift(read: Reader) -> list[Value]:
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
            bits = (_signed(high).astype(np.int64) >> by.astype(np.int64)).view(np.uint64)
        else:
            bits = (both.view(np.int64) >> by.astype(np.int64)).view(np.uint64)
    elif "HI" in modifiers:
        bits = high.bits.astype(np.uint64) >> by
    else:
        bits = both >> by
    return [Value(bits.astype(np.uint32), known)]


def _compare_integers(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    how, combine = modifiers[0], next(x for x in modifiers if x in COMBINE)
    a, b = read.value(0), read.value(1)
    x, y = (a.bits, b.bits) if "U32" in modifiers else (_signed(a), _signed(b))
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


def _combined(combine: str, outcome: Value, other: Value) -> list[Value]:
    inverse = Value(~outcome.bits, outcome.known)
    return [logic(COMBINE[combine], x, other) for x in (outcome, inverse)]


def _compare_floats(read: Reader) -> list[Value]:
    modifiers = [x for x in read.instruction.modifiers if x != "FTZ"]
    how = modifiers[0]
    a, b = read.value(0), read.value(1)
    x, y = _floats(a), _floats(b)
    unordered = np.isnan(x) | np.isnan(y)
    if how in ("NUM", "NAN"):
        bits = unordered if how == "NAN" else ~unordered
    else:
        bits = COMPARE[how[:2]](x, y) & ~unordered
        bits = bits | unordered if how.endswith("U") else bits
    combine = next(x for x in modifiers if x in COMBINE)
    return _combined(combine, Value(bits, all_known(a, b)), read.conditions()[0])


def _choose(read: Reader) -> list[Value]:
    a, b, condition = read.value(0), read.value(1), read.conditions()[-1]
    known = all_known(a, b, condition)
    return [Value(np.where(condition.bits, a.bits, b.bits), known)]


def _least(read: Reader, add: bool = False) -> list[Value]:
    given = [read.value(i) for i in range(read.count())]
    known = all_known(*given)
    if add:
        given = [Value(given[0].bits + given[1].bits, known), given[2]]
    least = read.conditions()[-1]
    a, b = given
    x, y = (a.bits, b.bits) if "U32" in read.instruction.modifiers else (_signed(a), _signed(b))
    bits = np.where(least.bits, np.minimum(x, y), np.maximum(x, y)).view(np.uint32)
    return [Value(bits, known)]


def _permute(read: Reader) -> list[Value]:
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


def _half_constant(read: Reader) -> list[Value]:
    """HFMA2 of zeros: how the compiler writes a constant as two float16 numbers."""
    if [x.lstrip("-") for x in read.operands[:2]] != ["RZ", "RZ"]:
        return [UNKNOWN]
    try:
        high, low = (np.float16(float(x)) for x in read.operands[2:4])
    except ValueError:
        return [UNKNOWN]
    return [constant(int(high.view(np.uint16)) << 16 | int(low.view(np.uint16)))]


def _to_float(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    if any("64" in x or "F16" in x for x in modifiers):
        return [UNKNOWN]
    a = read.value(0)
    unsigned = "U32" in modifiers or modifiers == ("RP",)
    exact = (a.bits if unsigned else _signed(a)).astype(np.float64)
    rounded = exact.astype(np.float32)
    if "RP" in modifiers:
        rounded = np.where(rounded < exact, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return [Value(rounded.astype(np.float32).view(np.uint32), a.known)]


def _to_integer(read: Reader) -> list[Value]:
    modifiers = read.instruction.modifiers
    if any("64" in x or "F16" in x for x in modifiers):
        return [UNKNOWN]
    a = read.value(0)
    x = np.nan_to_num(_floats(a).astype(np.float64), posinf=2.0**33, neginf=-(2.0**33))
    ways = {"FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc}
    whole = next((f for way, f in ways.items() if way in modifiers), np.rint)(x)
    if "U32" in modifiers:
        return [Value(np.clip(whole, 0, 2**32 - 1).astype(np.uint32), a.known)]
    return [Value(np.clip(whole, -(2**31), 2**31 - 1).astype(np.int32).view(np.uint32), a.known)]


def _round(read: Reader) -> list[Value]:
    ways = {"FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc}
    modifiers = read.instruction.modifiers
    way = next((function for way, function in ways.items() if way in modifiers), np.rint)
    return _of_floats(way, read.value(0))


def _reciprocal(read: Reader) -> list[Value]:
    if read.instruction.modifiers != ("RCP",):
        return [UNKNOWN]
    return _of_floats(np.reciprocal, read.value(0))


def _float_sum(read: Reader) -> list[Value]:
    return _of_floats(np.add, read.value(0), read.value(1))


def _float_product(read: Reader) -> list[Value]:
    return _of_floats(np.multiply, read.value(0), read.value(1))


def _float_multiply_add(read: Reader) -> list[Value]:
    def fused(a: NDArray, b: NDArray, c: NDArray) -> NDArray:
        return a.astype(np.float64) * b + c

    return _of_floats(fused, *(read.value(i) for i in range(3)))


def _float_least(read: Reader) -> list[Value]:
    least = read.conditions()[-1]
    if least.known is not True:
        return [UNKNOWN]

    def choose(a: NDArray, b: NDArray) -> NDArray:
        return np.where(least.bits, np.fmin(a, b), np.fmax(a, b))

    return _of_floats(choose, read.value(0), read.value(1))


def _move(read: Reader) -> list[Value]:
    return [read.value(0)]


def _absolute(read: Reader) -> list[Value]:
    a = read.value(0)
    return [Value(np.abs(_signed(a)).view(np.uint32), a.known)]


def _add(read: Reader) -> list[Value]:
    a, b = read.value(0), read.value(1)
    return [Value(a.bits + b.bits, all_known(a, b))]


def _load_constant(read: Reader) -> list[Value]:
    bank = BANK.match(read.operands[0])
    if bank is None:
        return [UNKNOWN]
    value = read.machine.constant(bank[2], bank[3], bank[4], read.instruction.bytes)
    return list(halves(value)) if read.instruction.bytes == 8 else [value]


def _zeros(read: Reader) -> list[Value]:
    if read.operands[0] != "SRZ":
        return [UNKNOWN, UNKNOWN]
    return [constant(0), constant(0)]


def _sign_extend(read: Reader) -> list[Value]:
    a, bits = read.value(0), read.value(1)
    up = np.uint32(32) - np.minimum(bits.bits, np.uint32(32))
    raised = a.bits.astype(np.uint64) << up.astype(np.uint64)
    raised = raised.astype(np.uint32)
    if "U32" in read.instruction.modifiers:
        return [Value(raised >> up, all_known(a, bits))]
    return [Value((raised.view(np.int32) >> up.view(np.int32)).view(np.uint32), all_known(a, bits))]


def _special(read: Reader) -> list[Value]:
    return [read.machine.special.get(read.operands[0], UNKNOWN)]


def _pack_conditions(read: Reader) -> list[Value]:
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


def _check_division(read: Reader) -> list[Value]:
    """Divisors and dividends of ordinary size need no slow path."""
    return [FALSE]


SEMANTICS: Mapping[str, Callable[[Reader], list[Value]]] = {
    "MOV": _move,
    "IADD3": _add3,
    "IMAD": _multiply_add,
    "LEA": _lea,
    "LOP3": _lop3,
    "PLOP3": _plop3,
    "SHF": _shift,
    "ISETP": _compare_integers,
    "FSETP": _compare_floats,
    "SEL": _choose,
    "FSEL": _choose,
    "IMNMX": _least,
    "VIMNMX": _least,
    "VIADDMNMX": partial(_least, add=True),
    "VIADD": _add,
    "IABS": _absolute,
    "PRMT": _permute,
    "HFMA2": _half_constant,
    "I2F": _to_float,
    "I2FP": _to_float,
    "F2I": _to_integer,
    "FRND": _round,
    "MUFU": _reciprocal,
    "FADD": _float_sum,
    "FMUL": _float_product,
    "FFMA": _float_multiply_add,
    "FMNMX": _float_least,
    "R2UR": _move,
    "S2R": _special,
    "S2UR": _special,
    "CS2R": _zeros,
    "LDC": _load_constant,
    "SGXT": _sign_extend,
    "P2R": _pack_conditions,
    "FCHK": _check_division,
}


def semantics_of(instruction: Instruction) -> Callable[[Reader], list[Value]] | None:
    """Return the function that computes the results; None if they are unknown."""
    kind = instruction.kind
    # UIADD3 is IADD3 on the registers that a warp shares.
    return SEMANTICS.get(kind) or SEMANTICS.get(kind.removeprefix("U"))
