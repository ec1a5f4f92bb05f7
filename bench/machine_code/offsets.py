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
LOCATION = re.compile(r" loc\(.*\)$")
CARRIED = re.compile(r"(%\w+) = (%[\w#-]+)")
DEFINITION = re.compile(r"\s*(%[\w-]+)(?::\d+)? = (\S+) ?(.*)")


def narrow_products(ttir: str) -> list[str]:
    """Return the 32-bit ``arith.muli`` that reach an address without being widened."""
    made = _definitions(ttir)
    given: set[str] = set()  # the kernel's arguments
    for line in ttir.splitlines():
        if "tt.func" in line:
            given.update(ARGUMENT.findall(line))
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


def _definitions(ttir: str) -> dict[str, tuple[str, str]]:
    """Return operation and operands by result.

    A value that a loop carries, or that a branch yields, is made of all that it may be.
    """
    made: dict[str, tuple[str, str]] = {}
    blocks: list[tuple[str, list[tuple[str, str]]]] = []  # result and carried values of each
    for line in ttir.splitlines():
        code = LOCATION.sub("", line).strip()
        found = DEFINITION.match(code)
        if found:
            made[found.group(1)] = (found.group(2), found.group(3))
        if code.startswith("}"):
            left = blocks.pop()
            if code.endswith("{"):  # else
                blocks.append(left)
        elif code.startswith("scf.yield"):
            result, carried = blocks[-1]
            values = NAME.findall(code.split(" : ")[0])
            for i, value in enumerate(values):
                for name in (result, f"{result}#{i}"):
                    kind, operands = made.get(name, ("yielded", ""))
                    made[name] = (kind, f"{operands} {value}")
            for (name, start), value in zip(carried, values, strict=False):
                made[name] = ("carried", f"{start} {value}")
        elif code.endswith("{"):
            carried = CARRIED.findall(code.split("iter_args(")[1]) if "iter_args(" in code else []
            blocks.append((found.group(1) if found else "", carried))
    return made


def _origin(name: str, made: dict[str, tuple[str, str]]) -> str:
    """Return the scalar that a tensor repeats, or the name itself."""
    while made.get(name, ("", ""))[0] in ("tt.splat", "tt.broadcast", "tt.expand_dims"):
        name = NAME.findall(made[name][1])[0]
    return name


def _is_constant(name: str, made: dict[str, tuple[str, str]]) -> bool:
    return made.get(name, ("", ""))[0] == "arith.constant"
