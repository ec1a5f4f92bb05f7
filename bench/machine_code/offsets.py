"""Find addresses that a kernel computes with 32-bit products, in Triton's intermediate code.

A product of two run-time values, such as a row and a stride, can exceed 2**31 for large images, and
so can a product of two strides. Products that are widened before the sum (``arith.extsi``) are
coordinates and counts, not offsets in memory. So are constants times values that the kernel
computes, such as its first column.
"""

from __future__ import annotations

import re

NAME = re.compile(r"%[\w#-]+")
ARGUMENT = re.compile(r"(%\w+): i32")
DEFINITION = re.compile(r"\s*(%[\w-]+)(?::\d+)? = (\S+) ?(.*)")


def narrow_products(ttir: str) -> list[str]:
    """Return the 32-bit ``arith.muli`` that reach an address without being widened."""
    made: dict[str, tuple[str, str]] = {}
    given: set[str] = set()  # the kernel's arguments
    for line in ttir.splitlines():
        if "tt.func" in line:
            given.update(ARGUMENT.findall(line))
        elif found := DEFINITION.match(line):
            made[found.group(1)] = (found.group(2), found.group(3).split(" loc(")[0])
    bad = []
    for operation, rest in list(made.values()):
        if operation != "tt.addptr":
            continue
        pending, seen = [NAME.findall(rest)[1]], set()
        while pending:
            name = pending.pop()
            if name in seen or name not in made:
                continue
            seen.add(name)
            kind, arguments = made[name]
            operands = NAME.findall(arguments)
            if kind in ("arith.extsi", "arith.extui", "tt.load"):
                continue
            if kind == "arith.muli" and "i64" not in arguments:
                factors = {_origin(x, made) for x in operands}
                if factors & given or not any(_is_constant(x, made) for x in factors):
                    bad.append(f"{name} = {kind} {arguments}")
            pending += operands
    return sorted(set(bad))


def _origin(name: str, made: dict[str, tuple[str, str]]) -> str:
    """Return the scalar that a tensor repeats, or the name itself."""
    while made.get(name, ("", ""))[0] in ("tt.splat", "tt.broadcast", "tt.expand_dims"):
        name = NAME.findall(made[name][1])[0]
    return name


def _is_constant(name: str, made: dict[str, tuple[str, str]]) -> bool:
    return made.get(name, ("", ""))[0] == "arith.constant"
