"""Score fused images with the variants of MEF-SSIM; the exposures are analysed only once.

python examples/evaluate.py
"""

from pathlib import Path

import numpy as np
import torch

import fastmef
from fastmef.data.images import read_image
from fastmef.metrics import MEFSSIM, mef_ssim, score_name

samples = Path(fastmef.__file__).parent / "samples" / "mountain"
photographs = [read_image(path).pixels for path in sorted(samples.glob("*.jpg"))]


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)  # (3, H, W), uint8


exposures = torch.stack([as_tensor(image) for image in photographs])[None]  # (1, K, 3, H, W)
results = {
    "plain mean": np.uint8(np.mean(photographs, axis=0) + 0.5),
    "fastmef": fastmef.fuse(photographs),
}

sources = MEFSSIM(exposures)  # ma2015, 3 scales: the exposures are analysed once for all results
for name, image in results.items():
    print(f"{name}: {score_name('ma2015')} {float(sources.score(as_tensor(image)[None])):.4f}")

# A score must name its variant: variants differ more than methods do.
for variant in ("mefnet", "color2018"):
    score = mef_ssim(as_tensor(results["fastmef"])[None], exposures, variant)
    print(f"fastmef: {score_name(variant)} {float(score):.4f}")
