"""The errors that fastmef raises. Each message is one line: what was got, and what is allowed."""

from __future__ import annotations


class FastmefError(Exception):
    """Base of every error raised on purpose; the command line prints it and exits with 2."""


class InputError(FastmefError, ValueError):
    """An argument, tensor, file or folder that the operation cannot accept."""


class OutputError(FastmefError, OSError):
    """A result could not be written; no half-written file is left behind."""


class DivergenceError(FastmefError, ArithmeticError):
    """Training produced a loss or weights that are not finite; no such weights are saved."""


class MissingExtraError(FastmefError, ImportError):
    """An optional package that the requested feature needs is not installed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, NumPy or PyTorch means that memory is used up."""
    # PyTorch raises OutOfMemoryError for a GPU, but a RuntimeError with this text on the CPU.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, type(None))


def shown(value: object) -> str:
    """Format a value for a message: its repr if that is short and printable, else its type."""
    if not isinstance(value, _PLAIN):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 100 and text.isprintable() else f"a {type(value).__name__}"
