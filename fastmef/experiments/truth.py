"""The experiment ``truth``: results against the HDR files that the exposures are rendered from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmef.data.extras import import_extra
from fastmef.data.render import auto_exposures, exposure_range, render_exposures
from fastmef.data.srgb import srgb_decode
from fastmef.errors import MissingExtraError
from fastmef.experiments import methods, page, plots, pu21
from fastmef.experiments.chroma import chroma_difference
from fastmef.experiments.experiment import Experiment, Result, Rows
from fastmef.experiments.lab import Lab
from fastmef.experiments.merging import debevec, merge_with_weights, opencv_debevec
from fastmef.experiments.photographs import Image
from fastmef.experiments.scoring import mean_of, network_fusion
from fastmef.experiments.store import Values
from fastmef.inference.simple import plain_mean
from fastmef.nn.network import FusionNet

PERCENTILE, LEVEL = 99, 1000.0
"""The reference is scaled to have this percentile of luminance at this many cd/m²."""

BRACKETS = {"two exposures": 2, "five exposures": 5}
SINGLE, DEBEVEC = "best single frame", "Debevec's merge"

Merge = Callable[[Sequence[Image], Sequence[float]], NDArray[np.floating]]

QUESTION = "How near is a result to the radiance of the scene?"

METHOD = """\
The exposures are rendered from HDR files held back, so the radiance of the scene is known. Two
exposures are those that a photographer would take; five are equally spaced from the one that
keeps highlights to the one that opens shadows. Every result is compared with the HDR file in
linear light: pictures (fused ones and single frames) are decoded with the inverse sRGB curve,
radiance is used unchanged. Both get the same median luminance; the 99th percentile of the HDR
file's luminance is 1000 cd/m².

- **PU21-PSNR** and **PU21-SSIM** are PSNR (RGB, dB) and SSIM (luminance) of PU21 values.
- **corrected**: first, the rising curve that brings the luminance of the result nearest to the
  reference is applied to it (after Hanji et al. 2022). A fused picture is tone-mapped: without
  correction, its tone curve counts as an error. Local tone mapping still counts.
- **JOD** is ColorVideoVDP of the corrected result on its 30-inch HDR display; 10 means no visible
  difference.
- **ΔE00** compares chroma alone: both images are brought to middle grey at every pixel.

*Debevec's merge* gives black and white a weight of 0, *OpenCV's Debevec* a weight of 1. *best
single frame* is the best of the exposures for each measure and view. *radiance by paper weights*
sums linear light with the weights that the bundled `paper` network computes for the picture."""


def measure(lab: Lab) -> Values:
    """Compare every method with the HDR files, for both brackets."""
    metric = _color_video_vdp()
    found: Values = {}
    for label, count in BRACKETS.items():
        found[label] = {
            name: lab.variant(
                f"{name}, {label}",
                {"exposures": count, "cvvdp": metric is not None},
                partial(_compare, lab, count, merge, metric),
            )
            for name, merge in _methods(count).items()
        }
    return {"views": len(lab.test_views), "brackets": found}


def _methods(count: int) -> dict[str, Merge | None]:
    """Return the methods by label; ``None`` stands for the single frames."""
    pictures: dict[str, Callable[[Sequence[Image]], Image]] = {
        "plain mean": plain_mean,
        "OpenCV Mertens": methods.opencv_mertens,
        "default": methods.default,
    }
    found: dict[str, Merge | None] = {SINGLE: None}
    if count == 2:
        pictures["paper weights"] = network_fusion("paper")
    found |= {name: partial(_linear, fusion) for name, fusion in pictures.items()}
    found |= {DEBEVEC: debevec, "OpenCV's Debevec": opencv_debevec}
    if count == 2:
        network = FusionNet.from_pretrained("paper")
        found["radiance by paper weights"] = partial(merge_with_weights, network=network)
    return found


def _linear(
    fusion: Callable[[Sequence[Image]], Image], images: Sequence[Image], evs: Sequence[float]
) -> NDArray[np.floating]:
    return srgb_decode(np.float32(fusion(images)) / 255)


def exposure_values(radiance: NDArray[np.float32], count: int) -> list[float]:
    """Return the exposure values of a bracket in stops, from dark to bright."""
    if count == 2:
        return list(auto_exposures(radiance))
    return np.linspace(*exposure_range(radiance), count).tolist()


def _compare(lab: Lab, count: int, merge: Merge | None, metric: Any) -> Values:
    records = []
    for view in lab.test_views:
        bright = np.percentile(pu21.luminance(view.radiance), PERCENTILE)
        reference = np.float64(view.radiance) * (LEVEL / max(bright, 1e-12))
        evs = exposure_values(view.radiance, count)
        images = render_exposures(view.radiance, evs)
        if merge is None:
            singles = [
                scores_of(srgb_decode(np.float32(image) / 255), reference, metric)
                for image in images
            ]
            records.append(
                {
                    key: (max if MEASURES[key][2] else min)(one[key] for one in singles)
                    for key in singles[0]
                }
            )
        else:
            records.append(scores_of(merge(images, evs), reference, metric))
    return mean_of(records)


def scores_of(
    linear: NDArray[np.floating], reference: NDArray[np.float64], metric: Any = None
) -> dict[str, float]:
    """Return all measures of an image against a reference.

    Args:
        linear: linear light ``(H, W, 3)`` at any scale, not negative.
        reference: linear light ``(H, W, 3)`` in cd/m².
        metric: ColorVideoVDP, or ``None``.
    """
    scaled = pu21.aligned(linear, reference)
    curved = pu21.corrected(scaled, reference)
    scores = {
        "psnr": pu21.psnr(scaled, reference),
        "psnr_corrected": pu21.psnr(curved, reference),
        "ssim": pu21.similarity(scaled, reference),
        "ssim_corrected": pu21.similarity(curved, reference),
        "chroma": chroma_difference(linear, reference),
    }
    if metric is not None:
        pair = (torch.from_numpy(np.float32(image)) for image in (curved, reference))
        scores["jod"] = float(metric.predict(*pair, dim_order="HWC")[0])
    return scores


def _color_video_vdp() -> Any:
    """Return ColorVideoVDP on the CPU; ``None`` if it is not installed."""
    try:
        pycvvdp = import_extra("pycvvdp", "cvvdp", "ColorVideoVDP")
    except MissingExtraError:
        return None
    return pycvvdp.cvvdp(display_name="standard_hdr_linear", device=torch.device("cpu"))


MEASURES = {
    "psnr": ("PU21-PSNR", 2, True),
    "psnr_corrected": ("corrected PU21-PSNR", 2, True),
    "ssim": ("PU21-SSIM", 4, True),
    "ssim_corrected": ("corrected PU21-SSIM", 4, True),
    "jod": ("JOD", 2, True),
    "chroma": ("ΔE00", 2, False),
}
"""Title, decimals, and whether more is better."""


def sections(result: Result) -> list[str]:
    """Return a table for each bracket."""
    values = result["values"]
    lines: list[str] = []
    for label, found in values["brackets"].items():
        lines += [f"## {label.capitalize()}", ""]
        header = ["", *(title for title, _, _ in MEASURES.values())]
        rows: list[list[page.Cell]] = [
            [
                name,
                *(
                    f"{record[key]:.{decimals}f}" if key in record else "not installed"
                    for key, (_, decimals, _) in MEASURES.items()
                ),
            ]
            for name, record in found.items()
        ]
        lines += page.table(header, rows)
        data = f"{values['views']} views of HDR files held back"
        lines += page.measured_on(result, data, "bundled weights, no seeds")
    lines += page.figure(result, "Measures by method")
    return lines


def answer(values: Values) -> list[str]:
    """Return the best method in each measure, and the effect of correcting the tone curve."""
    sentences = []
    for label, found in values["brackets"].items():
        best = []
        for key, (title, decimals, more) in MEASURES.items():
            known = {name: record[key] for name, record in found.items() if key in record}
            if known:
                name = (max if more else min)(known, key=known.__getitem__)
                best.append(f"{title} {name} ({known[name]:.{decimals}f})")
        sentences.append(f"Best with {label}: {', '.join(best)}.")
        gains = {
            name: found[name]["psnr_corrected"] - found[name]["psnr"]
            for name in ("default", DEBEVEC)
        }
        lead = found["default"]["psnr_corrected"] - found[SINGLE]["psnr_corrected"]
        sentences.append(
            f"With {label} the correction raises PU21-PSNR of the default by {gains['default']:.1f}"
            f" dB, of Debevec's merge by {gains[DEBEVEC]:.1f} dB. Corrected, the default is"
            f" {abs(lead):.1f} dB {'above' if lead > 0 else 'below'} the best single frame."
        )
    return sentences


def draw(result: Result, axes: Any) -> None:
    """Draw PSNR with and without correction, and ΔE00, for two exposures."""
    found = result["values"]["brackets"]["two exposures"]
    series = {
        "no correction": [(record["psnr"], 0.0) for record in found.values()],
        "corrected": [(record["psnr_corrected"], 0.0) for record in found.values()],
    }
    plots.dots(axes[0], list(found), series, "PU21-PSNR, dB, two exposures")
    series = {"ΔE00": [(record["chroma"], 0.0) for record in found.values()]}
    plots.dots(axes[1], list(found), series, "ΔE00 of chroma, two exposures")


def pictures(lab: Lab) -> Rows:
    """Return exposures, results with corrected tone curves, and the reference."""
    view = lab.test_views[0]
    evs = exposure_values(view.radiance, 2)
    images = render_exposures(view.radiance, evs)
    reference = np.float64(view.radiance)
    tiles = [("dark", images[0]), ("bright", images[1])]
    shown: dict[str, NDArray[np.floating]] = {"HDR file": reference}
    for name, merge in _methods(2).items():
        if merge is not None and name != "plain mean":
            scaled = pu21.aligned(merge(images, evs), reference)
            shown[f"{name}, corrected"] = pu21.corrected(scaled, reference)
    for name, linear in shown.items():
        (picture,) = render_exposures(linear, [sum(evs) / 2])
        tiles.append((name, picture))
    return [tiles[:2], tiles[2:5], tiles[5:]]


TRUTH = Experiment(
    "truth",
    "Against the radiance",
    QUESTION,
    METHOD,
    ("hdr",),
    measure,
    answer,
    sections,
    draw,
    parts=(),
    columns=2,
    pictures=pictures,
)
