"""What makes ``import torch`` faster for a command that computes and compiles nothing."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_META = "torch._meta_registrations"


def preload_torch() -> None:
    """Begin to load the library and return at once. On other systems than Linux, do nothing.

    It takes a quarter of ``import torch`` and needs no interpreter, whose lock ``import`` and
    ``ctypes.CDLL`` hold meanwhile. A call of ``dlopen`` as a C function does not. What fails here
    fails again in ``import torch``, which reports it.
    """
    if sys.platform != "linux" or "torch" in sys.modules:
        return
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return
    library = Path(found.origin).with_name("lib") / "libtorch_cpu.so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    arguments = os.fsencode(library), os.RTLD_NOW
    threading.Thread(target=dlopen, args=arguments, daemon=True).start()


def defer_meta_registrations() -> None:
    """Let ``import torch`` leave out a module that describes operations to compilers.

    It and what it imports take a quarter of ``import torch``. Tensors without data and
    ``torch.compile`` need it. The module is imported when something asks for one of its names.
    """
    if "torch" in sys.modules:
        return
    deferred = _DeferredModule(_META)
    deferred.__spec__ = ModuleSpec(_META, None)
    sys.modules[_META] = deferred


class _DeferredModule(ModuleType):
    """Is replaced by the module of its name when an attribute is missing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or sys.modules.get(self.__name__) is not self:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
