"""Fuse the bundled photographs, and again with twice the weight for the brightest frame.

python examples/fuse.py
"""

from pathlib import Path

import fastmef
from fastmef.data.images import write_image
from fastmef.inference.fuse import fuse_with_weights

samples = Path(fastmef.__file__).parent / "samples" / "mountain"
photographs = sorted(samples.glob("*.jpg"))  # of one size, in any order

fused = fastmef.fuse(photographs)  # (H, W, 3) uint8
write_image("fused.png", fused)

# bias is added to the logits of the weights: +0.7 is a factor of 2.
brighter, weights = fuse_with_weights(photographs, bias=[0, 0, 0, 0.7], brightness=0.2)
write_image("brighter.png", brighter)

print(f"{fused.shape}: mean level {fused.mean():.1f}, then {brighter.mean():.1f}")
print("share of every frame:", ", ".join(f"{share:.2f}" for share in weights.mean(axis=(1, 2))))
