"""Calls of C++ kernels that are checked once and repeated while the values of tensors change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Prepared(NamedTuple):
    """A call of a C++ kernel with the addresses of fixed tensors.

    For a small image, checks and allocations of a call take as long as the kernel.
    """

    call: Callable[[], Any]
    """Reads the inputs as they are now and fills the results."""
    inputs: Sequence[Tensor | None]
    """Contiguous tensors that must live as long as the call."""
    results: tuple[Tensor, ...]
