"""The environment of a process that a test starts."""

from __future__ import annotations

import os


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with ``variables``, but without those of pytest-xdist.

    In a worker of pytest-xdist, pytest-benchmark would measure nothing and write no file.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return {**inherited, **variables}
