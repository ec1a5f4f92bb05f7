"""Score a network in training on whole images, rounded to 8 bit as they would be saved."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch

from fastmef.data.files import display, reason
from fastmef.data.images import write_image
from fastmef.data.pairs import Scene
from fastmef.errors import OutputError
from fastmef.inference.fuse import fuse
from fastmef.inference.inputs import Image, check_bracket
from fastmef.metrics import score_images
from fastmef.nn.network import FusionNet
from fastmef.training.distributed import World

TRIAL_SIDE = 64

Scores = dict[str, float]


def try_validation(network: FusionNet, scenes: Sequence[Scene], world: World) -> None:
    """Read every scene and fuse a corner of it, so that training does not fail hours later.

    Raises:
        InputError: an image cannot be read, or the exposures of a scene do not fit one another or
            the network.
    """
    for scene in world.share(scenes):
        _fuse(network, scene, TRIAL_SIDE)


def validate(
    network: FusionNet,
    scenes: Sequence[Scene],
    world: World,
    pictures: Path | None = None,
    kept: int = 0,
    step: int = 0,
) -> Scores:
    """Return the mean of every score over the scenes, fused without descent.

    Every process takes its share of the scenes. The fused images of the first ``kept`` scenes are
    written to ``pictures/<scene>/<step>.jpg``.

    Raises:
        OutputError: a picture cannot be written.
    """
    found: dict[int, Scores] = {}
    for index, scene in world.share(list(enumerate(scenes))):
        images, fused = _fuse(network, scene)
        exposures = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images])[None]
        found[index] = score_images(torch.from_numpy(fused).permute(2, 0, 1)[None], exposures)
        if pictures is not None and index < kept:
            _keep(pictures, index, scene, step, fused)
    by_index = {index: scores for part in world.gather(found) for index, scores in part.items()}
    totals: dict[str, list[float]] = {}
    for _, scores in sorted(by_index.items()):
        for name, value in scores.items():
            totals.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in totals.items()}


def _fuse(network: FusionNet, scene: Scene, side: int | None = None) -> tuple[list[Image], Image]:
    """Return the exposures and their fusion, of the upper left corner if ``side`` is given."""
    images = [image[:side, :side] for image in check_bracket(scene.images)]
    return images, fuse(images, network, refine=0)


def _keep(pictures: Path, index: int, scene: Scene, step: int, fused: Image) -> None:
    """Write a picture. A scene's name may be a path, so the file name replaces separators."""
    name = re.sub(r"[^\w.-]", "_", scene.name)
    folder = pictures / f"{index:02}-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {display(folder)}: {reason(error)}") from error
    write_image(folder / f"{step:08}.jpg", fused, force=True)
