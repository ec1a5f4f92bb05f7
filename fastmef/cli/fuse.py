"""fastmef fuse"""

from __future__ import annotations

import time
from pathlib import Path

import click

from fastmef.cli import options


@click.command()
@click.argument("images", nargs=-1, metavar="UNDER OVER [MORE]...", type=options.FILE)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    type=options.FILE,
    help="The picture to write; its ending names the kind: .jpg .png .tif .webp",
)
@options.model
@options.blend
@options.color
@options.refine
@options.device
@options.force
def fuse(
    images: tuple[Path, ...],
    output: Path,
    model: str,
    blend: str,
    color: float,
    refine: int,
    device: str | None,
    force: bool,
) -> None:
    """Fuse two or more photographs into one.

    They show the same scene from the same place (a tripod, or frames that were aligned) and have
    the same size; their order does not matter. JPEG, PNG, TIFF and WebP with 8 bits a channel can
    be read and written. The photographs are turned upright; EXIF and colour profile of the first
    go into the result.

    \b
    Example:
        fastmef fuse dark.jpg bright.jpg -o fused.jpg
    """
    from fastmef.data.images import check_image_output, read_image, same_profile, write_image
    from fastmef.errors import InputError
    from fastmef.inference.inputs import check_bracket

    if len(images) < 2:
        raise InputError(f"two or more photographs are needed, got {len(images)}")
    check_image_output(output, force=force)
    begun = time.perf_counter()
    photos = [read_image(path) for path in images]
    height, width = check_bracket(photos)[0].shape[:2]
    check_image_output(output, (width, height), force)
    if not same_profile(photos):
        click.echo(
            "fastmef: note: the photographs have different colour profiles;"
            f" that of {click.format_filename(images[0])} is used for all",
            err=True,
        )
    reading = time.perf_counter() - begun

    begun = time.perf_counter()
    from fastmef.allocator import keep_freed_memory
    from fastmef.inference.fuse import fuse as fuse_images
    from fastmef.inference.models import ready_model

    keep_freed_memory()
    ready_model(model, device)
    loading = time.perf_counter() - begun

    begun = time.perf_counter()
    fused = fuse_images(photos, model, blend, color, refine, device)
    fusing = time.perf_counter() - begun

    begun = time.perf_counter()
    write_image(output, fused, photos[0].icc_profile, photos[0].exif, force)
    writing = time.perf_counter() - begun
    click.echo(
        f"{click.format_filename(output)}: {width}×{height}, {len(photos)} photographs"
        f" fused in {fusing:.2f} s (start-up {loading:.2f} s, reading {reading:.2f} s,"
        f" writing {writing:.2f} s)"
    )
