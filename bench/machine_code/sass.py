"""What a compiled kernel uses and executes, read from its cubin with Triton's own tools."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

BITS = re.compile(r"\.(?:[US])?(8|16|32|64|128)\b")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")
LABEL = re.compile(r"^(\.L_x_\d+):")


def _tool(name: str, *arguments: str) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run(
        [str(path), *arguments], check=True, capture_output=True, text=True
    ).stdout


def resources(cubin: Path) -> dict[str, int]:
    """``REG``, ``STACK``, ``SHARED``, ``LOCAL`` of the kernel."""
    usage = _tool("cuobjdump", "--dump-resource-usage", str(cubin))
    return {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", usage)}


def disassemble(cubin: Path) -> str:
    return _tool("nvdisasm", "-c", str(cubin))


def _hot(sass: str) -> tuple[list[str], list[str]]:
    """All instructions, and those of the longest loop that holds no other loop (else all)."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in sass.splitlines():
        if label := LABEL.match(line):
            labels[label.group(1)] = len(instructions)
        elif found := INSTRUCTION.search(line):
            instructions.append(found.group(1))
            to = re.search(r"\.L_x_\d+", found.group(2))
            # A kernel ends in a branch to itself.
            if found.group(1).startswith("BRA") and to and to.group() in labels:
                start = labels[to.group()]
                if start < len(instructions) - 1:
                    loops.append((start, len(instructions)))
    inner = [
        (a, b)
        for a, b in loops
        if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in loops)
    ]
    start, end = max(inner, key=lambda x: x[1] - x[0], default=(0, len(instructions)))
    return instructions, instructions[start:end]


def _bytes(instruction: str) -> float:
    bits = BITS.search(instruction)
    return int(bits.group(1)) / 8 if bits else 4


def counts(sass: str) -> dict[str, float]:
    """Per thread: all instructions; of the main loop bytes loaded and stored, and arithmetic."""
    everything, hot = _hot(sass)
    kinds = Counter(x.split(".")[0] for x in hot)
    return {
        "instructions": len(everything),
        "hot": len(hot),
        "loaded": sum(_bytes(x) for x in hot if x.startswith("LDG")),
        "stored": sum(_bytes(x) for x in hot if x.startswith("STG")),
        "fma": kinds["FFMA"] + kinds["FADD"] + kinds["FMUL"] + 2 * kinds["FFMA2"],
        "spills": sum(x.split(".")[0] in ("LDL", "STL") for x in everything),
    }
