"""Compile all Triton kernels without a GPU and report registers and memory of the machine code.

python -m bench.machine_code triton              # all files of kernels/, a table on the screen
python -m bench.machine_code triton kernels/fusion/forward.py    # one file
python -m bench.machine_code triton --write      # also machine_code.json and compiled.md

The exit status is 1 if a kernel spills registers, uses more than its budget, or computes addresses
with 32-bit products. torch is not needed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.machine_code import results, sass
from bench.machine_code.offsets import narrow_products
from bench.tables import rewrite

ROOT = Path(__file__).parents[2]
ARCHITECTURES = (80, 90, 100)


def _import(path: Path) -> ModuleType:
    """Import a file: in kernels/ as a module of the checkout's package, otherwise on its own."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    if path.is_relative_to(ROOT / "kernels"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        return importlib.import_module(".".join(parts))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _shown(path: Path) -> str:
    """Return ``fusion/forward`` for kernels/fusion/forward.py."""
    folder = ROOT / "kernels"
    return (
        str(path.relative_to(folder).with_suffix("")) if path.is_relative_to(folder) else path.stem
    )


def _source(configuration: Any) -> Any:
    from triton.compiler import ASTSource

    signature, hints = {}, {}
    for index, name in enumerate(configuration.kernel.arg_names):
        if name in configuration.constants:
            signature[name] = "constexpr"
            continue
        signature[name], _, hint = configuration.signature[name].partition(":")
        if hint:
            hints[(index,)] = [["tt.divisibility", int(hint)]]
    given = {*configuration.signature, *configuration.constants}
    if unknown := given - set(configuration.kernel.arg_names):
        raise ValueError(f"{configuration.name}: no arguments {', '.join(sorted(unknown))}")
    return ASTSource(configuration.kernel, signature, dict(configuration.constants), hints)


def measure(configuration: Any, architecture: int) -> dict[str, Any]:
    """Return registers and memory of one variant."""
    import triton
    from triton.backends.compiler import GPUTarget

    compiled = triton.compile(
        _source(configuration),
        target=GPUTarget("cuda", architecture, 32),
        options={
            "num_warps": configuration.num_warps,
            "num_stages": configuration.num_stages,
            "enable_fp_fusion": True,
            "maxnreg": configuration.maxnreg.get(architecture),
        },
    )
    (kernel,) = sass.kernels_of(compiled.asm["cubin"]).values()
    return {
        "registers": kernel.resources["REG"],
        # The shared memory of the launch, or that of the compiled code if it is larger.
        "shared": max(compiled.metadata.shared, kernel.resources["SHARED"]),
        "stack": kernel.resources["STACK"],
        "spills": sass.spills(kernel),
        "narrow_offsets": narrow_products(compiled.asm["ttir"]),
    }


def _measure(architecture: int, task: tuple[Path, int]) -> dict[str, Any]:
    path, index = task
    configuration = _import(path).CONFIGURATIONS[index]
    result = {
        "file": _shown(path),
        "name": configuration.name,
        "architecture": architecture,
        "budget": configuration.registers,
        "bytes_per_pixel": configuration.bytes_per_pixel,
    }
    try:
        return {**result, **measure(configuration, architecture)}
    except Exception as error:  # a variant that does not compile must not hide the others
        return {**result, "error": " ".join(str(error).split())[:300] or repr(error)}


def _knows(architecture: int) -> bool:
    """Return whether the installed Triton supports this architecture."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    target, options = GPUTarget("cuda", architecture, 32), {"enable_fp_fusion": True}
    try:
        triton.compile(ASTSource(_nothing(), {}, {}), target=target, options=options)
    except Exception:
        return False
    return True


def _nothing() -> Any:
    import triton

    @triton.jit
    def nothing() -> None:
        pass

    return nothing


def why_wrong(result: dict[str, Any]) -> str:
    """Say what is wrong with a variant; return an empty text if nothing is."""
    if "error" in result:
        return f"does not compile: {result['error']}"
    if result["spills"] or result["stack"]:
        return f"spills ({result['spills']} accesses, {result['stack']} bytes of stack)"
    if result["registers"] > result["budget"]:
        return f"uses {result['registers']} registers, budget {result['budget']}"
    if result["narrow_offsets"]:
        return f"computes addresses in 32 bits: {'; '.join(result['narrow_offsets'])}"
    return ""


def compile_all(files: list[Path], architectures: list[int], jobs: int) -> list[dict[str, Any]]:
    tasks = []
    for path in files:
        configurations = getattr(_import(path), "CONFIGURATIONS", [])
        names = [x.name for x in configurations]
        if len(set(names)) < len(names):
            raise SystemExit(f"{path}: two configurations have one name")
        tasks += [(path, index) for index in range(len(names))]
    # Processes are spawned, because a process with LLVM's threads must not be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(jobs, len(tasks))), mp_context=context) as pool:
        found = [pool.map(partial(_measure, x), tasks) for x in architectures]
        return [result for one in found for result in one]


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an entry for each variant, with a number for each architecture."""
    entries: dict[str, Any] = {}
    for result in found:
        entry = entries.setdefault(
            f"{result['file']}: {result['name']}",
            {"bytes_per_pixel": result["bytes_per_pixel"], "budget": result["budget"]},
        )
        for key in ("registers", "shared", "spills"):
            entry.setdefault(key, []).append(result.get(key))
    return entries


def table(entries: dict[str, Any]) -> str:
    """Return a table with a line for each variant; architectures are separated by slashes."""
    names = " / ".join(f"sm_{x}" for x in entries["architectures"])
    lines = [
        f"Triton {entries['version']}. Registers, shared bytes and spills: {names}.",
        "",
        "| kernel | registers | most | shared | spills | bytes/pixel at least |",
        "|---|---|---:|---|---|---:|",
    ]
    for name, entry in entries.items():
        if name in ("version", "architectures"):
            continue
        cells = [
            " / ".join("–" if x is None else str(x) for x in entry[key])
            for key in ("registers", "shared", "spills")
        ]
        cells.insert(1, str(entry["budget"]))
        lines.append(f"| {name} | {' | '.join(cells)} | {entry['bytes_per_pixel']:g} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.machine_code triton", description=__doc__.split("\n")[0]
    )
    parser.add_argument("files", nargs="*", type=Path, help="files with CONFIGURATIONS")
    parser.add_argument("--architectures", nargs="+", type=int, default=list(ARCHITECTURES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true", help="rewrite the committed results")
    options = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("unset TRITON_INTERPRET: interpreted kernels cannot be compiled")
    import triton

    known = [x for x in options.architectures if _knows(x)]
    for x in options.architectures:
        if x not in known:
            print(f"sm_{x}: Triton {triton.__version__} does not know it")
    files = [x.resolve() for x in options.files] or sorted((ROOT / "kernels").rglob("[!_]*.py"))
    found = compile_all(files, known, options.jobs)
    head = {"version": triton.__version__, "architectures": known}
    text = table({**head, **summary(found)})
    print(text)
    wrong = [(x, why) for x in found if (why := why_wrong(x))]
    for x, why in wrong:
        print(f"{x['file']}: {x['name']}, sm_{x['architecture']}: {why}", file=sys.stderr)
    if options.write:
        results.replace("triton", {**head, **summary(found)})
        rewrite("triton", text)
    return 1 if wrong or not found else 0
