"""Load the channels of exposures, and pass the weights of luma to kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_colours(at, channel_stride, mask):
    """Load red, green and blue as float32."""
    red = tl.load(at, mask=mask, other=0).to(tl.float32)
    # The pointer advances by one stride at a time: 2 * channel_stride may not fit 32 bits.
    at += channel_stride
    green = tl.load(at, mask=mask, other=0).to(tl.float32)
    at += channel_stride
    return red, green, tl.load(at, mask=mask, other=0).to(tl.float32)


def luma_constants(gray: tuple[float, ...]) -> dict[str, float]:
    """Return the weights of R, G and B as constants of a kernel."""
    return dict(zip(("RED", "GREEN", "BLUE"), gray, strict=True))
