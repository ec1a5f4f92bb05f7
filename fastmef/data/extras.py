"""Import optional packages, which extras install."""

from __future__ import annotations

import importlib
from typing import Any

from fastmef.errors import MissingExtraError


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra.

    Args:
        module: name of the module.
        extra: name of the extra that installs it.
        purpose: what needs the module, for the message.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}: pip install 'fastmef[{extra}]'"
        ) from error
