r"""Translate the Sphinx roles of the docstrings into Markdown, which mkdocstrings renders.

``:func:``, ``:class:`` and ``:meth:`` become links; ``:math:`` with its directive and simple tables
are translated too. The docstrings keep roles because ``help()`` and editors know them.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from importlib.util import find_spec

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod):`~?([\w.]+)`", re.S)
INLINE_MATH = re.compile(r":math:`([^`]+)`", re.S)
DISPLAY_MATH = re.compile(r"^( *)\.\. math::(.*\n(?:(?:\1 +\S.*)?\n)*)", re.M)
TABLE = re.compile(r"^( *)(=+ +=+)\n(.*?)\n\1\2\n", re.M | re.S)
EXAMPLE = re.compile(r"^Example:$", re.M)  # the parser knows the plural only
DOUBLE_BACKTICKS = re.compile(r"``([^`]+)``")
LOGGER = griffe.get_logger(__name__)


def exists(package: griffe.Module, path: str) -> bool:
    """Return whether ``fastmef.…`` is the path of an object of the package."""
    try:
        package[path.removeprefix("fastmef.")]
    except (KeyError, griffe.AliasResolutionError):
        return False
    return True


def translate(text: str, obj: griffe.Object) -> str:
    """Return the docstring of ``obj`` in Markdown."""

    def display(match: re.Match[str]) -> str:
        indent, formula = match[1], textwrap.dedent(match[2]).strip()
        lines = ["", r"\[", *(line.strip() for line in formula.splitlines()), r"\]", "", ""]
        return "\n".join(indent + line if line else line for line in lines)

    def link(match: re.Match[str]) -> str:
        path = name = match[1]
        if not name.startswith("fastmef."):
            with contextlib.suppress(griffe.NameResolutionError):
                first, *attributes = name.split(".")
                path = ".".join([obj.resolve(first), *attributes])
        if path == name and not name.startswith("fastmef.") and find_spec(name.split(".")[0]):
            return f"`{name}`"  # another package
        if not exists(obj.package, path):
            LOGGER.warning("%s refers to %s, which does not exist", obj.path, name)
        # An object without an entry of its own is shown without a link.
        shown = name.removeprefix("fastmef.")
        return f'<autoref identifier="{path}" optional>`{shown}`</autoref>'

    def table(match: re.Match[str]) -> str:
        indent, column = match[1], match[2].rindex(" ") + 1
        rows: list[list[str]] = []
        for line in textwrap.dedent(match[3]).splitlines():
            first, second = line[:column].strip(), line[column:].strip()
            if first:
                rows.append([first, second])
            else:
                rows[-1][1] += " " + second
        lines = ["| | |", "|---|---|", *(f"| {first} | {second} |" for first, second in rows)]
        return "\n".join(indent + line for line in lines) + "\n"

    text = TABLE.sub(table, text + "\n")
    text = DISPLAY_MATH.sub(display, text)
    text = INLINE_MATH.sub(lambda match: rf"\({' '.join(match[1].split())}\)", text)
    text = ROLE.sub(link, text)
    text = EXAMPLE.sub("Examples:", text)
    return DOUBLE_BACKTICKS.sub(r"`\1`", text).strip()


class Roles(griffe.Extension):
    """Translate all docstrings after their package is loaded, so that names can be resolved."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        self._visit(pkg, set())

    def _visit(self, obj: griffe.Object, seen: set[str]) -> None:
        if obj.path in seen:
            return
        seen.add(obj.path)
        if obj.docstring is not None:
            obj.docstring.value = translate(obj.docstring.value, obj)
        for member in obj.members.values():
            if not member.is_alias:
                self._visit(member, seen)  # type: ignore[arg-type]
