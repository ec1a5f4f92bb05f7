"""Raise faults where they are found inside a file, and report them with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastmef.errors import FastmefError, InputError


class Fault(ValueError):
    """A fault of a file's content. The message completes ``"<name>: "``."""


def damaged(what: str) -> Fault:
    """Return the fault of a damaged file."""
    return Fault(f"damaged: {what}")


@contextmanager
def report_faults(name: str) -> Iterator[None]:
    """Turn any error of a decoder into an :class:`InputError` that names the file."""
    try:
        yield
    except Fault as fault:
        raise InputError(f"{name}: {fault}") from fault
    except (FastmefError, MemoryError):
        raise
    except Exception as error:  # decoders report damage by errors of every type
        raise InputError(f"{name}: damaged, or of an unsupported kind") from error
