"""Check γ, given as the names of its attributes or as a function of the caller."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fastmef.errors import InputError, shown
from fastmef.reference.filters import crop_to_centers
from fastmef.reference.gamma import ATTRIBUTES

Gamma = str | Callable[[Tensor], Tensor]


def checked_gamma(gamma: Gamma) -> Gamma:
    """Return a function unchanged, or the names of the attributes in the order of the formula.

    Raises:
        InputError: γ is neither a function nor a string, or a name is unknown or occurs twice.
    """
    if callable(gamma):
        return gamma
    # The name well_exposedness contains the separator.
    joined = gamma.replace("well_exposedness", "well-exposedness") if isinstance(gamma, str) else ""
    names = [name.replace("-", "_") for name in joined.split("_")]
    if len(set(names)) != len(names) or not set(names) <= set(ATTRIBUTES):
        raise InputError(
            f"gamma must be a function, or join different names of {', '.join(ATTRIBUTES)} "
            f"by '_', got {shown(gamma)}"
        )
    return "_".join(name for name in ATTRIBUTES if name in names)


def custom_gamma(
    gamma: Callable[[Tensor], Tensor], exposures: Tensor, window: int, eps: float
) -> Tensor:
    """Return γ at the centres of the windows, from the caller's attribute A.

    Args:
        gamma: a function that takes the exposures and returns A.
        exposures: grey, ``(B, K, H, W)``.
        window: odd window size in pixels.
        eps: added to the sum of A over the exposures.

    Raises:
        InputError: A is not a tensor, or its shape differs from that of the exposures.
    """
    attribute = gamma(exposures)
    if not isinstance(attribute, Tensor) or attribute.shape != exposures.shape:
        got = tuple(attribute.shape) if isinstance(attribute, Tensor) else shown(attribute)
        raise InputError(
            f"gamma must return a tensor like its exposures {tuple(exposures.shape)}, got {got}"
        )
    attribute = crop_to_centers(attribute, window)
    return attribute / (attribute.sum(dim=1, keepdim=True) + eps)
