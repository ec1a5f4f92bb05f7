"""Keep the results of variants on disk, so that an experiment can be stopped and continued."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastmef
from fastmef.data.files import atomic_write

Values = dict[str, Any]


class Store:
    """A folder with one JSON file per variant.

    Args:
        folder: the folder; it is created if it does not exist.
        progress: called with a line for every variant that is computed.
    """

    def __init__(self, folder: Path, progress: Callable[[str], None]) -> None:
        self.folder, self._progress = folder, progress
        self.commits: set[str] = set()

    def get(self, name: str, settings: Mapping[str, Any], compute: Callable[[], Values]) -> Values:
        """Return the values of a variant; compute them if there are none for these settings."""
        path = self.folder / f"{_slug(name)}-{digest(settings)}.json"
        if path.exists():
            record = json.loads(path.read_text())
        else:
            start = time.monotonic()
            values = compute()
            seconds = time.monotonic() - start
            record = {
                "variant": name,
                "settings": dict(settings),
                "commit": revision(),
                "seconds": round(seconds, 1),
                "values": values,
            }
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, json.dumps(record, indent=1).encode(), force=True)
            self._progress(f"{name}: {seconds:.0f} s")
        self.commits.add(record["commit"])
        return record["values"]


def digest(settings: Any) -> str:
    """Return a short hash of settings."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def revision() -> str:
    """Return the commit of the source, with ``+`` if files differ from it, or the version."""
    folder = Path(fastmef.__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=9", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--", "*.py", "*.cpp", "*.h")
    except (OSError, subprocess.CalledProcessError):
        return f"version {fastmef.__version__}"
    return commit + "+" * bool(changed)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
