"""Export networks to ONNX or to a program of torch.export, which run without fastmef."""

from __future__ import annotations

import io
import logging
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastmef.data.files import atomic_write, check_output, display
from fastmef.errors import InputError, MissingExtraError, shown
from fastmef.nn.network import FusionNet
from fastmef.reference.multiscale import base_logits

FORMATS = (".onnx", ".pt2")

_DYNAMIC = torch.export.Dim.DYNAMIC


def export_network(network: FusionNet, path: str | os.PathLike[str], force: bool = False) -> None:
    r"""Write a network to a file that runs without fastmef, for images of any size.

    The suffix decides the format: ``.onnx``, or ``.pt2``, which :func:`torch.export.load` reads.
    Both hold standard operators in float32 only. Batch size, H and W are dynamic, with H and W of
    at least 9; with ``exposures="any"`` K is dynamic, too.

    A network for K exposures maps ``exposures`` ``(B, K, 3, H, W)`` to ``fused`` ``(B, 3, H, W)``
    and ``weights`` ``(B, K, H, W)``. One for any number maps ``base`` ``(B, K, 3, h, w)`` of about
    64 kpixels and ``shares`` ``(B, K)``, from :func:`fastmef.functional.exposure_shares` or all 1,
    to ``weights`` ``(B, K, h, w)``. It does not contain the bands of detail of
    :func:`fastmef.functional.multiscale_fuse`, whose number depends on the size.

    Args:
        network: the network, which is exported in eval mode and not changed.
        path: the file to write.
        force: whether to replace an existing file.

    Raises:
        InputError: another suffix, or a network that is not a :class:`FusionNet`.
        OutputError: the file exists already or cannot be written.
        MissingExtraError: ONNX needs the packages onnx and onnxscript.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_network(FusionNet(width=2), f"{folder}/net.pt2")
        ...     module = torch.export.load(f"{folder}/net.pt2").module()
        >>> fused, weights = module(torch.rand(1, 2, 3, 40, 50))
        >>> fused.shape
        torch.Size([1, 3, 40, 50])
    """
    if not isinstance(network, FusionNet):
        raise InputError(f"network must be a FusionNet, got {shown(network)}")
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{display(path)}: the name must end in {' or '.join(FORMATS)}")
    check_output(path, force)
    if suffix == ".onnx":
        _require_onnx()
    case = _case(network)
    # The exporters' warnings concern their own code.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            case.module, case.example, dynamic_shapes=tuple(case.dynamic.values())
        )
        content = _onnx(program, case) if suffix == ".onnx" else _pt2(program)
    atomic_write(path, content, force)


class _FixedNumber(nn.Module):
    """Return the fused image and the weights for the K exposures of the network."""

    def __init__(self, network: FusionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, exposures: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.network.logits(exposures).softmax(dim=1)
        return (weights.unsqueeze(2) * exposures).sum(dim=1), weights


class _AnyNumber(nn.Module):
    """Return the weights of the base for any number of exposures."""

    def __init__(self, network: FusionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, base: Tensor, shares: Tensor) -> Tensor:
        logits = self.network.logits(base, shares)
        return base_logits(logits, shares, None).softmax(dim=1)


class _Case(NamedTuple):
    """A module to export with its example inputs, dynamic axes and names of outputs."""

    module: nn.Module
    example: tuple[Tensor, ...]
    dynamic: dict[str, dict[int, Any]]
    """The dynamic axes of each input, under its name."""
    outputs: list[str]


def _case(network: FusionNet) -> _Case:
    """Return the module of a network to export, with an example of its inputs."""
    # The exporter could take sizes for constants if they were equal, 1 or multiples of the stride.
    network = _plain_copy(network)
    free = {0: _DYNAMIC, 3: _DYNAMIC, 4: _DYNAMIC}
    if network.takes_any:
        example = (torch.rand(2, 3, 3, 45, 52), torch.ones(2, 3))
        dynamic = {"base": {**free, 1: _DYNAMIC}, "shares": {0: _DYNAMIC, 1: _DYNAMIC}}
        return _Case(_AnyNumber(network).eval(), example, dynamic, ["weights"])
    exposures = torch.rand(3, network.config["exposures"], 3, 45, 52)
    outputs = ["fused", "weights"]
    return _Case(_FixedNumber(network).eval(), (exposures,), {"exposures": free}, outputs)


def _plain_copy(network: FusionNet) -> FusionNet:
    """Return a copy of the network on the CPU in float32 and eval mode."""
    copy = FusionNet(**network.config)
    copy.load_state_dict(network.state_dict())
    return copy.float().eval().requires_grad_(False)


def _pt2(program: torch.export.ExportedProgram) -> bytes:
    """Return the bytes of a ``.pt2`` file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def _onnx(program: torch.export.ExportedProgram, case: _Case) -> bytes:
    """Return the bytes of an ONNX file."""
    exported = torch.onnx.export(
        program, input_names=list(case.dynamic), output_names=case.outputs, verbose=False
    )
    assert exported is not None
    return exported.model_proto.SerializeToString()


def _require_onnx() -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "ONNX needs onnxscript, which is not installed: pip install 'fastmef[export]'"
        ) from error
