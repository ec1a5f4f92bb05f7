"""Read manifests, which list exposure sets in a file instead of in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from fastmef.data.files import display
from fastmef.data.pairs import Scene
from fastmef.data.radiance import RADIANCE_ENDINGS
from fastmef.data.reading import read_bytes
from fastmef.errors import InputError

MANIFEST_ENDING = ".jsonl"
SPLITS = ("train", "validation")

_LARGEST = 256 << 20  # bytes
_NEEDED = "a manifest, one JSON object a line"
_EXAMPLE = '{"images": ["desk/1.jpg", "desk/2.jpg"], "name": "desk", "split": "train"}'


class Manifest(NamedTuple):
    """The scenes of a manifest, in the order of its lines."""

    scenes: list[Scene]
    validation: frozenset[str] | None
    """Names of the scenes for validation; ``None`` if no line has a ``split``."""


def read_manifest(path: Path) -> Manifest:
    """Read a list of exposure sets.

    Every line is a JSON object with these keys. Empty lines are ignored. No image is opened.

    - ``images``: two or more photographs from dark to bright, or one HDR file; paths are relative
      to the folder of the manifest.
    - ``name``: by default the first image without its ending; an HDR file keeps its ending.
    - ``split``, optional: ``"train"`` or ``"validation"``.

    Raises:
        InputError: the file cannot be read, a line has another form, or two scenes have the same
            name.
    """
    content = read_bytes(path, _LARGEST, _NEEDED)
    scenes: dict[str, Scene] = {}
    splits: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{display(path)}: line {number}"
        scene, split = _entry(line, path.parent, where)
        if scene.name in scenes:
            raise InputError(f"{where}: a second scene is named {display(scene.name)}")
        scenes[scene.name] = scene
        if split is not None:
            splits[scene.name] = split
    if not scenes:
        raise InputError(f"{display(path)}: lists no scene; needed: {_NEEDED}")
    validation = frozenset(name for name, split in splits.items() if split == "validation")
    return Manifest(list(scenes.values()), validation if splits else None)


def _entry(line: bytes, folder: Path, where: str) -> tuple[Scene, str | None]:
    """Return the scene of a line, and its split if it has one."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON; needed: {_EXAMPLE}") from error
    if not isinstance(entry, dict) or (unknown := entry.keys() - {"images", "name", "split"}):
        what = f"unknown key {min(unknown)!r}" if isinstance(entry, dict) else "no object"
        raise InputError(f"{where}: {what}; needed: {_EXAMPLE}")
    images, split = entry.get("images"), entry.get("split")
    if not isinstance(images, list) or not images or not all(isinstance(i, str) for i in images):
        raise InputError(f"{where}: images must be a list of paths; needed: {_EXAMPLE}")
    paths = tuple(folder / image for image in images)
    radiances = [path.suffix.lower() in RADIANCE_ENDINGS for path in paths]
    if any(radiances) if len(paths) > 1 else not all(radiances):
        raise InputError(f"{where}: images must be two or more photographs, or one HDR file")
    name = entry.get("name", images[0] if radiances[0] else str(Path(images[0]).with_suffix("")))
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: name must be a non-empty string; needed: {_EXAMPLE}")
    if split is not None and split not in SPLITS:
        raise InputError(f"{where}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    return Scene(name, paths), split
