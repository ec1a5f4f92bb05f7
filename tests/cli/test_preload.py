"""The import of PyTorch loads its library in a thread and defers one of its modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastmef.data.images import write_image
from tests.support.photographs import photographs

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
    """The library is loaded before NumPy, whose import takes as long."""
    code = """
import sys
import fastmef.cli.preload as preload
preload.preload_torch = lambda: print("numpy" in sys.modules)
preload.defer_meta_registrations = lambda: print("torch" in sys.modules)
from fastmef.cli import main
sys.argv = ["fastmef", "fuse", "none.jpg", "none.jpg", "-o", "out.jpg"]
try:
    main()
except SystemExit:
    pass
"""
    assert run(code) == "False\nFalse\n"


@pytest.mark.parametrize("model", ["default", "paper"])
def test_no_fusion_needs_what_is_deferred(tmp_path, model):
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path, image in zip(paths, photographs(40, 50), strict=True):
        write_image(path, image)
    code = f"""
import sys
from fastmef.cli import main
files = {[str(path) for path in paths]}, "-o", {str(tmp_path / "fused.png")!r}
main([*files[0], *files[1:], "--model", {model!r}], standalone_mode=False)
print("torch" in sys.modules, "torch._refs" in sys.modules)
""".replace("main([", 'main(["fuse", ')
    assert run(code).endswith("True False\n")


def test_what_is_deferred_comes_when_asked_for():
    code = """
import sys
from fastmef.cli.preload import defer_meta_registrations
defer_meta_registrations()
import torch
from torch._meta_registrations import pooling_output_shape
print(pooling_output_shape.__module__, "torch._refs" in sys.modules)
import torch._meta_registrations
print(torch._meta_registrations is sys.modules["torch._meta_registrations"])
"""
    assert run(code) == "torch._meta_registrations True\nTrue\n"


def test_nothing_is_deferred_where_pytorch_is_there():
    code = """
import sys, torch
before = sys.modules["torch._meta_registrations"]
from fastmef.cli.preload import defer_meta_registrations
defer_meta_registrations()
print(sys.modules["torch._meta_registrations"] is before)
"""
    assert run(code) == "True\n"


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
