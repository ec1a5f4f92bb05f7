"""Operands of SASS instructions: which ones are written, their width, and their values."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bench.machine_code.sass import Instruction
from bench.machine_code.values import UNKNOWN, Value, constant, inverted, negated, signed

PREDICATE = re.compile(r"!?U?P(\d|T)$")
REGISTER = re.compile(r"([-~|]*)(U?R)(\d+|Z)((?:\.\w+)*)\|?$")
BANK = re.compile(r"([-~|]*)c\[(0x[0-9a-f]+)\]\[(?:(U?R\d+|URZ|RZ)\+?)?(-?0x[0-9a-f]+)?\]\|?$")
DOUBLE = ("DADD", "DMUL", "DFMA")
WITH_CARRY = ("IADD3", "UIADD3", "LEA", "ULEA", "IMAD", "UIMAD", "LOP3", "ULOP3")
CONDITIONS = ("SETP", "PLOP3", "FCHK")
# Instructions that write no register.
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
    """Return the number of registers of the result."""
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


def number(operand: str, floating: bool) -> Value | None:
    """Return the value of an immediate operand; ``None`` for other operands."""
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
    """Read the operands of an instruction from the registers and constants of a machine."""

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
            value = Value(np.abs(signed(value)).view(np.uint32), value.known)
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
        # An immediate is sign-extended.
        return Value(low.bits.view(np.int32).astype(np.int64).view(np.uint64), low.known)

    def addend(self, index: int) -> Value:
        """Return an operand of a sum in 64 bits; -b is 2**32 - b, so that the carry is right."""
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
