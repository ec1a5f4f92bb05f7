"""PyTorch's largest library, loaded by a thread while Python imports what reads images."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import threading
from pathlib import Path


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
