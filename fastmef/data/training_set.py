"""Select the scenes of a training, and divide them into training and validation."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from fastmef.data.files import display
from fastmef.data.manifest import MANIFEST_ENDING, read_manifest
from fastmef.data.pairs import LAYOUT, VALIDATION_SHARE, Scene, Skipped, scan_folder, split_scenes
from fastmef.data.reading import read_bytes
from fastmef.errors import InputError

VALIDATION = str(VALIDATION_SHARE)

_LARGEST_LIST = 64 << 20  # bytes
_NAMES = "a share such as 1/8, or a text file with the name of a scene a line"


@dataclass
class TrainingSet:
    """The scenes of a training, and the scenes and files that are skipped."""

    training: list[Scene] = field(default_factory=list)
    validation: list[Scene] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """All files of the scenes, without repetition."""
        scenes = (*self.training, *self.validation)
        return list(dict.fromkeys(path for scene in scenes for path in scene.images))

    def remove(self, reason: Callable[[Scene], str | None], faulty: bool = False) -> None:
        """Skip the scenes for which ``reason`` returns a text.

        Args:
            reason: says why a scene is skipped; ``None`` keeps it.
            faulty: whether these scenes are skipped because they cannot be used.
        """
        for scenes in (self.training, self.validation):
            for scene in list(scenes):
                if (why := reason(scene)) is not None:
                    scenes.remove(scene)
                    self.skipped.append(Skipped(scene.location, why, faulty))


def find_training_scenes(
    roots: Sequence[str | os.PathLike[str]],
    exclude: Collection[str] = (),
    hdr: bool = True,
    validation: str = VALIDATION,
    skip_faulty: bool = False,
) -> TrainingSet:
    """Find the scenes in folders and manifests, and divide them.

    Args:
        roots: folders with scenes, HDR files (.hdr .exr), or both, see
            :func:`fastmef.data.pairs.find_scenes`; or manifests, see
            :func:`fastmef.data.manifest.read_manifest`.
        exclude: names of scenes and HDR files in any root that are not used, such as ``"desk"`` and
            ``"sunset.hdr"``. They are removed after the division, so that excluding one does not
            change which others are for validation.
        hdr: use the HDR files.
        validation: a share, ``"1/8"`` or ``"0.2"``, of the scenes of the first root, at even
            distances in the order of names; ``"0"`` for none; or a text file with one scene name
            per line, from any root. The splits that a manifest declares take precedence over a
            share.
        skip_faulty: skip folders that cannot be a scene instead of refusing them.

    Raises:
        InputError: a root does not exist, cannot be read, is empty, or is given twice; a scene has
            a single image, or two images that are both named under or over; a name is not found; an
            HDR file is for validation; or no scene is left for training or for validation.
    """
    _check_distinct(roots)
    share, names = _parse_validation(validation)
    found = TrainingSet()
    for position, root in enumerate(roots):
        scenes, declared = _scan(Path(root), found.skipped, skip_faulty)
        photographed = [scene for scene in scenes if not scene.is_radiance]
        if position == 0 and share and not photographed:
            raise InputError(f"{display(root)}: no scene in this folder; {LAYOUT}")
        if declared is None and position == 0:
            declared = {scene.name for scene in split_scenes(photographed, share)[1]}
        declared = (declared or set()) | names
        for scene in scenes:
            split = found.validation if scene.name in declared else found.training
            split.append(replace(scene, folder=position))
    # The photographs of all roots precede the HDR files of all roots.
    found.training.sort(key=lambda scene: scene.is_radiance)
    _check_names(found, names, exclude)
    found.remove(lambda scene: "excluded" if scene.name in exclude else None)
    if not hdr:
        unused = 'HDR files are for exposures="any", or a given number of frames'
        found.remove(lambda scene: unused if scene.is_radiance else None)
    if not found.validation and (share or names):
        raise InputError(f"{display(roots[0])}: every scene for validation is excluded")
    if not found.training:
        raise InputError(f"{display(roots[0])}: no scene is left for training, by {validation=}")
    return found


def _scan(
    root: Path, skipped: list[Skipped], skip_faulty: bool
) -> tuple[list[Scene], set[str] | None]:
    """Return the scenes of a root, and the names that it declares for validation.

    The names are ``None`` if it declares no split.
    """
    if root.suffix.lower() == MANIFEST_ENDING and root.is_file():
        manifest = read_manifest(root)
        return manifest.scenes, None if manifest.validation is None else set(manifest.validation)
    found = scan_folder(root)
    skipped += found.skipped
    if found.faulty and not skip_faulty:
        raise InputError(str(found.faulty[0]))
    skipped += found.faulty
    if not found.scenes and not found.radiances:
        raise InputError(f"{display(root)}: no scene and no HDR file; {LAYOUT}")
    return found.scenes + found.radiances, None


def _check_distinct(roots: Sequence[str | os.PathLike[str]]) -> None:
    """Check that no root is given twice, also not by another path."""
    resolved = [os.path.realpath(root) for root in roots]
    for i, root in enumerate(roots):
        if resolved[i] in resolved[:i]:
            raise InputError(f"{display(root)}: this folder is given twice")


def _parse_validation(validation: str) -> tuple[Fraction, set[str]]:
    """Return the share of the first root for validation, and the names of scenes for validation."""
    try:
        share = Fraction(validation)
    except (ValueError, ZeroDivisionError):
        lines = read_bytes(validation, _LARGEST_LIST, _NAMES).decode(errors="replace").splitlines()
        names = {line.strip() for line in lines if line.strip()}
        if not names:
            raise InputError(f"{display(validation)}: empty; needed: {_NAMES}") from None
        return Fraction(0), names
    if not 0 <= share < 1:
        raise InputError(f"the share for validation must lie in [0, 1), got {validation}")
    return share, set()


def _check_names(found: TrainingSet, names: set[str], exclude: Collection[str]) -> None:
    """Check that all names are those of scenes, and that no HDR file is for validation."""
    known = {scene.name for scene in (*found.training, *found.validation)}
    for what, given in (("exclude", exclude), ("validate", names)):
        if unknown := sorted({*given} - known):
            raise InputError(f"cannot {what} {display(unknown[0])}: no such scene or HDR file")
    for scene in found.validation:
        if scene.is_radiance:
            raise InputError(f"{display(scene.location)}: HDR files are not for validation")
