"""Tests of the promises that every operation makes on every backend.

A file tests/ops/test_<operation>.py lists its :class:`Case` s in a class derived from
:class:`Conformance`. Every test runs on the reference, on the C++ kernels with each instruction
set, and on the CUDA C++ kernels, which are compiled for the CPU if there is no GPU. With
``TRITON_INTERPRET=1`` (in another process, see tests/test_interpreter.py), it runs in Triton's
interpreter instead; on a GPU, it also runs on the Triton kernels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from cases import arrange
from recorded import RegisteredCalls, check_fakes_on_a_gpu, opcheck
from torch import Tensor

from fastmef import backends, ops  # noqa: F401  # declares every operation
from fastmef.ops.common import cuda
from fastmef.ops.common.operation import OPERATIONS

INSTRUCTION_SETS = ("avx512", "avx2", "baseline")
NOT_FINITE = (float("nan"), float("inf"))
HALVES = (torch.float16, torch.bfloat16)
# The interpreter is slow for every pixel and tap, and does not use vectorised memory accesses.
LAYOUTS = ("transposed", "strided") + (() if backends.INTERPRETED else ("channels_last", "cropped"))


@dataclass(frozen=True)
class Backend:
    """A backend and the device of the tensors that it runs on."""

    name: str
    device: torch.device

    @property
    def kind(self) -> str:
        return backends.CPP if self.name in INSTRUCTION_SETS else self.name

    @property
    def truncates(self) -> bool:
        """Whether values are truncated to bfloat16 instead of rounded, as in the interpreter."""
        return self.kind == backends.TRITON and backends.INTERPRETED


def backend_names(operation: str) -> list[str]:
    """Return the backends of an operation that this process can run."""
    support = OPERATIONS[operation].support
    if backends.INTERPRETED:
        return [backends.TRITON] if backends.TRITON in support else []
    names = [backends.REFERENCE]
    names += INSTRUCTION_SETS if backends.CPP in support else ()
    names += [backends.CUDA] if backends.CUDA in support else []
    return names + (
        [backends.TRITON] if torch.cuda.is_available() and not backends.WHY_NO_TRITON else []
    )


@dataclass(frozen=True)
class Case:
    """A call of an operation, and the same call of the reference.

    Args:
        name: name of the case.
        function: the operation as a function of the tensors alone.
        reference: the same function in plain PyTorch.
        inputs: returns float64 tensors for planes of a height and a width.
        grads: positions of the inputs that have a gradient, if any.
        noise: allowed errors of outputs and gradients in addition to rounding, if terms cancel.
        roundings: how often a gradient in half precision is rounded.
        thorough: whether all promises are tested, not only values and gradients.
        limits: arguments of the record's choice in addition to the tensors.
        record_tensors: returns the tensors for the record's choice.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: Callable[[int, int], tuple[Tensor, ...]]
    grads: tuple[int, ...] = (0,)
    noise: tuple[float, float] = (1e-7, 1e-6)
    roundings: int = 1
    thorough: bool = False
    limits: dict[str, Any] = field(default_factory=dict)
    record_tensors: Callable[..., tuple[Tensor | None, ...]] = lambda *tensors: tensors

    def evaluate(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs, then the gradients of a weighted sum of them, on the CPU."""
        given = [x.detach().requires_grad_(i in self.grads) for i, x in enumerate(inputs)]
        outputs = function(*given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(9)
        weights = [
            # These weights are exact in every dtype.
            (torch.randint(1, 17, x.shape, generator=generator) / 16).to(x)
            for x in outputs
        ]
        wanted = [x for x in given if x.requires_grad]
        pairs = [(x, w) for x, w in zip(outputs, weights, strict=True) if x.requires_grad]
        sums = [x for x, _ in pairs], wanted, [w for _, w in pairs]
        grads = torch.autograd.grad(*sums) if wanted else ()
        assert [x.dtype for x in grads] == [x.dtype for x in wanted]
        return [x.detach().cpu() for x in (*outputs, *grads)]


class Conformance:
    """Tests of the promises of one operation.

    ``operation`` names its record; ``cases`` are compared with the reference.
    """

    operation: str
    cases: Sequence[Case]
    size = (6, 7) if backends.INTERPRETED else (12, 13)
    layout_changes_no_bit = True
    sizes: Sequence[tuple[int, int]] = ((1, 1), (2, 3), (3, 131))

    def run(self, case: Case, backend: Backend, inputs: Sequence[Tensor]) -> list[Tensor]:
        moved = [x.to(backend.device) for x in inputs]
        record, asked = OPERATIONS[self.operation], case.record_tensors(*moved)
        support = record.support.get(backend.kind)
        covered = support is not None and (
            all(x.dtype in support.dtypes for x in inputs) and support.covers(*asked, **case.limits)
        )
        chosen = record.backend(*asked, **case.limits)
        assert chosen == (backend.kind if covered else backends.REFERENCE)
        return case.evaluate(case.function, moved)

    def check(self, case: Case, backend: Backend, inputs: Sequence[Tensor]) -> None:
        """Check that the error is at most twice that of the reference in float32, plus rounding.

        In float64, the error of the reference in float32 is scaled by the ratio of the rounding
        units.
        """
        dtype = inputs[0].dtype
        exact = case.evaluate(case.reference, [x.double() for x in inputs])
        found = self.run(case, backend, inputs)
        wide = dtype == torch.float64
        single = case.evaluate(case.reference, [x.float() for x in inputs])
        outputs = len(exact) - len(case.grads)
        for index, (e, s, f) in enumerate(zip(exact, single, found, strict=True)):
            assert f.shape == e.shape
            unit = torch.finfo(f.dtype).eps * (1.01 if backend.truncates else 0.51)
            unit *= case.roundings if index >= outputs else 1
            largest = float(e.abs().max())
            noise = case.noise[index >= outputs] * (1e-7 if wide else 1)
            rounding = (4 * unit if wide else unit + 5e-7) * largest + noise
            budget = (2**-28 if wide else 2) * float((s.double() - e).abs().max()) + rounding
            assert float((f.double() - e).abs().max()) <= budget

    def test_values_and_gradients(self, case: Case, backend: Backend) -> None:
        self.check(case, backend, [x.float() for x in case.inputs(*self.size)])

    def test_sizes(self, case: Case, backend: Backend) -> None:
        for size in self.sizes:
            self.check(case, backend, [x.float() for x in case.inputs(*size)])

    def test_float64(self, case: Case, backend: Backend) -> None:
        self.check(case, backend, [x.double() for x in case.inputs(*self.size)])

    @pytest.mark.parametrize("dtype", HALVES, ids=str)
    def test_half_precision(self, case: Case, backend: Backend, dtype: torch.dtype) -> None:
        self.check(case, backend, [x.to(dtype) for x in case.inputs(*self.size)])

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layouts(self, case: Case, backend: Backend, layout: str) -> None:
        """Check that the memory layout changes no bit, or only rounding."""
        inputs = [x.float().to(backend.device) for x in case.inputs(*self.size)]
        moved = [x if x.ndim < 3 else arrange(x, layout) for x in inputs]
        asked = OPERATIONS[self.operation].backend(*case.record_tensors(*moved), **case.limits)
        if asked == backends.REFERENCE or not self.layout_changes_no_bit:
            self.check(case, backend, moved)
            return
        results = self.run(case, backend, inputs), self.run(case, backend, moved)
        assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))

    def test_same_bits_again(self, case: Case, backend: Backend) -> None:
        inputs = [x.float() for x in case.inputs(*self.size)]
        pairs = zip(*(self.run(case, backend, inputs) for _ in range(2)), strict=True)
        assert all(torch.equal(x, y) for x, y in pairs)

    def make_every_call(self, backend: Backend) -> None:
        """Make calls that reach every registered operation of the record."""
        for case in (x for x in self.cases if x.thorough):
            inputs = [x.float() for x in case.inputs(*self.size)]
            self.run(case, backend, inputs)
            with torch.no_grad():
                case.function(*(x.to(backend.device) for x in inputs))

    def test_registered_operations(self, backend: Backend) -> None:
        with RegisteredCalls() as calls:
            self.make_every_call(backend)
        kernels = OPERATIONS[self.operation].kernels
        assert calls.names >= {name for name, of in kernels.items() if backend.kind in of}
        opcheck(calls, thoroughly=not backends.INTERPRETED)
        check_fakes_on_a_gpu(calls)

    @pytest.mark.parametrize("bad", NOT_FINITE)
    def test_not_finite(self, case: Case, backend: Backend, bad: float) -> None:
        """Check that a non-finite input affects the same outputs as in the reference."""
        clean = [x.float() for x in case.inputs(*self.size)]
        for index in range(len(clean)):
            inputs = [x.clone() for x in clean]
            inputs[index][(..., -2, -3)[: 1 + inputs[index].ndim]] = bad
            expected = case.evaluate(case.reference, inputs)
            for e, f in zip(expected, self.run(case, backend, inputs), strict=True):
                assert torch.equal(f.isfinite(), e.isfinite())


@contextmanager
def run_on(name: str, emulation: Callable[[], ModuleType]) -> Iterator[Backend]:
    """Run every operation on one backend."""
    device = torch.device("cpu")
    with pytest.MonkeyPatch.context() as patch:
        if name == backends.TRITON:
            device = torch.device("cpu" if backends.INTERPRETED else "cuda")
            patch.setattr(backends, "WHY_NO_CUDA", "not tested now")
        elif name == backends.REFERENCE:
            patch.setattr(backends, "usable_on", lambda device: ())
        elif name in INSTRUCTION_SETS:
            module = backends.CPU
            if module is None or name not in module.available_isas():
                pytest.skip(f"this processor or build has no {name} variant")
            before = module.active_isa()
            module.use_isa(name)
        elif torch.cuda.is_available() and not backends.WHY_NO_CUDA:
            device = torch.device("cuda")
        else:
            patch.setattr(backends, "CUDA_MODULE", emulation())
            patch.setattr(backends, "usable_on", lambda device: (backends.CUDA,))
            patch.setattr(cuda, "device_and_stream", lambda operation, *tensors: (0, 0))
        emulated = name == backends.CUDA and device.type == "cpu"
        with _cuda_kernels_on_cpu() if emulated else nullcontext():
            yield Backend(name, device)
        if name in INSTRUCTION_SETS:
            module.use_isa(before)


@contextmanager
def _cuda_kernels_on_cpu() -> Iterator[None]:
    """Dispatch CPU tensors to the CUDA C++ kernels of the emulation."""
    with torch.library._scoped_library("fastmef", "IMPL") as library, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that these kernels replace the C++ kernels
        for operation in OPERATIONS.values():
            for name, kernels in operation.kernels.items():
                if backends.CUDA in kernels:
                    library.impl(name, kernels[backends.CUDA], "CPU", allow_override=True)
        yield


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrise every test with the cases of its class and the backends of its operation."""
    if metafunc.cls is None or not issubclass(metafunc.cls, Conformance):
        return
    if "case" in metafunc.fixturenames:
        every = metafunc.definition.name == "test_values_and_gradients"
        cases = [x for x in metafunc.cls.cases if every or x.thorough]
        metafunc.parametrize("case", cases, ids=lambda case: case.name)
    if "backend" in metafunc.fixturenames:
        names = backend_names(metafunc.cls.operation)
        if metafunc.definition.name == "test_registered_operations":
            # All instruction sets have the same registered operations.
            names = [x for x in names if x not in (backends.REFERENCE, *INSTRUCTION_SETS[:-1])]
        metafunc.parametrize("backend", names, indirect=True)
