"""Draw docs/figures from the result files: speed of fastmef and peers, and cost against size.

python -m bench.plots    # needs matplotlib: pip install '.[bench]'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

from bench.tables import RESULTS, ROOT  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
# (Operation, row) of cpu.json or fuse.json → label, from the top of the figure to its bottom.
ROWS = {
    ("weighted_ssim_loss", "8x250x250, 1 scale"): "loss and gradient\n8×250×250",
    ("weighted_ssim_loss", "1x1080x1920, 1 scale"): "loss and gradient\n1920×1080",
    ("fusion_loss", "8x250x250, 1 scale"): "loss from logits\nand gradient, 8×250×250",
    ("ssim", "8x250x250, value"): "SSIM\n8×250×250",
    ("ssim", "8x250x250, value and gradient"): "SSIM and gradient\n8×250×250",
    ("local_variance, Gaussian 11", "1x1080x1920, value"): "local variance\n1920×1080",
    ("sobel_gradient", "1x1080x1920, value"): "Sobel gradient\n1920×1080",
    ("softmax_fuse, 24 MP x 2", "uint8, planar"): "softmax and sum\n24 MP, uint8",
    ("multiscale_fuse, 24 MP x 2", "uint8, channels last"): "multiscale fusion\n24 MP, uint8",
    ("MEF-SSIM ma2015, 3 scales, 12 MP x 2", "score"): "MEF-SSIM, 3 scales\n12 MP",
    ("fuse, two photographs", "0.7 MP"): "photographs fused\n0.7 MP",
    ("fuse, two photographs", "24 MP"): "photographs fused\n24 MP",
}
# Markers, colours (Okabe and Ito's, which colour-blind readers can distinguish) and labels. Other
# implementations are drawn as crosses.
STYLES = {
    "eager": ("o", "#0072B2", "PyTorch"),
    "eager, conv2d": ("s", "#56B4E9", "PyTorch, conv2d"),
    "torch.compile": ("D", "#009E73", "torch.compile"),
    "OpenCV": ("^", "#D55E00", "OpenCV"),
    "OpenCV Mertens": ("^", "#D55E00", "OpenCV"),
    "kornia": ("v", "#CC79A7", "kornia"),
    "scikit-image": ("<", "#E69F00", "scikit-image"),
    "pytorch-msssim": (">", "#999999", "pytorch-msssim"),
    "torchmetrics": ("P", "#A6761D", "torchmetrics"),
    "copy into memory in use": ("|", "#000000", "copy of as many bytes"),
}
# Variants that appear in tables only.
NOT_DRAWN = (
    "fastmef",
    "fastmef into memory in use",
    "fastmef, network alone",
    "torch.compile, conv2d",
    "copy into new memory",
)


def medians() -> dict[tuple[str, str], dict[str, float]]:
    """Return (operation, row) → implementation → seconds."""
    times: dict[tuple[str, str], dict[str, float]] = {}
    for name in ("cpu.json", "fuse.json"):
        for benchmark in json.loads((RESULTS / name).read_text())["benchmarks"]:
            info: dict[str, Any] = benchmark["extra_info"]
            row = times.setdefault((info["op"], info["row"]), {})
            row[info["name"]] = benchmark["stats"]["median"]
    return times


def draw_speed(axes: Axes, times: dict[tuple[str, str], dict[str, float]]) -> None:
    """Draw times divided by fastmef's: right of the line an implementation is slower."""
    for row, key in enumerate(ROWS):
        for name, time in times[key].items():
            if name in NOT_DRAWN:
                continue
            marker, color, label = STYLES.get(name, ("x", "#000000", name))
            if label in axes.get_legend_handles_labels()[1]:
                label = None
            ratio = time / times[key]["fastmef"]
            axes.plot(ratio, row, marker, color=color, label=label, markersize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.axvspan(axes.get_xlim()[0], 1, color="black", alpha=0.06, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlim(0.02, 400)
    ticks = {0.1: "10× faster", 1: "fastmef", 10: "10× slower", 100: "100× slower"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_yticks(range(len(ROWS)), list(ROWS.values()))
    axes.invert_yaxis()
    axes.grid(axis="both", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def draw_cost(axes: Axes, times: dict[tuple[str, str], dict[str, float]]) -> None:
    """Draw the seconds of a fusion against the megapixels of its two photographs."""
    sizes = [row for op, row in times if op == "fuse, two photographs"]
    megapixels = [float(size.split()[0]) for size in sizes]
    for name, style in (
        ("OpenCV Mertens", "^-"),
        ("fastmef", "o-"),
        ("fastmef, network alone", "o--"),
    ):
        seconds = [times["fuse, two photographs", size][name] for size in sizes]
        color = STYLES["OpenCV"][1] if name == "OpenCV Mertens" else STYLES["eager"][1]
        axes.plot(megapixels, seconds, style, color=color, label=name)
    axes.set(xlabel="megapixels of each of two photographs", ylabel="seconds, two cores")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def main() -> None:
    # Fixed identifiers and no date make files reproducible.
    plt.rcParams.update({"svg.hashsalt": "fastmef", "font.size": 9})
    times = medians()
    FIGURES.mkdir(exist_ok=True)
    for name, draw, size in (("speed", draw_speed, (8, 6)), ("cost", draw_cost, (6, 3.5))):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes, times)
        path = Path(FIGURES, f"{name}.svg")
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
