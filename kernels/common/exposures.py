"""Device functions on tuples of K values: the exposures of a pixel, or their logits."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_layers(pointers, layer, inside, K: tl.constexpr):
    """Load K values, ``layer`` apart, from each address as float32.

    They are 0 where ``inside`` is false; with ``None`` all are loaded.
    """
    out = ()
    for _ in tl.static_range(K):
        value = tl.load(pointers, mask=inside, other=None if inside is None else 0.0)
        out = out + (value.to(tl.float32),)
        # Pointers advance by one stride at a time because k * layer may not fit 32 bits.
        pointers += layer
    return out


@triton.jit
def layer_pointers(pointers, layer, K: tl.constexpr):
    """Return the addresses of K layers."""
    out = ()
    for _ in tl.static_range(K):
        out = out + (pointers,)
        # Pointers advance by one stride at a time because k * layer may not fit 32 bits.
        pointers += layer
    return out


@triton.jit
def load_each(pointers, offset):
    """Load the values at ``offset`` from each of the pointers as float32."""
    out = ()
    for k in tl.static_range(len(pointers)):
        out = out + (tl.load(pointers[k] + offset).to(tl.float32),)
    return out


@triton.jit
def softmax(logits, K: tl.constexpr):
    """Return the K softmax weights."""
    highest = logits[0]
    for k in tl.static_range(1, K):
        # maximum() ignores NaN, which then reaches the sum through its exponential.
        highest = tl.maximum(highest, logits[k])
    exponentials = ()
    total = tl.zeros_like(highest)
    for k in tl.static_range(K):
        exponential = tl.exp(logits[k] - highest)
        total += exponential
        exponentials = exponentials + (exponential,)
    inverse = 1.0 / total
    weights = ()
    for k in tl.static_range(K):
        weights = weights + (exponentials[k] * inverse,)
    return weights


@triton.jit
def weighted_sum(weights, images, K: tl.constexpr):
    """Return the sum of weights[k] * images[k]."""
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
