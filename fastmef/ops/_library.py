"""Registration with ``torch.library``: to ``torch.compile`` an operation is one opaque call."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from fastmef import backends

LIBRARY = torch.library.Library("fastmef", "DEF")


def register(
    schema: str,
    fake: Callable[..., Any],
    cpp: Callable[..., Any] | None = None,
    triton: Callable[..., Any] | None = None,
    cuda: Callable[..., Any] | None = None,
    cuda_fits: Callable[..., bool] | None = None,
) -> Callable[..., Any]:
    """Defines ``fastmef::<schema>``; ``fake`` makes outputs without values.

    ``cpp`` and ``triton`` are the implementations for CPU and CUDA tensors. Under Triton's
    interpreter ``triton`` runs on the CPU. Where ``cuda_fits`` says so of the op's arguments
    ``cuda`` goes before ``triton``.
    """
    name = schema.split("(")[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    cpu = triton if backends.INTERPRETED else cpp
    if cpu is not None:
        LIBRARY.impl(name, cpu, "CPU")
    gpu = triton
    if cuda is not None and cuda_fits is not None:
        gpu = _first_that_fits(cuda, cuda_fits, triton or cuda)
    if gpu is not None:
        LIBRARY.impl(name, gpu, "CUDA")
    torch.library.register_fake(f"fastmef::{name}", fake, lib=LIBRARY)
    return getattr(torch.ops.fastmef, name).default


def _first_that_fits(
    cuda: Callable[..., Any], fits: Callable[..., bool], triton: Callable[..., Any]
) -> Callable[..., Any]:
    def serve(*args: Any, **options: Any) -> Any:
        chosen = cuda if fits(*args, **options) else triton
        return chosen(*args, **options)

    return serve


def triton_launcher(module: str, name: str) -> Callable[..., Any]:
    """``fastmef.kernels.<module>.<name>``, imported on the first call: Triton takes a while."""

    def launch(*args: Any) -> Any:
        return getattr(importlib.import_module(f"fastmef.kernels.{module}"), name)(*args)

    return launch
