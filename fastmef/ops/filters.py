"""local_variance, sobel_gradient and gamma_weights, the maps from which the loss is computed.

Images are flattened to ``(N, H, W)`` for the kernels. The forward passes save only the inputs; the
backward passes recompute everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmef import backends, reference
from fastmef.ops.common.autograd import recompute, reference_gradients
from fastmef.ops.common.operation import (
    FLOATS,
    GPU_FLOATS,
    LaunchError,
    Operation,
    Support,
    options_schema,
    triton_launcher,
)
from fastmef.ops.common.rings import WINDOW, rings_fit
from fastmef.ops.common.tensors import (
    BORDERS,
    attribute_bits,
    axis_taps,
    flatten_planes,
    gradient_like,
    gray_stack,
    map_like,
    map_shape,
    require,
    window_taps,
)
from fastmef.ops.common.transforms import Function, once_differentiable


class Filter(NamedTuple):
    """A product of attributes for the C++ kernels, normalised over K if ``eps`` is set."""

    attributes: str
    window: int
    sigma: float | None
    floor: float
    border: str = "valid"
    eps: float | None = None


class VarianceOptions(NamedTuple):
    """The options of ``local_variance`` in the order of its schema."""

    window: int
    sigma: float | None
    floor: float
    border: str

    @property
    def limits(self) -> dict[str, Any]:
        """What the record is asked with beside the images."""
        return {"window": self.window}

    def as_filter(self) -> Filter:
        return Filter("variance", *self)

    def as_kernel_arguments(self, images: Tensor) -> tuple[Any, ...]:
        """Return the arguments of the Triton launchers after the images."""
        return window_taps(images, self.window, self.sigma), self.floor, self.border


class SobelOptions(NamedTuple):
    @property
    def limits(self) -> dict[str, Any]:
        return {}

    def as_filter(self) -> Filter:
        return Filter("gradient", 1, None, 0.0)

    def as_kernel_arguments(self, images: Tensor) -> tuple[Any, ...]:
        return ()


class GammaOptions(NamedTuple):
    """The options of ``gamma_weights`` in the order of its schema."""

    gamma: str
    window: int
    sigma: float | None
    floor: float
    eps: float

    @property
    def limits(self) -> dict[str, Any]:
        return {"window": self.window}

    def as_filter(self) -> Filter:
        return Filter(self.gamma, self.window, self.sigma, self.floor, eps=self.eps)

    def as_kernel_arguments(self, images: Tensor) -> tuple[Any, ...]:
        taps = window_taps(images, self.window, self.sigma)
        return self.gamma, taps, self.floor, self.eps


Options = VarianceOptions | SobelOptions | GammaOptions


def _run_cpp(
    options: Filter,
    images: Tensor,
    values: Tensor | None = None,
    grad_output: Tensor | None = None,
    grad_images: Tensor | None = None,
) -> None:
    """Fill ``values`` or ``grad_images``. Images ``(N, H, W)`` count as N sets of one exposure."""
    attributes, window, sigma, floor, border, eps = options
    require(
        images.is_floating_point()
        and images.ndim in (3, 4)
        and images.numel() > 0
        and (grad_output is None or grad_output.shape == map_shape(images, window, border)),
        f"filters of {tuple(images.shape)} are not defined, or a gradient does not fit",
    )
    height, width = images.shape[-2:]
    backends.CPU.filters(  # type: ignore[union-attr]
        images.dtype == torch.float64,
        (images.shape[0], images.shape[1] if images.ndim == 4 else 1, height, width),
        axis_taps(window, sigma, height),
        axis_taps(window, sigma, width),
        BORDERS.index(border),
        attribute_bits(attributes),
        eps is not None,
        floor,
        0.0 if eps is None else eps,
        gray_stack(images),
        gray_stack(values),
        gray_stack(grad_output),
        gray_stack(grad_images),
        torch.get_num_threads(),
    )


def _variance_fits(*tensors: Any, window: int = WINDOW) -> bool:
    return rings_fit(tensors[-1], window, maps=2)


def _gamma_fits(*tensors: Any, window: int = WINDOW) -> bool:
    exposures = tensors[-1]
    return rings_fit(exposures, window, maps=2 * exposures.shape[1])


class MapOperation(Operation):
    """An operation that computes one of the maps, with a gradient w.r.t. the images."""

    def __init__(
        self,
        name: str,
        images: str,
        options: Callable[..., Options],
        forward_kernel: str,
        backward_kernel: str,
        triton: Support,
    ) -> None:
        super().__init__(name, in_transforms=True, cpp=Support(FLOATS), triton=triton)
        launch = triton_launcher(forward_kernel, name)
        launch_backward = triton_launcher(backward_kernel, f"{name}_backward")

        def new_values(images: Tensor, *given: Any) -> Tensor:
            filter_ = options(*given).as_filter()
            return map_like(images, filter_.window, filter_.border)

        def run_cpp(images: Tensor, *given: Any) -> Tensor:
            values = new_values(images, *given)
            _run_cpp(options(*given).as_filter(), images, values=values)
            return values

        def run_cpp_backward(grad_output: Tensor, images: Tensor, *given: Any) -> Tensor:
            grad_images = gradient_like(images)
            filter_ = options(*given).as_filter()
            _run_cpp(filter_, images, grad_output=grad_output, grad_images=grad_images)
            return grad_images

        def run_triton(images: Tensor, *given: Any) -> Tensor:
            return launch(images, *options(*given).as_kernel_arguments(images))

        def run_triton_backward(grad_output: Tensor, images: Tensor, *given: Any) -> Tensor:
            arguments = options(*given).as_kernel_arguments(images)
            return launch_backward(grad_output, images, *arguments)

        def case(*arguments: Any) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
            tensors = tuple(x for x in arguments if isinstance(x, Tensor))
            return tensors, options(*arguments[len(tensors) :]).limits

        schema = ", ".join(filter(None, [f"Tensor {images}", options_schema(options)]))
        self.options = options
        self.forward = self.register(
            f"{name}({schema}) -> Tensor", new_values, case, cpp=run_cpp, triton=run_triton
        )
        self.backward = self.register(
            f"{name}_backward(Tensor grad_output, {schema}) -> Tensor",
            lambda grad_output, images, *given: gradient_like(images),
            case,
            cpp=run_cpp_backward,
            triton=run_triton_backward,
        )


LOCAL_VARIANCE = MapOperation(
    "local_variance",
    "images",
    VarianceOptions,
    "filters.variance",
    "filters.variance",
    Support(GPU_FLOATS, _variance_fits),
)
SOBEL_GRADIENT = MapOperation(
    "sobel_gradient",
    "images",
    SobelOptions,
    "filters.sobel",
    "filters.sobel",
    Support(GPU_FLOATS),
)
GAMMA_WEIGHTS = MapOperation(
    "gamma_weights",
    "exposures",
    GammaOptions,
    "filters.gamma",
    "filters.gamma",
    Support(GPU_FLOATS, _gamma_fits),
)


class Map(Function):
    """Compute one of the maps. The reference ``compute`` is used if no kernel can be started."""

    @staticmethod
    def forward(
        operation: MapOperation,
        compute: Callable[..., Tensor],
        images: Tensor,
        options: Options,
    ) -> Tensor:
        return operation.forward(images, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.operation, ctx.compute, images, ctx.options = inputs
        ctx.save_for_backward(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        (images,) = ctx.saved_tensors
        try:
            grad_images = ctx.operation.backward(grad_output, images, *ctx.options)
        except LaunchError:
            (grad_images,) = reference_gradients(ctx.compute, (images,), (True,), (grad_output,))
        return None, None, grad_images, None


def _run(
    operation: MapOperation, compute: Callable[..., Tensor], images: Tensor, options: Options
) -> Tensor:
    """Run the kernels of ``operation``, or its reference ``compute``."""
    if operation.has_kernels_for(images, **options.limits):
        try:
            return Map.apply(operation, compute, images, options)
        except LaunchError:
            pass
    return recompute(compute, images)


def _run_on_planes(
    operation: MapOperation, compute: Callable[..., Tensor], images: Tensor, options: Options
) -> Tensor:
    """Run ``operation`` on images ``(..., H, W)``."""
    values = _run(operation, compute, flatten_planes(images), options)
    return values.reshape(*images.shape[:-2], *values.shape[-2:])


def local_variance(
    images: Tensor, window: int, sigma: float | None, floor: float, border: str
) -> Tensor:
    options = VarianceOptions(window, sigma, floor, border)
    compute = partial(reference.local_variance, **options._asdict())
    return _run_on_planes(LOCAL_VARIANCE, compute, images, options)


def sobel_gradient(images: Tensor) -> Tensor:
    return _run_on_planes(SOBEL_GRADIENT, reference.sobel_gradient, images, SobelOptions())


def gamma_weights(
    exposures: Tensor, gamma: str, window: int, sigma: float | None, floor: float, eps: float
) -> Tensor:
    options = GammaOptions(gamma, window, sigma, floor, eps)
    compute = partial(reference.gamma_weights, **options._asdict())
    return _run(GAMMA_WEIGHTS, compute, exposures, options)
