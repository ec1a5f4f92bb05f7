"""Collect the errors of libtiff, which it prints while Pillow decodes and may continue."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image

_collected = threading.local()


@contextmanager
def collect_errors() -> Iterator[list[str]]:
    """Collect the errors that libtiff reports in this thread, instead of printing them.

    The list stays empty if Pillow hides its libtiff, as it does on Windows.
    """
    _install()
    errors: list[str] = []
    _collected.errors = errors
    try:
        yield errors
    finally:
        del _collected.errors


@cache
def _install() -> Any:
    """Install an error handler. Errors that other code causes go to the handler before it."""
    try:
        # The loader looks up symbols in a library and in the libraries that it is linked to.
        library = ctypes.CDLL(Image.core.__file__)
        set_handler = library.TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    # The third argument is a va_list, which the calling conventions pass as one pointer.
    handler_type = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)
    set_handler.restype = ctypes.c_void_p
    set_handler.argtypes = [ctypes.c_void_p]
    previous: list[Any] = []

    def handle(module: bytes | None, form: int, arguments: int) -> None:
        errors = getattr(_collected, "errors", None)
        if errors is not None:
            errors.append((module or b"libtiff").decode(errors="replace"))
        elif previous:
            previous[0](module, form, arguments)

    handler = handler_type(handle)
    before = set_handler(ctypes.cast(handler, ctypes.c_void_p))
    if before:
        previous.append(handler_type(before))
    return handler  # kept alive by the cache
