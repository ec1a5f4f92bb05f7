"""Make ``bench`` importable, which is not part of the installed package."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
# The checkout is last on the path, so that the installed fastmef is tested.
if ROOT not in sys.path:
    sys.path.append(ROOT)
