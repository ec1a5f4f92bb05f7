"""Fixtures with a network and photographs in files, and the command line in this process."""

from __future__ import annotations

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fastmef.cli import main
from fastmef.nn.network import FusionNet


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    network = FusionNet("any", width=4)
    torch.nn.init.normal_(network.body.head.weight)
    network.save(path)
    return str(path)


@pytest.fixture(scope="session")
def model_for_two(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "two.safetensors"
    FusionNet(2, width=4).save(path)
    return str(path)


@pytest.fixture
def run():
    def invoke(*arguments, status=0) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output + repr(result.exception)
        return result

    return invoke


@pytest.fixture
def refused(run):
    """Run a command that must fail with status 2 and one line on stderr; return that line."""

    def invoke(*arguments):
        result = run(*arguments, status=2)
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.output
        assert lines[0].startswith("fastmef: error: ")
        assert result.stdout == ""
        assert isinstance(result.exception, SystemExit)
        return lines[0]

    return invoke


@pytest.fixture
def photographs(tmp_path):
    """Write a dark and a bright photograph of 40×30 pixels; return their paths."""
    ramp = np.linspace(0, 1, 40)[None, :, None] * np.linspace(0.3, 1, 30)[:, None, None]
    paths = []
    for name, gain in (("dark.png", 0.5), ("bright.png", 2.0)):
        pixels = np.uint8(255 * np.clip(gain * ramp * np.ones(3), 0, 1))
        Image.fromarray(pixels).save(tmp_path / name)
        paths.append(tmp_path / name)
    return paths


@pytest.fixture(scope="session")
def commands() -> dict[str, click.Command]:
    return main.commands
