"""The errors a caller can expect. Each message is one line: what was got, and what is allowed."""

from __future__ import annotations


class FastmefError(Exception):
    """Base of every error raised on purpose; the command line prints it and exits with 2."""


class InputError(FastmefError, ValueError):
    """An argument, tensor, file or folder that the operation cannot accept."""


class OutputError(FastmefError, OSError):
    """A result that could not be written; nothing half-written is left behind."""


class DivergenceError(FastmefError, ArithmeticError):
    """A training whose loss or weights are no longer finite; no such weights are saved."""


class MissingExtraError(FastmefError, ImportError):
    """An optional package that the requested feature needs is not installed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, NumPy or PyTorch means that memory is used up."""
    # PyTorch has an error of its own for the GPU, and only a text for main memory.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, type(None))


def shown(value: object) -> str:
    """Return what was got, for a message: on one line and short, tensors by their type."""
    if not isinstance(value, _PLAIN):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 100 and text.isprintable() else f"a {type(value).__name__}"
