"""torch.func: gradients, batched calls and both together equal autograd's, one by one."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, jacrev, vmap

from fastmef import FusionNet, WeightedSSIMLoss, functional, metrics
from fastmef.nn import BrightnessLoss, ColorContrastLoss, FusionObjective
from fastmef.nn.losses import WeightedSSIMLoss as Loss

BATCH = 3
PLANES = torch.rand(2, 3, 24, 25, dtype=torch.float64)
COLOR = torch.rand(2, 3, 3, 24, 25, dtype=torch.float64)
MIX = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).reshape(1, 3, 1, 1)


def of_gray(function):
    """Return the score of an image similar to the exposures; scores of others are clamped."""
    return lambda x: function((MIX * PLANES).sum(1) + 0.1 * x)


def of_color(function):
    return lambda x: function((MIX.unsqueeze(2) * COLOR).sum(1) + 0.1 * x.unsqueeze(1))


# Each is a function of (2, 24, 25) or, from logits, of (2, 3, 24, 25).
OF_IMAGES = {
    "local_variance": functional.local_variance,
    "sobel_gradient": functional.sobel_gradient,
    "well_exposedness": functional.well_exposedness,
    "ssim": lambda x: functional.ssim(x, PLANES[:, 0]),
    "ssim map": lambda x: functional.ssim(x, PLANES[:, 0], reduction="none"),
    "weighted_ssim_loss": lambda x: functional.weighted_ssim_loss(x, PLANES, scales=(0.6, 0.4)),
    "loss map": lambda x: functional.weighted_ssim_loss(x, PLANES, reduction="none"),
    "own gamma": lambda x: Loss(functional.well_exposedness)(x, PLANES),
    "mef_ssim": of_gray(lambda f: functional.mef_ssim(f, PLANES)),
    "mefnet": of_gray(lambda f: functional.mef_ssim(f, PLANES, "mefnet")),
    "color2018": of_color(lambda f: functional.mef_ssim(f, COLOR, "color2018")),
    "MEFSSIM": of_gray(lambda f: metrics.MEFSSIM(PLANES).score(f)),
    "BrightnessLoss": of_color(lambda f: BrightnessLoss(1)(f, COLOR)),
    "ColorContrastLoss": of_color(lambda f: ColorContrastLoss(0)(f, COLOR)),
    "FusionObjective": of_color(lambda f: FusionObjective()(f, COLOR).total),
}
OF_LOGITS = {
    "softmax_fuse": lambda x: functional.softmax_fuse(x, COLOR),
    "weights": lambda x: functional.softmax_fuse(x, COLOR, True)[1],
    "fusion_loss": lambda x: functional.fusion_loss(x, PLANES),
    "gamma_weights": functional.gamma_weights,
    "guided_upsample_fuse": lambda x: functional.guided_upsample_fuse(x[..., ::2, ::3], COLOR),
    "multiscale_fuse": lambda x: functional.multiscale_fuse(x[..., ::2, :13], COLOR),
}
CASES = {name: (f, (2, 24, 25)) for name, f in OF_IMAGES.items()}
CASES |= {name: (f, (2, 3, 24, 25)) for name, f in OF_LOGITS.items()}


def scalar(function):
    return lambda x: function(x).square().sum()


@pytest.mark.parametrize("name", CASES)
def test_every_operation(name):
    function, shape = CASES[name]
    inputs = torch.rand(BATCH, *shape, dtype=torch.float64)
    outputs, grads = [], []
    for x in inputs:
        x = x.clone().requires_grad_()
        outputs.append(function(x))
        grads.append(*torch.autograd.grad(scalar(function)(x), x))
    outputs, grads = torch.stack(outputs).detach(), torch.stack(grads)
    assert grads.abs().max() > 1e-9

    def close(got, expected):
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-12)

    close(vmap(function)(inputs), outputs)
    close(grad(scalar(function))(inputs[0]), grads[0])
    close(vmap(grad(scalar(function)))(inputs), grads)
    close(grad(lambda x: vmap(scalar(function))(x).sum())(inputs), grads)


# Other operations are composed of these and of PyTorch's own.
WITH_KERNELS = (
    "local_variance",
    "sobel_gradient",
    "ssim",
    "ssim map",
    "weighted_ssim_loss",
    "loss map",
    "mef_ssim",
    "mefnet",
    "MEFSSIM",
    "softmax_fuse",
    "weights",
    "fusion_loss",
    "gamma_weights",
)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_kernels_run(name, kernels):
    """The results have the bits of the kernels, not those of plain PyTorch."""
    function, shape = CASES[name]
    inputs = torch.rand(BATCH, *shape, dtype=torch.float64)
    outputs = torch.stack([function(x) for x in inputs])
    grads = torch.stack(
        [
            torch.autograd.grad(scalar(function)(y), y)[0]
            for y in inputs.clone().requires_grad_().unbind()
        ]
    )
    assert torch.equal(vmap(function)(inputs), outputs)
    assert torch.equal(vmap(grad(scalar(function)))(inputs), grads)
    assert torch.equal(grad(lambda x: vmap(scalar(function))(x).sum())(inputs), grads)


def test_second_derivatives():
    planes, fused = PLANES[:1, :2, :5, :6], torch.rand(1, 5, 6, dtype=torch.float64)

    def loss(x):
        return functional.weighted_ssim_loss(x, planes, window=3)

    second = jacrev(grad(loss))(fused).reshape(30, 30)
    assert second.abs().max() > 1e-6
    torch.testing.assert_close(second, second.T)
    leaf = fused.clone().requires_grad_()
    grad(loss)(leaf).flatten()[7].backward()
    torch.testing.assert_close(leaf.grad.flatten(), second[7])


def test_gradient_of_another_input():
    """Gradients that a kernel does not compute come from functions that do."""
    fused = PLANES[:, 0]
    got = grad(lambda x: functional.weighted_ssim_loss(fused, x))(PLANES)
    exposures = PLANES.clone().requires_grad_()
    functional.weighted_ssim_loss(fused, exposures).backward()
    torch.testing.assert_close(got, exposures.grad, rtol=1e-7, atol=1e-12)


def test_half_precision():
    fused, exposures = PLANES[:, 0].half(), PLANES.half()
    got = grad(lambda x: functional.weighted_ssim_loss(x, exposures))(fused)
    exact = grad(lambda x: functional.weighted_ssim_loss(x, exposures.double()))(fused.double())
    assert got.dtype == torch.float16
    assert ((got - exact).abs() <= 1e-3 * exact.abs() + 6e-8).all()


@pytest.mark.parametrize("exposures", [3, "any"])
def test_gradients_of_each_sample(exposures):
    """Compute gradients w.r.t. the parameters for each sample, with functional_call."""
    net = FusionNet(exposures, 2).double().eval()
    torch.nn.init.normal_(net.body.head.weight)
    parameters, loss = dict(net.named_parameters()), WeightedSSIMLoss()

    def loss_of(parameters, sample):
        fused, _ = functional_call(net, parameters, (sample[None],))
        return loss(fused, sample[None])

    grads = vmap(grad(loss_of), in_dims=(None, 0))(
        {name: value.detach() for name, value in parameters.items()}, COLOR
    )
    for n, sample in enumerate(COLOR):
        expected = torch.autograd.grad(loss_of(parameters, sample), list(parameters.values()))
        for name, value in zip(parameters, expected, strict=True):
            torch.testing.assert_close(grads[name][n], value, rtol=1e-6, atol=1e-12)
