"""What :mod:`fastmef.ops.filters` calls: one file an operation, gathered here by name."""

from .adjoint import sobel_gradient_backward
from .gamma import gamma_weights, gamma_weights_backward
from .sobel import sobel_gradient
from .variance import local_variance, local_variance_backward

__all__ = [
    "gamma_weights",
    "gamma_weights_backward",
    "local_variance",
    "local_variance_backward",
    "sobel_gradient",
    "sobel_gradient_backward",
]
