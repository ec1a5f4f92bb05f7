"""The group of commands: help, version, how errors end, what start-up imports."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import fastmef
from fastmef.cli import main
from fastmef.errors import FastmefError, InputError, OutputError


def test_help_names_every_command(run, commands):
    text = run("--help").stdout
    for name in commands:
        assert f"\n  {name} " in text
    assert "fastmef fuse dark.jpg bright.jpg -o fused.jpg" in text


def test_help_of_every_command_has_an_example(run, commands):
    assert commands
    for name in commands:
        text = run(name, "--help").stdout
        assert "Example" in text
        assert f"fastmef {name}" in text


def test_version(run):
    assert run("--version").stdout == f"fastmef {fastmef.__version__}\n"


def test_python_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fastmef", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"fastmef {fastmef.__version__}\n"


def test_unknown_command(run):
    assert "No such command" in run("fusee", status=2).stderr


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("bad input"), 2, "fastmef: error: bad input"),
        (OutputError("bad output"), 2, "fastmef: error: bad output"),
        (FastmefError("other"), 2, "fastmef: error: other"),
        (
            MemoryError(),
            2,
            "fastmef: error: there is not enough memory",
        ),
        (KeyboardInterrupt(), 130, "fastmef: stopped"),
    ],
)
def test_errors(run, commands, monkeypatch, error, status, line):
    @click.command()
    def failing():
        raise error

    monkeypatch.setitem(commands, "failing", failing)
    result = run("failing", status=status)
    assert result.stderr == line + "\n"
    assert result.stdout == ""


def test_bugs_are_not_hidden(commands, monkeypatch):
    @click.command()
    def failing():
        raise ZeroDivisionError

    monkeypatch.setitem(commands, "failing", failing)
    with pytest.raises(ZeroDivisionError):
        main(["failing"], standalone_mode=False)


@pytest.mark.parametrize("arguments", [["--help"], ["fuse", "--help"], ["--version"]])
def test_help_is_quick(arguments):
    """Nothing heavy is imported; half a second of processor time, however busy the machine."""
    code = (
        "import sys, time\n"
        "from fastmef.cli import main\n"
        f"main({arguments}, standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)\n"
        "sys.exit(str((heavy, time.process_time())) if heavy or time.process_time() > 0.5 else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
