"""Faults inside a file: how they are raised where they are found, and how they name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastmef.errors import FastmefError, InputError


class Fault(ValueError):
    """What is wrong with a file's content, in words that follow its name and a colon."""


def damaged(what: str) -> Fault:
    """Return the fault of a damaged file."""
    return Fault(f"damaged: {what}")


@contextmanager
def report_faults(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one :class:`InputError` that names the file."""
    try:
        yield
    except Fault as fault:
        raise InputError(f"{name}: {fault}") from fault
    except (FastmefError, MemoryError):
        raise
    except Exception as error:  # decoders report damage by errors of every type
        raise InputError(f"{name}: damaged, or of an unsupported kind") from error
