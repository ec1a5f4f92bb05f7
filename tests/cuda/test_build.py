"""The build of setup.py with scripts that replace several versions of nvcc and compile nothing."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (ROOT / "setup.py").exists(),
    reason="a checkout, and scripts for Linux",
)
# Libraries of the C library, which the linked run-time needs if libc does not contain them.
SYSTEM = ("libdl", "librt", "libpthread", "ld")
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 103, 120)


@pytest.fixture
def compiler(tmp_path: Path) -> Callable[..., str]:
    """A script that answers like nvcc of a release, and cannot compile."""

    def write(release: str, newest: int = ARCHITECTURES[-1], dryrun: str = "exit 7") -> str:
        known = " ".join(f"compute_{x}" for x in ARCHITECTURES if x <= newest)
        script = tmp_path / "nvcc"
        script.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            f'  --version) echo "Cuda compilation tools, release {release}, V{release}.0" ;;\n'
            f"  --list-gpu-arch) printf '%s\\n' {known} ;;\n"
            f"  --dryrun*) {dryrun} ;;\n"
            '  *) echo "nvcc got: $*"; exit 7 ;;\n'
            "esac\n"
        )
        script.chmod(0o755)
        return str(script)

    return write


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of setup.py, which declares nothing to build here."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FASTMEF_CPU", "0")
    monkeypatch.setenv("FASTMEF_CUDA", "0")
    monkeypatch.delenv("FASTMEF_CUDA_ARCHS", raising=False)
    monkeypatch.setattr(setuptools, "setup", lambda **options: None)
    return runpy.run_path("setup.py")


def test_architectures_that_the_compiler_knows(
    build: dict[str, Any], compiler: Callable[..., str]
) -> None:
    targets = build["cuda_targets"]
    ampere = ["80", "86", "89", "90"]
    assert targets(compiler("13.0")) == [*ampere, "100", "120", "120+PTX"]
    assert targets(compiler("12.4", 90)) == [*ampere, "90+PTX"]
    with pytest.raises(RuntimeError, match="names none of 80, 86"):
        targets(compiler("12.0", 75))


def test_architectures_by_variable(
    build: dict[str, Any], compiler: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, expected in (("8.9", ["89"]), ("80; 90a 90+PTX", ["80", "90a", "90+PTX"])):
        monkeypatch.setenv("FASTMEF_CUDA_ARCHS", given)
        assert build["cuda_targets"](compiler("13.0")) == expected
    monkeypatch.setenv("FASTMEF_CUDA_ARCHS", "sm_90")
    with pytest.raises(RuntimeError, match="FASTMEF_CUDA_ARCHS is 'sm_90'; write it like"):
        build["cuda_targets"](compiler("13.0"))


def test_where_the_toolkit_lies(
    build: dict[str, Any], compiler: Callable[..., str], tmp_path: Path
) -> None:
    home = build["cuda_home"]
    says = f"echo '#$ TOP={tmp_path}/bin/..' >&2"
    (tmp_path / "bin").mkdir()
    assert home(compiler("13.0", dryrun=says)) == tmp_path.resolve()
    # Like Debian's package, it has headers and libraries in the folders of the system.
    assert home(compiler("12.4", dryrun="echo '#$ _TARGET_SIZE_=64' >&2")) is None
    with pytest.raises(subprocess.CalledProcessError, match="exit status 7"):
        home(compiler("12.4"))


def install(folder: Path, nvcc: str, wanted: str) -> subprocess.CompletedProcess[str]:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "csrc"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder)
    # Packages without their contents: only the extension is built. The version is read from one.
    left_out = shutil.ignore_patterns("[!_]*.*", "_[!_]*.*", "data")
    for name in ("fastmef", "kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    variables = {"CUDACXX": nvcc, "FASTMEF_CUDA": wanted, "FASTMEF_CPU": "0"}
    environment = {k: v for k, v in os.environ.items() if k != "FASTMEF_CUDA_ARCHS"}
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("release", "reason"),
    [("11.8", "nvcc is 11.8, older than 12.0"), ("12.4", "failed with exit code 7")],
)
@pytest.mark.parametrize("wanted", ["auto", "1"])
def test_a_compiler_that_does_not_do(
    compiler: Callable[..., str], tmp_path: Path, release: str, reason: str, wanted: str
) -> None:
    pytest.importorskip("pybind11")
    folder = tmp_path / "checkout"
    folder.mkdir()
    done = install(folder, compiler(release), wanted)
    assert reason in done.stderr
    assert (done.returncode == 0) == (wanted == "auto"), done.stderr
    if wanted == "auto":
        assert "fastmef: the CUDA C++ kernels" in done.stderr
    if release != "11.8":
        assert "nvcc got: -O3" in done.stdout and "code=sm_89" in done.stdout


def test_a_compiler_that_is_not_there(build: dict[str, Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDACXX", str(tmp_path / "no-nvcc"))
        with pytest.raises(OSError, match="no-nvcc"):
            build["find_nvcc"]()


def test_the_module_needs_neither_torch_nor_cuda() -> None:
    """It is built without torch, works with every torch, and loads without a driver."""
    found = list((ROOT / "fastmef").glob("_cuda.*.so"))
    if not found or shutil.which("readelf") is None:
        pytest.skip("no built module, or no readelf")
    text = subprocess.run(
        ["readelf", "--dynamic", "--dyn-syms", "--wide", found[0]], capture_output=True, text=True
    ).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(\w+)", text))
    assert {"libstdc", "libc"} <= needed <= {"libstdc", "libm", "libgcc_s", "libc", *SYSTEM}
    undefined = re.findall(r" UND (\S+)", text)
    assert "PyErr_SetString" in undefined
    assert not [x for x in undefined if re.match(r"cu[A-Z]|cuda|\w*(torch|c10)", x)]
