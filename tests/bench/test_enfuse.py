"""enfuse as a baseline: a picture comes back, and a missing program is named."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bench.baselines import enfuse


def test_missing_program(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "apt install enfuse" in enfuse.missing()
    with pytest.raises(RuntimeError, match="no program named enfuse"):
        enfuse.enfuse([np.zeros((8, 8, 3), np.uint8)] * 2)


@pytest.mark.skipif(enfuse.missing() is not None, reason="no enfuse on this machine")
def test_fuses_to_rgb():
    frame = np.zeros((50, 61, 3), np.uint8)
    frame[..., 0], frame[..., 2] = 200, np.arange(61)
    fused = enfuse.enfuse([frame, frame])
    assert fused.shape == frame.shape and fused.dtype == np.uint8
    assert np.abs(fused.astype(int) - frame).max() <= 2


@pytest.mark.skipif(os.name != "posix", reason="the program is a shell script")
def test_failure_is_reported(monkeypatch, tmp_path):
    program = tmp_path / "enfuse"
    program.write_text("#!/bin/sh\necho out of luck >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="enfuse failed: out of luck"):
        enfuse.enfuse([np.zeros((8, 8, 3), np.uint8)] * 2)
