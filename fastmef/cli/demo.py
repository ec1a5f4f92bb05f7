"""The command ``fastmef demo``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastmef.cli import options

MEASURE = ("ma2015", 3)
SAMPLES = Path(__file__).parents[1] / "samples"


@click.command()
@click.option(
    "-o",
    "--output",
    default="fastmef-demo.png",
    show_default=True,
    metavar="OUT",
    type=options.FILE,
    help="The picture to write.",
)
@options.model
@options.device
@options.force
def demo(output: Path, model: str, device: str | None, force: bool) -> None:
    """Fuse the photographs bundled with fastmef.

    Writes one picture that shows for every scene, side by side, the darkest and the brightest
    exposure, the weights (white where the bright exposures count, black where the dark ones do) and
    the fused result. Prints MEF-SSIM for each picture: how much detail of the exposures it keeps; 1
    is best.

    \b
    Example:
        fastmef demo -o fastmef-demo.png
    """
    from fastmef.data.images import check_image_output, read_image, write_image
    from fastmef.data.pairs import find_scenes

    check_image_output(output, force=force)
    begun = time.perf_counter()
    import numpy as np

    from fastmef.allocator import keep_freed_memory
    from fastmef.cli.tables import table
    from fastmef.data.maps import enlarge_map
    from fastmef.data.sheet import contact_sheet
    from fastmef.inference.fuse import fuse_with_weights
    from fastmef.inference.models import ready_model
    from fastmef.inference.simple import as_tensor, plain_mean
    from fastmef.metrics import mef_ssim, score_name

    keep_freed_memory()
    ready_model(model, device)
    loading = time.perf_counter() - begun

    rows: list[tuple[str, str, float, str]] = []
    pictures = []
    for scene in find_scenes(SAMPLES):
        images = [read_image(path).pixels for path in scene.images]
        begun = time.perf_counter()
        fused, weights = fuse_with_weights(images, model, device=device)
        fusing = time.perf_counter() - begun

        candidates = {path.name: image for path, image in zip(scene.images, images, strict=True)}
        candidates |= {"plain mean": plain_mean(images), "fused": fused}
        exposures = as_tensor(*images).unsqueeze(0)
        for name, image in candidates.items():
            score = float(mef_ssim(as_tensor(image), exposures, *MEASURE))
            seconds = f"{fusing:.2f} s" if name == "fused" else ""
            rows.append((scene.name, name, score, seconds))

        order = np.argsort([image.mean() for image in images])
        # With two exposures, this is the weight of the brighter one.
        position = np.tensordot(np.linspace(0, 1, len(images)), weights[order], axes=1)
        shown = enlarge_map(position, (images[0].shape[1], images[0].shape[0]))
        pictures.append(
            [
                (f"{scene.name}: under-exposed", images[order[0]]),
                ("over-exposed", images[order[-1]]),
                ("weights: black dark, white bright exposure", np.uint8(255 * shown + 0.5)),
                (f"fused in {fusing:.2f} s", fused),
            ]
        )
    write_image(output, contact_sheet(pictures), force=force)

    click.echo(table(("scene", "picture", score_name(*MEASURE), "time"), rows))
    click.echo(f"\n{click.format_filename(output)} written (start-up {loading:.2f} s)")
