"""fastmef doctor prints the output of show_config()."""

from __future__ import annotations

import pytest


def test_doctor(run):
    pytest.importorskip("fastmef.backends", reason="show_config() is not there yet")
    assert "reference" in run("doctor").output
