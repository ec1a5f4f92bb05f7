"""Registration with ``torch.library``: to ``torch.compile`` an operation is one opaque call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("fastmef", "DEF")


def register(schema: str, cpu: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Defines ``fastmef::<schema>`` with its CPU kernel; ``fake`` makes outputs without values."""
    name = schema.split("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, cpu, "CPU")
    torch.library.register_fake(f"fastmef::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.fastmef, name).default
