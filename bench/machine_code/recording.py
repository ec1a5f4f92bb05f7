"""Record the kernels that an operation launches on a GPU, with CPU tensors and without a GPU.

Within :func:`recording`, the operations of fastmef treat CPU tensors as GPU tensors: the public
function checks, selects a backend and prepares the launch as usual, and the launch is recorded
instead of run. Results are not computed.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from filelock import FileLock

from bench.machine_code import sass
from bench.machine_code.execution import Launch
from bench.machine_code.sass import Kernel

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
ARCHITECTURE = 90
NAME = "_cuda_recorded"
LISTENER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, *(ctypes.c_uint,) * 5, ctypes.POINTER(ctypes.c_void_p)
)


@dataclass(frozen=True)
class Recorded:
    """A launch, and the kernel that it runs."""

    toolchain: str
    name: str
    kernel: Kernel
    launch: Launch
    shared: int  # bytes of shared memory of a block


def _run(*command: Any) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


def _build(nvcc: str, operations: str, folder: Path) -> Path:
    """Compile CUDA C++ kernels of the checkout and link them with the recorder."""
    import pybind11

    includes = [f"-I{x}" for x in (CSRC, pybind11.get_include(), sysconfig.get_paths()["include"])]
    macros = [f"-DFASTMEF_MODULE={NAME}", f'-DFASTMEF_CUDA_BUILT_FOR="sm_{ARCHITECTURE}"']
    flags = ["-O3", "-std=c++17", f"-arch=sm_{ARCHITECTURE}", "-Xcompiler=-fPIC", "-cudart=none"]
    sources = [CSRC / "common" / "module.cpp", *sorted(CSRC.glob(f"cuda/{operations}/*.c*"))]
    sources.append(Path(__file__).with_name("recorder.cpp"))
    objects = [folder / f"{x.parent.name}_{x.stem}.o" for x in sources]

    def compile_one(source: Path, to: Path) -> None:
        _run(nvcc, *flags, *includes, *macros, "-c", source, "-o", to)
        if source.suffix == ".cu":
            to.with_suffix(".cubin").write_bytes(sass.cubin_of(to))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources, objects))
    library = folder / f"{NAME}.so"
    _run(nvcc, "-shared", "-cudart=none", *objects, "-o", library)
    return library


class CudaKernels:
    """The CUDA C++ kernels: a binding that records launches, and their machine code.

    ``operations`` is a pattern of the folders in ``csrc/cuda`` that are compiled.
    """

    def __init__(self, nvcc: str, operations: str) -> None:
        sources = sorted(x for x in CSRC.rglob("*") if x.is_file() and "cpu" not in x.parts)
        content = b"".join([operations.encode(), *(x.read_bytes() for x in sources)])
        digest = hashlib.sha256(content).hexdigest()[:16]
        folder = ROOT / "build" / "machine_code" / digest
        library = folder / f"{NAME}.so"
        folder.mkdir(parents=True, exist_ok=True)
        # Tests run in parallel, so only one process may compile.
        with FileLock(folder / "lock"):
            if not library.exists():
                _build(nvcc, operations, folder)
        spec = importlib.util.spec_from_file_location(NAME, library)
        assert spec is not None and spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.library = ctypes.CDLL(str(library))
        self.cubins: dict[str, bytes] = {}  # mangled name → cubin
        for path in folder.glob("*.cubin"):
            cubin = path.read_bytes()
            self.cubins.update(dict.fromkeys(sass.names_of(cubin), cubin))
        self.kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        if name not in self.kernels:
            self.kernels.update(sass.kernels_of(self.cubins[name]))
        return self.kernels[name]

    @contextmanager
    def listening(self, record: Callable[[Recorded], None]) -> Iterator[None]:
        def heard(
            name: bytes, x: int, y: int, z: int, threads: int, dynamic: int, arguments: Any
        ) -> None:
            kernel = self.kernel(name.decode())
            size = max((offset + n for offset, n in kernel.parameters), default=0)
            content = bytearray(size)
            for i, (offset, length) in enumerate(kernel.parameters):
                content[offset : offset + length] = ctypes.string_at(arguments[i], length)
            launch = Launch((x, y, z), threads, bytes(content))
            shared = kernel.resources.get("SHARED", 0) + dynamic
            record(Recorded("nvcc", name.decode(), kernel, launch, shared))

        callback = LISTENER(heard)
        self.library.fastmef_listen(callback)
        try:
            yield
        finally:
            self.library.fastmef_listen(None)


class TritonKernels:
    """The Triton kernels, compiled for the arguments of each launch."""

    def __init__(self) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.compiler import make_backend

        self.target = GPUTarget("cuda", ARCHITECTURE, 32)
        self.backend = make_backend(self.target)
        self.compiled: dict[Any, tuple[Kernel, Any]] = {}

    @contextmanager
    def listening(self, record: Callable[[Recorded], None]) -> Iterator[None]:
        from triton.runtime.jit import JITFunction

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
            record(self.record(kernel, grid, args, options))

        with mock.patch.object(JITFunction, "run", run):
            yield

    def record(self, kernel: Any, grid: Any, args: Any, options: dict[str, Any]) -> Recorded:
        import triton
        from triton.compiler import ASTSource
        from triton.runtime.jit import create_function_from_signature

        options = {"debug": False, **options}
        bind = create_function_from_signature(kernel.signature, kernel.params, self.backend)
        bound, specialization, rest = bind(*args, **options)
        key = kernel, str(specialization), str(sorted(rest.items(), key=str))
        if key not in self.compiled:
            parsed, signature, constants, hints = kernel._pack_args(
                self.backend, options, bound, specialization, rest
            )
            source = ASTSource(kernel, signature, constants, hints)
            compiled = triton.compile(source, target=self.target, options=parsed.__dict__)
            (code,) = sass.kernels_of(compiled.asm["cubin"]).values()
            self.compiled[key] = code, (compiled.metadata, signature)
        code, (metadata, signature) = self.compiled[key]
        grid = grid(bound) if callable(grid) else grid
        x, y, z = (*grid, 1, 1)[:3]
        content = _pack(
            code, [bound[name] for name, kind in signature.items() if kind != "constexpr"]
        )
        shared = max(metadata.shared, code.resources.get("SHARED", 0))
        launch = Launch((x, y, z), 32 * metadata.num_warps, content)
        return Recorded("Triton", kernel.fn.__name__, code, launch, shared)


def _pack(kernel: Kernel, values: list[Any]) -> bytes:
    """Lay out run-time arguments as in the constant bank; Triton's own pointers are 0."""
    size = max((offset + n for offset, n in kernel.parameters), default=0)
    content = bytearray(size)
    for (offset, length), value in zip(kernel.parameters, _flat(values), strict=False):
        if isinstance(value, torch.Tensor):
            value = value.data_ptr()
        if isinstance(value, float):
            packed = bytes(ctypes.c_float(value))[:length]
        else:
            packed = int(value).to_bytes(16, "little", signed=True)[:length]
        content[offset : offset + length] = packed
    return bytes(content)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flat(value)
        else:
            yield value


@contextmanager
def recording(
    backends_in_use: tuple[str, ...], cuda: CudaKernels | None, triton: TritonKernels
) -> Iterator[list[Recorded]]:
    """Treat CPU tensors as GPU tensors and yield a list that collects the launches.

    ``cuda`` is ``None`` without nvcc.
    """
    from fastmef import backends
    from fastmef.ops.common import cuda as common
    from fastmef.ops.common.operation import OPERATIONS

    launches: list[Recorded] = []
    gpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    library = torch.library.Library("fastmef", "IMPL")
    with ExitStack() as stack:
        for operation in OPERATIONS.values():
            for name, kernels in operation.kernels.items():
                if backends.TRITON in kernels or backends.CUDA in kernels:
                    packet = getattr(torch.ops.fastmef, name).default
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", message=".*operators may also be over")
                        library.impl(name, _redirect(packet, gpu), "CPU", allow_override=True)
        patches = {
            "usable_on": lambda device: backends_in_use,
            "CUDA_MODULE": cuda.module if cuda else None,
        }
        for name, value in patches.items():
            stack.enter_context(mock.patch.object(backends, name, value))
        there = mock.patch.object(common, "device_and_stream", lambda *given: (0, 0))
        stack.enter_context(there)
        stack.enter_context(triton.listening(launches.append))
        if cuda:
            stack.enter_context(cuda.listening(launches.append))
        try:
            yield launches
        finally:
            library._destroy()


def _redirect(operation: Any, gpu: Any) -> Callable[..., Any]:
    return lambda *arguments: operation.redispatch(gpu, *arguments)
