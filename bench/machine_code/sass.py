"""Read a compiled kernel from its cubin: instructions, parameters and resources.

Triton's package carries the disassembler, so neither a CUDA toolkit nor a GPU is needed.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

WIDTHS = re.compile(r"\.(?:[US])?(8|16|32|64|128)\b")
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
LABEL = re.compile(r"^(\.L_x_\d+|\$[\w$.]+):")
TARGET = re.compile(r"`\((\.L_x_\d+|\$[\w$.]+)\)")
# Attributes of the section .nv.info of a kernel.
PARAMETER_BANK, PARAMETER = 0x0A, 0x17


def _tool(name: str, *arguments: str, folder: str | None = None) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    command = str(path) if path.exists() else shutil.which(name) or name
    done = subprocess.run(
        [command, *arguments], check=True, capture_output=True, text=True, cwd=folder
    )
    return done.stdout


@dataclass(frozen=True)
class Instruction:
    address: int
    guard: str  # predicate of the instruction, such as "!P0"; empty if there is none
    name: str  # name with modifiers, such as "LDG.E.128"
    operands: tuple[str, ...]
    target: str  # label of a branch or call

    @property
    def kind(self) -> str:
        return self.name.split(".")[0]

    @cached_property
    def modifiers(self) -> tuple[str, ...]:
        return tuple(self.name.split(".")[1:])

    @property
    def bytes(self) -> int:
        """Return the bytes that a memory access moves for each thread."""
        found = WIDTHS.search(self.name)
        return int(found.group(1)) // 8 if found else 4


@dataclass
class Kernel:
    """The code of one kernel; ``labels`` hold indices of instructions."""

    name: str
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    parameter_base: int = 0  # offset of the parameters in constant bank 0
    parameters: list[tuple[int, int]] = field(default_factory=list)  # (offset, bytes)
    resources: dict[str, int] = field(default_factory=dict)


def _split(operands: str) -> tuple[str, ...]:
    """Split operands at commas; the disassembler writes no commas inside brackets."""
    return tuple(x.strip().replace(".reuse", "") for x in operands.split(",") if x.strip())


def parse(sass: str) -> dict[str, Kernel]:
    """Return name → kernel for a listing of nvdisasm."""
    kernels: dict[str, Kernel] = {}
    kernel: Kernel | None = None
    for line in sass.splitlines():
        if line.startswith(".text."):
            name = line.removeprefix(".text.").rstrip(":")
            kernel = kernels[name] = Kernel(name)
        elif kernel is None:
            continue
        elif label := LABEL.match(line):
            kernel.labels[label.group(1)] = len(kernel.instructions)
        elif found := INSTRUCTION.search(line):
            address, guard, operation, operands = found.groups()
            target = TARGET.search(operands)
            kernel.instructions.append(
                Instruction(
                    int(address, 16),
                    guard or "",
                    operation,
                    _split(operands),
                    target.group(1) if target else "",
                )
            )
    return kernels


def _sections(elf: bytes) -> Iterator[tuple[str, bytes]]:
    table, size, count, names_at = (
        *struct.unpack_from("<Q", elf, 0x28),
        *struct.unpack_from("<HHH", elf, 0x3A),
    )
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    names = elf[headers[names_at][4] :]
    for name, _, _, _, offset, length in headers:
        yield names[name : names.index(b"\0", name)].decode(), elf[offset : offset + length]


def _attributes(info: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if (
            form == 4
        ):  # the value follows, ``size`` bytes long; in other forms ``size`` is the value
            yield attribute, info[at : at + size]
            at += size


def _add_parameters(elf: bytes, kernels: dict[str, Kernel]) -> None:
    for section, content in _sections(elf):
        kernel = kernels.get(section.removeprefix(".nv.info."))
        if kernel is None:
            continue
        for attribute, value in _attributes(content):
            if attribute == PARAMETER_BANK:
                kernel.parameter_base = struct.unpack_from("<H", value, 4)[0]
            elif attribute == PARAMETER:
                ordinal, offset, packed = struct.unpack_from("<HHI", value, 4)
                kernel.parameters.append((offset, packed >> 18))
        kernel.parameters.sort()


def cubin_of(object_file: Path) -> bytes:
    """Return the machine code in an object file that nvcc has compiled for one architecture."""
    with tempfile.TemporaryDirectory() as folder:
        _tool("cuobjdump", "-xelf", "all", str(object_file.resolve()), folder=folder)
        (cubin,) = Path(folder).glob("*.cubin")
        return cubin.read_bytes()


def names_of(cubin: bytes) -> list[str]:
    """Return the mangled names of the kernels of a cubin."""
    prefix = ".text."
    return [x.removeprefix(prefix) for x, _ in _sections(cubin) if x.startswith(prefix)]


def kernels_of(cubin: bytes) -> dict[str, Kernel]:
    """Return mangled name → kernel for a cubin."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        kernels = parse(_tool("nvdisasm", "-c", str(path)))
        usage = _tool("cuobjdump", "--dump-resource-usage", str(path))
    _add_parameters(cubin, kernels)
    for name, resources in re.findall(r"Function ([\w$.]+):\s*\n([^\n]*)", usage):
        if name in kernels:
            found = re.findall(r"\b([A-Z]+):(\d+)", resources)
            kernels[name].resources = {key: int(value) for key, value in found}
    return kernels


def spills(kernel: Kernel) -> int:
    """Return the number of instructions that access local memory."""
    return sum(x.kind in ("LDL", "STL") for x in kernel.instructions)
