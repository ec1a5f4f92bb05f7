"""The library of PyTorch that a thread loads while Python is at work."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a library of Linux")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


LOADING = """
import sys, threading, time
from fastmef.cli.preload import preload_torch
preload_torch()
turns = 0
for thread in threading.enumerate():
    while thread is not threading.main_thread() and thread.is_alive():
        turns += 1
        time.sleep(0.001)
loaded = "libtorch_cpu" in open("/proc/self/maps").read()
print(turns > 5, loaded, "torch" in sys.modules)
"""


def test_loads_while_python_goes_on():
    assert run(LOADING) == "True True False\n"


def test_pytorch_works_then():
    code = "import threading\nfrom fastmef.cli.preload import preload_torch\npreload_torch()\n"
    code += "import torch\nprint(float(torch.ones(3, 3).mm(torch.ones(3, 3)).sum()))"
    assert run(code) == "27.0\n"


def test_not_where_pytorch_is_there_already():
    code = "import torch, threading\nfrom fastmef.cli.preload import preload_torch\n"
    code += "preload_torch()\nprint(threading.active_count())"
    assert run(code) == "1\n"


def test_fuse_calls_it_first(tmp_path):
    """Before NumPy, whose import takes as long."""
    code = """
import sys
import fastmef.cli.preload as preload
preload.preload_torch = lambda: print("numpy" in sys.modules)
from fastmef.cli import main
sys.argv = ["fastmef", "fuse", "none.jpg", "none.jpg", "-o", "out.jpg"]
try:
    main()
except SystemExit:
    pass
"""
    assert run(code) == "False\n"


def test_another_layout_of_pytorch_is_left_alone():
    code = """
import importlib.util
from importlib.machinery import ModuleSpec
from fastmef.cli.preload import preload_torch
for found in (None, ModuleSpec("torch", None), ModuleSpec("torch", None, origin="/none/torch.py")):
    importlib.util.find_spec = lambda name, found=found: found
    preload_torch()
"""
    assert run(code) == ""
