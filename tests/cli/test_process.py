"""The command line as a process: its exit, after output is flushed and exit functions have run."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run_process(code):
    code = (
        f"import atexit, click, sys\nimport fastmef.cli.process as process\n{code}\nprocess.run()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, ""),
        ("print('line')", 0, ""),
        ("raise ZeroDivisionError", 1, "ZeroDivisionError"),
    ],
)
def test_status(body, status, error):
    done = run_process(f"def main(prog_name):\n    {body}\nprocess.main = main")
    assert done.returncode == status
    assert error in done.stderr
    assert done.stdout == ("line\n" if "print" in body else "")


def test_what_was_registered_for_the_end_is_done():
    done = run_process(
        "atexit.register(print, 'done')\nprocess.main = lambda prog_name: sys.exit(2)"
    )
    assert (done.returncode, done.stdout) == (2, "done\n")


def test_the_interpreter_is_not_taken_down():
    left = "class Left:\n    def __del__(self): print('taken down')\nleft = Left()\n"
    assert run_process(left + "process.main = lambda prog_name: None").stdout == ""


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["fuse", "a.jpg"], 2)])
def test_module(arguments, status):
    command = [sys.executable, "-m", "fastmef", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stdout.startswith("fastmef ") if status == 0 else done.stderr.startswith("Usage")
