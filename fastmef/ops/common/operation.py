"""The declaration of an operation, :class:`Operation`.

The record says which dtypes and cases the kernels of each backend handle. All other code reads it:
the choice of a backend in :mod:`fastmef.ops`, the dispatch among GPU kernels inside a registered
operation, :func:`fastmef.show_config`, and the list of operations for ``opcheck``.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

from fastmef import backends
from fastmef.ops.common.transforms import call_each, called_eagerly, kernels_suffice

LIBRARY = torch.library.Library("fastmef", "DEF")
OPERATIONS: dict[str, Operation] = {}

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
STORED = (torch.uint8, torch.uint16, *FLOATS)
# On a GPU, float64 falls back to the reference.
GPU_FLOATS, GPU_STORED = FLOATS[:-1], STORED[:-1]

_SCHEMA_TYPES = {
    **{bool: "bool", int: "int", str: "str", float: "float", float | None: "float?"},
    float | Tensor: "float",  # only the reference takes tensors
}


class RefusedError(RuntimeError):
    """A registered operation was called directly with tensors that do not fit each other."""


class LaunchError(RuntimeError):
    """No kernel of a registered operation could be started for these tensors."""


def any_case(*tensors: Tensor | None, **limits: Any) -> bool:
    """Accept every case."""
    return True


class Support(NamedTuple):
    """The dtypes and cases that the kernels of one backend handle.

    ``covers`` takes the tensors and keyword arguments of :meth:`Operation.backend`.
    """

    dtypes: tuple[torch.dtype, ...]
    covers: Callable[..., bool] = any_case


def every_tensor(*arguments: Any, **options: Any) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Return all tensors and no options, for operations whose backend depends on tensors only."""
    return tuple(x for x in arguments if isinstance(x, Tensor)), {}


class Operation:
    """A public operation: what each backend supports, and the registered operations behind it."""

    def __init__(self, name: str, *, in_transforms: bool = False, **support: Support) -> None:
        """Declare the support of the backends ``cpp``, ``cuda`` and ``triton``.

        ``in_transforms`` says that kernels also run under transforms of ``torch.func``. Every
        ``autograd.Function`` of the operation must then be a
        :class:`~fastmef.ops.common.transforms.Function`.
        """
        self.name, self.in_transforms, self.support = name, in_transforms, support
        self.kernels: dict[str, dict[str, Callable[..., Any]]] = {}
        """The functions of each backend, for each registered operation."""
        OPERATIONS[name] = self

    def backends(self, *tensors: Tensor | None, **limits: Any) -> Iterator[str]:
        """Yield the backends whose kernels can run this case, the preferred one first."""
        given = [x for x in tensors if x is not None]
        devices, dtypes = {x.device for x in given}, {x.dtype for x in given}
        if len(devices) != 1 and len({x.type for x in devices}) != 1:
            return
        if backends.transforms_active() and not (self.in_transforms and kernels_suffice(given)):
            return
        for backend in backends.usable_on(devices.pop()):
            support = self.support.get(backend)
            if support is None or (backend, self.name) in backends.FAILED:
                continue
            if dtypes.issubset(support.dtypes) and support.covers(*tensors, **limits):
                yield backend

    def backend(self, *tensors: Tensor | None, **limits: Any) -> str:
        """Return the backend that runs this case, the reference if no kernel handles it."""
        for backend in self.backends(*tensors, **limits):
            return backend
        return backends.REFERENCE

    def has_kernels_for(self, *tensors: Tensor | None, **limits: Any) -> bool:
        return self.backend(*tensors, **limits) != backends.REFERENCE

    def register(
        self,
        schema: str,
        fake: Callable[..., Any],
        case: Callable[..., tuple[tuple[Tensor | None, ...], dict[str, Any]]] = every_tensor,
        **kernels: Callable[..., Any],
    ) -> Callable[..., Any]:
        """Define ``fastmef::<schema>``, which ``torch.compile`` sees as one opaque call.

        ``fake`` allocates the outputs. ``kernels`` holds one function for each backend, all with
        the arguments of the schema; ``case`` maps these to the arguments of :meth:`backend`. Under
        Triton's interpreter the Triton kernels run on CPU tensors.
        """
        name = schema.split("(")[0]
        self.kernels[name] = kernels
        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        on_cpu = kernels.get(backends.TRITON if backends.INTERPRETED else backends.CPP)
        if on_cpu is not None:
            LIBRARY.impl(name, on_cpu, "CPU")
        if backends.TRITON in kernels or backends.CUDA in kernels:
            LIBRARY.impl(name, self.dispatcher(name, kernels, case), "CUDA")
        torch.library.register_fake(f"fastmef::{name}", fake, lib=LIBRARY)
        registered = getattr(torch.ops.fastmef, name).default
        if self.in_transforms:
            rule = partial(call_each, registered)
            torch.library.register_vmap(f"fastmef::{name}", rule, lib=LIBRARY)
        return registered

    def dispatcher(
        self, name: str, kernels: dict[str, Callable[..., Any]], case: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Return a function that runs the first kernel that handles the case and can be started."""

        def run(*arguments: Any, **options: Any) -> Any:
            tensors, limits = case(*arguments, **options)
            for backend in self.backends(*tensors, **limits):
                try:
                    return self.start(backend, kernels[backend], *arguments, **options)
                except LaunchError:
                    continue
            raise LaunchError(
                f"fastmef: no GPU kernel of {name} could be started for these tensors"
            )

        return run

    def eager(self, name: str) -> Callable[..., Any]:
        """Return a function that calls a registered operation; its first argument is the backend.

        The backend is the one that was chosen for these tensors. In an eager call its GPU kernels
        are started at once: PyTorch's dispatcher and a second choice take the host longer than the
        launch.
        """
        registered = getattr(torch.ops.fastmef, name).default
        kernels = self.kernels[name]

        def run(backend: str, *arguments: Any) -> Any:
            starts = backend in backends.ON_GPU and not backends.INTERPRETED
            if starts and called_eagerly(arguments) and (backend, self.name) not in backends.FAILED:
                try:
                    return self.start(backend, kernels[backend], *arguments)
                except LaunchError:
                    pass
            return registered(*arguments)

        return run

    def start(self, backend: str, kernel: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """Run a kernel; where it does not start, :meth:`give_up` and raise a ``LaunchError``."""
        try:
            return kernel(*given, **options)
        except (RefusedError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self.give_up(backend, error)
            raise LaunchError(f"fastmef: {backend} kernels of {self.name} failed") from error

    def give_up(self, backend: str, error: Exception) -> None:
        """Warn that ``backend`` failed, and do not use it again for this operation."""
        reason = " ".join(str(error).split()) or repr(error)
        backends.FAILED[backend, self.name] = reason
        warnings.warn(
            f"fastmef: {backend} kernels of {self.name} failed and are not used again: {reason}",
            RuntimeWarning,
            stacklevel=3,
        )


def options_schema(options: Any) -> str:
    """Return the fields of a ``NamedTuple`` class as arguments of a schema."""
    fields = get_type_hints(options).items()
    return ", ".join(f"{_SCHEMA_TYPES[type_]} {name}" for name, type_ in fields)


def triton_launcher(module: str, name: str) -> Callable[..., Any]:
    """Return ``fastmef.kernels.<module>.<name>``, which is imported on the first call.

    Importing Triton takes long.
    """

    def launch(*args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(f"fastmef.kernels.{module}"), name)(*args, **options)

    return launch
