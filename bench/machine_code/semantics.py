"""Semantics of the SASS instructions that branches and addresses depend on.

Integer arithmetic and conditions are exact. Arithmetic in float32 is modelled as far as integer
divisions and coordinates need it. The results of all other instructions are unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench.machine_code import conditions, floats, integers
from bench.machine_code.operands import BANK, Reader
from bench.machine_code.sass import Instruction
from bench.machine_code.values import UNKNOWN, Value, constant, halves


def _move(read: Reader) -> list[Value]:
    return [read.value(0)]


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


def _special(read: Reader) -> list[Value]:
    return [read.machine.special.get(read.operands[0], UNKNOWN)]


SEMANTICS: Mapping[str, Callable[[Reader], list[Value]]] = {
    "MOV": _move,
    "IADD3": integers.add3,
    "IMAD": integers.multiply_add,
    "LEA": integers.lea,
    "LOP3": conditions.lop3,
    "PLOP3": conditions.plop3,
    "SHF": integers.shift,
    "ISETP": conditions.compare_integers,
    "FSETP": conditions.compare_floats,
    "SEL": conditions.choose,
    "FSEL": conditions.choose,
    "IMNMX": integers.least,
    "VIMNMX": integers.least,
    "VIADDMNMX": partial(integers.least, add=True),
    "VIADD": integers.add,
    "IABS": integers.absolute,
    "PRMT": integers.permute,
    "HFMA2": floats.half_constant,
    "I2F": floats.to_float,
    "I2FP": floats.to_float,
    "F2I": floats.to_integer,
    "FRND": floats.rounded,
    "MUFU": floats.reciprocal,
    "FADD": floats.float_sum,
    "FMUL": floats.float_product,
    "FFMA": floats.float_multiply_add,
    "FMNMX": floats.float_least,
    "R2UR": _move,
    "S2R": _special,
    "S2UR": _special,
    "CS2R": _zeros,
    "LDC": _load_constant,
    "SGXT": integers.sign_extend,
    "P2R": conditions.pack_conditions,
    "FCHK": conditions.check_division,
}


def semantics_of(instruction: Instruction) -> Callable[[Reader], list[Value]] | None:
    """Return the function that computes the results; ``None`` if they are unknown."""
    kind = instruction.kind
    # UIADD3 is IADD3 on uniform registers, which a warp shares.
    return SEMANTICS.get(kind) or SEMANTICS.get(kind.removeprefix("U"))
