"""Tests of the Triton kernels: on a GPU where there is one, else by Triton's interpreter.

The interpreter must be chosen before the kernels are imported, so it has a process of its own:
``TRITON_INTERPRET=1 pytest tests/kernels``, which tests/test_interpreter.py starts. It is slow: use
images of a few hundred pixels. Tests put their tensors on ``device`` and so serve both.
"""

from __future__ import annotations

import pytest
import torch

from fastmef import backends

HERE = backends.INTERPRETED or torch.cuda.is_available()
collect_ignore_glob = [] if HERE and not backends.WHY_NO_TRITON else ["test_*.py"]


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if backends.INTERPRETED else "cuda")
