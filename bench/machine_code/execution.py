"""Simulate the threads of a launch on a kernel's machine code, and count executed instructions.

All threads are simulated together. Of the basic blocks that threads wait for, the one with the
lowest address runs next; diverged threads converge at BSYNC, as on a GPU. Values in memory are
unknown. :func:`_expected` decides branches that depend on them, and these branches are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.machine_code import control_flow
from bench.machine_code.control_flow import GLOBAL, GLOBAL_STORES, Block, blocks_of, relevant
from bench.machine_code.operands import Reader, is_condition, results_of, width_of
from bench.machine_code.sass import Instruction, Kernel
from bench.machine_code.semantics import semantics_of
from bench.machine_code.values import (
    FALSE,
    TRUE,
    UNKNOWN,
    UNKNOWN_CONDITION,
    Known,
    Value,
    all_known,
    constant,
    select,
    wide,
)

WARP = 32
SECTOR = 32  # bytes
MOST_THREADS = 1 << 14  # most threads that are simulated; of more, a sample of the blocks is
WARPS_OF_A_REQUEST = 32  # number of warps whose sectors are counted for an access
MOST_STEPS = 1 << 20
GONE = -1
# A kernel that reads an unwritten register does not use its value.
UNWRITTEN = constant(0)


@dataclass(frozen=True)
class Launch:
    """Grid, block size and arguments of a launch. ``parameters`` are bytes of the constant bank."""

    grid: tuple[int, int, int]
    threads: int
    parameters: bytes


@dataclass
class Counts:
    """Counts of a launch over all of its blocks."""

    instructions: float = 0.0  # instructions that warps issue
    kinds: Counter[str] = field(default_factory=Counter)
    bytes_by_width: Counter[int] = field(default_factory=Counter)  # bytes of global accesses
    stored: float = 0.0  # bytes
    requests: float = 0.0
    sectors: float = 0.0
    assumed: set[str] = field(default_factory=set)  # branches that depend on values in memory
    unmodelled: set[str] = field(default_factory=set)


def _chosen(blocks: int, threads: int) -> NDArray:
    """Return the blocks to simulate: all, or a random sample of at most MOST_THREADS threads."""
    most = max(1, MOST_THREADS // threads)
    if blocks <= most:
        return np.arange(blocks)
    return np.sort(np.random.default_rng(0).choice(blocks, most, replace=False))


class Machine:
    """The registers and the position of every simulated thread."""

    def __init__(self, kernel: Kernel, launch: Launch) -> None:
        self.kernel, self.counts = kernel, Counts()
        self.blocks = blocks_of(kernel)
        self.block_at = {block.start: i for i, block in enumerate(self.blocks)}
        self.bank = np.zeros(1 << 16, np.uint8)
        gx, gy, gz = launch.grid
        words = self.bank[:24].view(np.uint32)
        words[:6] = (launch.threads, 1, 1, gx, gy, gz)
        start = kernel.parameter_base
        self.bank[start : start + len(launch.parameters)] = np.frombuffer(
            launch.parameters, np.uint8
        )
        chosen = _chosen(gx * gy * gz, launch.threads)
        self.share = len(chosen) / (gx * gy * gz)
        # The last warp of a block is simulated completely.
        warps = -(-launch.threads // WARP)
        thread = np.tile(np.arange(WARP * warps), len(chosen)).astype(np.uint32)
        block = np.repeat(chosen, WARP * warps)
        self.special = {
            "SR_TID.X": Value(thread, True),
            "SR_TID.Y": constant(0),
            "SR_TID.Z": constant(0),
            "SR_LANEID": Value(thread % np.uint32(WARP), True),
            "SR_CTAID.X": Value((block % gx).astype(np.uint32), True),
            "SR_CTAID.Y": Value((block // gx % gy).astype(np.uint32), True),
            "SR_CTAID.Z": Value((block // (gx * gy)).astype(np.uint32), True),
            "SR_CgaCtaId": constant(0),
        }
        self.count = len(thread)
        self.registers: dict[tuple[str, int], Value] = {}
        self.predicates: dict[str, Value] = {}
        # The basic block that a thread executes next; GONE after EXIT.
        self.next_block = np.where(thread < launch.threads, 0, GONE).astype(np.int32)
        self.waits = np.full(self.count, -1, np.int32)  # barrier at which a thread waits, or -1
        self.members: dict[int, NDArray] = {}  # barrier → threads that converge there
        self.visits = np.zeros(len(self.blocks))  # basic block → number of warps that executed it

    # The next methods are the interface for operands.Reader.

    def register(self, kind: str, name: str) -> Value:
        if name == "Z":
            return constant(0)
        return self.registers.get((kind, int(name)), UNWRITTEN)

    def register_pair(self, kind: str, name: str) -> Value:
        if name == "Z":
            return Value(np.zeros(1, np.uint64), True)
        low, high = (self.registers.get((kind, int(name) + i), UNWRITTEN) for i in range(2))
        return wide(low, high)

    def condition(self, operand: str) -> Value:
        name = operand.lstrip("!")
        value = TRUE if name.endswith("T") else self.predicates.get(name, FALSE)
        return Value(~value.bits, value.known) if operand.startswith("!") else value

    def constant(self, bank: str, base: str | None, offset: str | None, size: int) -> Value:
        if int(bank, 16) != 0:
            return UNKNOWN if size < 8 else wide(UNKNOWN, UNKNOWN)
        at = constant(int(offset or "0", 16))
        if base and not base.endswith("Z"):
            kind = base.rstrip("0123456789")
            register = self.register(kind, base[len(kind) :])
            at = Value(at.bits + register.bits, register.known)
        where = (at.bits & np.uint32(0xFFFF)).astype(np.int64)
        bits = np.zeros(where.shape, np.uint64)
        for i in range(min(size, 8)):
            byte = self.bank[np.minimum(where + i, len(self.bank) - 1)]
            bits = bits | byte.astype(np.uint64) << np.uint64(8 * i)
        return Value(bits if size == 8 else bits.astype(np.uint32), at.known)

    def write(self, operand: str, value: Value, mask: Known, offset: int = 0) -> None:
        if operand.lstrip("U")[:2] in ("RZ", "PT"):
            return
        if is_condition(operand):
            old = self.predicates.get(operand, FALSE)
            self.predicates[operand] = select(mask, value, old)
        else:
            kind = operand.rstrip("0123456789")
            key = kind, int(operand[len(kind) :]) + offset
            self.registers[key] = select(mask, value, self.registers.get(key, UNWRITTEN))


Step = Callable[[Machine, Known], None]


def _compute(instruction: Instruction, machine: Machine, mask: Known) -> None:
    """Execute an instruction in the threads of ``mask``."""
    operands, _ = results_of(instruction)
    function = semantics_of(instruction)
    if function is None:
        machine.counts.unmodelled.add(instruction.name)
        values: list[Value] = []
    else:
        values = function(Reader(machine, instruction))
    if instruction.guard:
        guard = machine.condition(instruction.guard)
        mask = _and(mask, guard.bits if guard.known is True else guard.bits & guard.known)
    width = width_of(instruction)
    only_conditions = all(map(is_condition, operands))
    conditions = iter(values if only_conditions else values[width:])
    for operand in operands:
        if is_condition(operand):
            machine.write(operand, next(conditions, UNKNOWN_CONDITION), mask)
            continue
        for i in range(width):
            machine.write(operand, values[i] if i < len(values) else UNKNOWN, mask, i)


def _and(mask: Known, other: NDArray) -> Known:
    return other if mask is True else mask & other


def _address(machine: Machine, operand: str) -> Value:
    """Evaluate an address such as [R2.64+UR4+0x10]."""
    total = Value(np.zeros(1, np.uint64), True)
    for part in operand.strip("[]").replace("+-", "-").replace("-", "+-").split("+"):
        name = part.split(".")[0]
        if not name:
            continue
        if name.startswith(("R", "UR")):
            kind = name.rstrip("0123456789Z")
            if ".64" in part or kind == "UR":
                found = machine.register_pair(kind, name[len(kind) :])
            else:
                word = machine.register(kind, name[len(kind) :])
                found = Value(word.bits.astype(np.uint64), word.known)
        else:
            found = Value(np.array([int(part, 16) % (1 << 64)], np.uint64), True)
        total = Value(total.bits + found.bits, all_known(total, found))
    return total


def _access(instruction: Instruction, machine: Machine, mask: Known) -> None:
    """Count bytes, requests and sectors of an access to global memory."""
    if instruction.guard:
        guard = machine.condition(instruction.guard)
        # A thread whose guard is unknown counts as accessing memory.
        mask = _and(mask, guard.bits | ~np.asarray(guard.known))
    active = np.broadcast_to(np.asarray(mask), machine.count).reshape(-1, WARP)
    warps = np.flatnonzero(active.any(axis=1))
    if not len(warps):
        return
    size, counts = instruction.bytes, machine.counts
    moved = float(active.sum()) * size / machine.share
    counts.bytes_by_width[size] += moved
    if instruction.kind in GLOBAL_STORES:
        counts.stored += moved
    counts.requests += len(warps) / machine.share
    some = warps[:: max(1, len(warps) // WARPS_OF_A_REQUEST)]
    address = _address(machine, control_flow.address_of(instruction))
    if address.known is False:
        counts.unmodelled.add(f"address of {instruction.name}")
    lines = np.broadcast_to(address.bits, machine.count).reshape(-1, WARP)[some]
    lines = np.where(active[some], lines // np.uint64(SECTOR), np.uint64(1) << np.uint64(62))
    sectors = np.sort(lines, axis=1)
    new = (sectors[:, 1:] != sectors[:, :-1]).sum(axis=1) + 1
    new = new - (~active[some]).any(axis=1)
    per_thread = max(1, size // SECTOR)
    counts.sectors += float(new.mean()) * per_thread * len(warps) / machine.share


def _expected(machine: Machine, instruction: Instruction, index: int) -> bool:
    """Decide a branch on unknown values: avoid a side that calls a slow path, else fall through."""

    def calls(at: int) -> bool:
        for x in machine.kernel.instructions[at : at + 24]:
            if x.kind == "CALL":
                return True
            if x.kind in ("BRA", "RET", "EXIT", "BSYNC"):
                return False
        return False

    target = machine.kernel.labels.get(instruction.target, 0)
    straight, there = calls(index + 1), calls(target)
    if straight == there:
        machine.counts.assumed.add(f"{instruction.address:#x}")
    return straight and not there


class Program:
    """The steps of each block of a kernel; only values for branches and addresses are computed."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.blocks = blocks_of(kernel)
        needed = relevant(kernel, self.blocks)
        self.steps: list[list[Step]] = []
        for block in self.blocks:
            steps: list[Step] = []
            for i in range(block.start, block.end):
                instruction = kernel.instructions[i]
                if instruction.kind in GLOBAL:
                    steps.append(partial(_access, instruction))
                    for operand in results_of(instruction)[0] if i in needed else ():
                        steps.append(partial(_forget, operand, width_of(instruction)))
                elif i in needed:
                    steps.append(partial(_compute, instruction))
                elif instruction.kind == "BSSY":
                    steps.append(partial(_gather, instruction))
            self.steps.append(steps)

    def run(self, launch: Launch) -> Counts:
        machine = Machine(self.kernel, launch)
        for _ in range(MOST_STEPS):
            ready = (machine.next_block >= 0) & (machine.waits < 0)
            if not ready.any():
                break
            at = int(machine.next_block[ready].min())
            here = ready & (machine.next_block == at)
            mask: Known = True if here.all() else here
            machine.visits[at] += here.reshape(-1, WARP).any(axis=1).sum()
            for step in self.steps[at]:
                step(machine, mask)
            _leave(machine, self.blocks[at], here)
        else:
            raise RuntimeError(f"{self.kernel.name} does not end")
        return self._count(machine)

    def _count(self, machine: Machine) -> Counts:
        counts = machine.counts
        for block, visits in zip(self.blocks, machine.visits / machine.share, strict=True):
            for instruction in self.kernel.instructions[block.start : block.end]:
                counts.kinds[instruction.kind] += visits
            counts.instructions += visits * (block.end - block.start)
        return counts


def _forget(operand: str, width: int, machine: Machine, mask: Known) -> None:
    unknown = UNKNOWN_CONDITION if is_condition(operand) else UNKNOWN
    for i in range(1 if is_condition(operand) else width):
        machine.write(operand, unknown, mask, i)


def _gather(instruction: Instruction, machine: Machine, mask: Known) -> None:
    """BSSY: register the threads that execute it as members of the barrier."""
    barrier = int(instruction.operands[0].lstrip("B"))
    here = np.broadcast_to(np.asarray(mask), machine.count)
    here = here & (machine.next_block >= 0)
    warps = np.repeat(here.reshape(-1, WARP).any(axis=1), WARP)
    old = machine.members.get(barrier, np.zeros(machine.count, np.bool_))
    machine.members[barrier] = np.where(warps, here, old)


def _release(machine: Machine) -> None:
    """Release threads from barriers that all remaining members have reached."""
    for barrier, members in machine.members.items():
        held = machine.waits == barrier
        if not held.any():
            continue
        missing = members & ~held & (machine.next_block >= 0)
        free = held & ~np.repeat(missing.reshape(-1, WARP).any(axis=1), WARP)
        machine.waits[free] = -1


def _leave(machine: Machine, block: Block, here: NDArray) -> None:
    """Move the threads of ``here`` from the end of a block to their next block."""
    index = block.end - 1
    instruction = machine.kernel.instructions[index]
    after = machine.block_at.get(block.end, GONE)
    kind = instruction.kind
    if kind == "BSYNC":
        barrier = int(instruction.operands[0].lstrip("B"))
        machine.next_block[here] = after
        machine.waits[here] = barrier
        _release(machine)
        return
    if kind not in control_flow.ENDS:
        machine.next_block[here] = after
        return
    condition = TRUE
    for operand in (instruction.guard, *instruction.operands):
        if operand and is_condition(operand):
            other = machine.condition(operand)
            condition = Value(condition.bits & other.bits, all_known(condition, other))
    known = np.broadcast_to(np.asarray(condition.known), machine.count)
    taken = np.broadcast_to(condition.bits, machine.count)
    if not known[here].all():
        taken = np.where(known, taken, _expected(machine, instruction, index))
    taken = here & taken
    machine.next_block[here] = after
    if kind == "BREAK":
        barrier = int(next(x for x in instruction.operands if x.startswith("B")).lstrip("B"))
        members = machine.members.get(barrier, np.zeros(machine.count, np.bool_))
        machine.members[barrier] = members & ~taken
        _release(machine)
    elif kind in ("EXIT", "KILL"):
        machine.next_block[taken] = GONE
        _release(machine)
    elif kind in ("BRA", "CALL"):
        to = machine.kernel.labels[instruction.target]
        machine.next_block[taken] = machine.block_at[to]
    elif kind == "RET":
        back = machine.register("R", instruction.operands[0].lstrip("R").split(" ")[0])
        machine.next_block[taken] = _block_with_address(machine, back, taken)
    else:
        raise RuntimeError(f"{machine.kernel.name}: {instruction.name} cannot be followed")


def _block_with_address(machine: Machine, address: Value, taken: NDArray) -> NDArray:
    blocks = {machine.kernel.instructions[x.start].address: i for i, x in enumerate(machine.blocks)}
    values = np.broadcast_to(address.bits, machine.count)[taken]
    return np.array([blocks[int(x)] for x in values], np.int32)


def run(kernel: Kernel, launches: Sequence[Launch]) -> list[Counts]:
    program = Program(kernel)
    return [program.run(launch) for launch in launches]
