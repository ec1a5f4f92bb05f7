"""Keep the figures of all commands in one file, with one line per entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "results" / "machine_code.json"


def read() -> dict[str, Any]:
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def text_of(sections: dict[str, dict[str, Any]]) -> str:
    """Return JSON with a line for each entry of each section."""
    parts = []
    for name, section in sections.items():
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in section.items())
        parts.append(f" {json.dumps(name)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def replace(section: str, entries: dict[str, Any]) -> None:
    """Replace one section of the file."""
    FILE.write_text(text_of({**read(), section: entries}))
