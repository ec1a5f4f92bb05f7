"""The environment of a process that a test starts."""

from __future__ import annotations

import os


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment with ``variables``. A pytest in it is no worker of pytest-xdist:
    pytest-benchmark measures nothing and writes no file in one."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return {**inherited, **variables}
