"""Makes ``bench`` importable: it is no part of the installed package."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
# At the end, so that the fastmef under test stays the installed one.
if ROOT not in sys.path:
    sys.path.append(ROOT)
