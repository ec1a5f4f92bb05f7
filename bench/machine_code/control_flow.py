"""Find the basic blocks of a kernel, and the instructions that decide branches and addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.machine_code.operands import is_condition, results_of, width_of
from bench.machine_code.sass import Instruction, Kernel

GLOBAL_LOADS = ("LDG", "LD", "LDGSTS")
GLOBAL_STORES = ("STG", "ST", "RED", "ATOMG", "ATOM")
GLOBAL = (*GLOBAL_LOADS, *GLOBAL_STORES)
# A block ends with these instructions, at which lanes diverge or converge.
ENDS = ("BRA", "EXIT", "BSYNC", "CALL", "RET", "BRX", "KILL", "BREAK")
NAMED = re.compile(r"\b(U?)(R|P)(\d+)((?:\.\w+)*)")


@dataclass(frozen=True)
class Block:
    start: int  # index of its first instruction
    end: int  # index of the instruction after its last


def blocks_of(kernel: Kernel) -> list[Block]:
    count = len(kernel.instructions)
    starts = {0, *(x for x in kernel.labels.values() if x < count)}
    starts |= {i + 1 for i, x in enumerate(kernel.instructions) if x.kind in ENDS and i + 1 < count}
    ordered = sorted(starts)
    return [Block(a, b) for a, b in zip(ordered, [*ordered[1:], count], strict=True)]


def successors(kernel: Kernel, index: int) -> list[int]:
    """Return the indices of the instructions that may follow an instruction in any thread."""
    instruction = kernel.instructions[index]
    after = [index + 1] if index + 1 < len(kernel.instructions) else []
    conditional = bool(instruction.guard) or any(map(is_condition, instruction.operands))
    if instruction.kind in ("BRA", "CALL") and instruction.target:
        target = kernel.labels.get(instruction.target, len(kernel.instructions))
        there = [target] if target < len(kernel.instructions) else []
        return there + (after if conditional or instruction.kind == "CALL" else [])
    if instruction.kind == "RET":
        calls = [i + 1 for i, x in enumerate(kernel.instructions) if x.kind == "CALL"]
        return calls + (after if conditional else [])
    if instruction.kind == "BRX":
        return [x for x in kernel.labels.values() if x < len(kernel.instructions)]
    if instruction.kind in ("EXIT", "KILL"):
        return after if conditional else []
    return after


def _bit(uniform: str, kind: str, number: int) -> int:
    if kind == "P":
        return 1 << (512 + 8 * bool(uniform) + number)
    return 1 << (256 * bool(uniform) + number)


def _named(operand: str, width: int = 1) -> int:
    found = 0
    for uniform, kind, number, suffix in NAMED.findall(operand):
        wide = 2 if ".64" in suffix or (width == 2 and kind == "R") else width
        for i in range(wide if kind == "R" else 1):
            found |= _bit(uniform, kind, int(number) + i)
    return found


def address_of(instruction: Instruction) -> str:
    """Return the operand that holds the address in global memory, without the descriptor."""
    for operand in instruction.operands:
        if operand.startswith("desc["):
            return operand.split("]", 1)[1]
    return next(x for x in instruction.operands if x.startswith("["))


def _read(instruction: Instruction) -> int:
    """Return the registers that the results depend on."""
    if instruction.kind in GLOBAL or instruction.kind in ENDS:
        return 0
    _, first = results_of(instruction)
    found = 0
    for i, operand in enumerate(instruction.operands[first:]):
        pair = i == 2 and instruction.kind in ("IMAD", "UIMAD")
        pair = pair and bool({"WIDE", "HI"} & set(instruction.modifiers))
        found |= _named(operand, 2 if pair else 1)
    if instruction.kind == "P2R":
        found |= sum(_bit("", "P", i) for i in range(7))
    return found


def _written(instruction: Instruction) -> int:
    operands, _ = results_of(instruction)
    found = 0
    for operand in operands:
        found |= _named(operand, width_of(instruction))
    if instruction.kind == "R2P":
        found |= sum(_bit("", "P", i) for i in range(7))
    return found


def _demanded(instruction: Instruction) -> int:
    """Return the registers that decide where threads go and which addresses they access."""
    found = 0
    if instruction.kind in ENDS:
        for operand in instruction.operands:
            found |= _named(operand)
        found |= _named(instruction.guard)
    elif instruction.kind in GLOBAL:
        # In [R2.64+UR4], both the register and the uniform register are pairs.
        address = address_of(instruction)
        wide = 2 if ".64" in address else 1
        found = _named(address, wide) | _named(instruction.guard)
    return found


def relevant(kernel: Kernel, blocks: list[Block]) -> set[int]:
    """Return the instructions whose results reach a branch or an address in global memory."""
    instructions = kernel.instructions
    reads, writes = [_read(x) for x in instructions], [_written(x) for x in instructions]
    guards = [_named(x.guard) for x in instructions]
    demands = [_demanded(x) for x in instructions]
    at = {block.start: i for i, block in enumerate(blocks)}
    after = [[at[x] for x in successors(kernel, block.end - 1)] for block in blocks]
    before: list[list[int]] = [[] for _ in blocks]
    for i, following in enumerate(after):
        for j in following:
            before[j].append(i)

    def walk(i: int, found: set[int]) -> int:
        """Add the relevant instructions of a block; return the registers live before it."""
        live = 0
        for j in after[i]:
            live |= live_in[j]
        for x in range(blocks[i].end - 1, blocks[i].start - 1, -1):
            if writes[x] & live:
                if not guards[x]:
                    live &= ~writes[x]
                live |= reads[x] | guards[x]
                found.add(x)
            live |= demands[x]
        return live

    live_in = [0] * len(blocks)
    waiting = set(range(len(blocks)))
    while waiting:
        i = max(waiting)
        waiting.remove(i)
        if (live := walk(i, set())) != live_in[i]:
            live_in[i] = live
            waiting.update(before[i])
    found: set[int] = set()
    for i in range(len(blocks)):
        walk(i, found)
    return found
