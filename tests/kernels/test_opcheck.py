"""What the registered operations promise the compiler, of Triton's kernels."""

from __future__ import annotations

import opchecks
import pytest
import torch


@pytest.mark.parametrize("name", opchecks.REGISTERED)
def test_opcheck(name: str, device: torch.device) -> None:
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"fastmef::{name}", device.type.upper()):
        pytest.skip("no Triton kernel")
    tests = ("test_schema", "test_faketensor")
    for arguments in opchecks.calls(device)[name]:
        op = getattr(torch.ops.fastmef, name).default
        torch.library.opcheck(op, arguments, test_utils=tests)
