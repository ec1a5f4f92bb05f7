"""Packages that are installed on request only."""

from __future__ import annotations

import importlib
from typing import Any

from fastmef.errors import MissingExtraError


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra; ``purpose`` says what needs it, for the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}: pip install 'fastmef[{extra}]'"
        ) from error
