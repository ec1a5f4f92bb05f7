"""Device functions on the K exposures of a pixel, or on their logits: tuples of K values."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_layers(pointers, layer, inside, K: tl.constexpr):
    """Load the K values behind each address as float32; zeros where not ``inside`` (or None)."""
    out = ()
    for _ in tl.static_range(K):
        value = tl.load(pointers, mask=inside, other=None if inside is None else 0.0)
        out = out + (value.to(tl.float32),)
        # Step by step: k * layer may not fit 32 bits.
        pointers += layer
    return out


@triton.jit
def layer_pointers(pointers, layer, K: tl.constexpr):
    """Return the addresses of K layers."""
    out = ()
    for _ in tl.static_range(K):
        out = out + (pointers,)
        # Step by step: k * layer may not fit 32 bits.
        pointers += layer
    return out


@triton.jit
def load_each(pointers, offset):
    """Load the values ``offset`` numbers on from each address as float32."""
    out = ()
    for k in tl.static_range(len(pointers)):
        out = out + (tl.load(pointers[k] + offset).to(tl.float32),)
    return out


@triton.jit
def softmax(logits, K: tl.constexpr):
    highest = logits[0]
    for k in tl.static_range(1, K):
        # NaN is passed over here, and comes back with its own exponential.
        highest = tl.maximum(highest, logits[k])
    powers = ()
    total = tl.zeros_like(highest)
    for k in tl.static_range(K):
        power = tl.exp(logits[k] - highest)
        total += power
        powers = powers + (power,)
    inverse = 1.0 / total
    weights = ()
    for k in tl.static_range(K):
        weights = weights + (powers[k] * inverse,)
    return weights


@triton.jit
def weighted_sum(weights, images, K: tl.constexpr):
    total = weights[0] * images[0]
    for k in tl.static_range(1, K):
        total += weights[k] * images[k]
    return total


@triton.jit
def load_fused(pointers, layer, images, inside, K: tl.constexpr, FROM_LOGITS: tl.constexpr):
    """Return F itself, or the exposures weighted by the softmax of the logits."""
    if FROM_LOGITS:
        weights = softmax(load_layers(pointers, layer, inside, K), K)
        return weighted_sum(weights, images, K)
    else:
        return load_layers(pointers, 0, inside, 1)[0]
