"""The error for a fault inside a file, before the file is named."""

from __future__ import annotations


class Fault(ValueError):
    """What is wrong with a file's content, in words that follow its name and a colon."""


def damaged(what: str) -> Fault:
    return Fault(f"damaged: {what}")
