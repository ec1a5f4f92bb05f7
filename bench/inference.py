"""Measure time, memory and score of whole processes that fuse files, for fastmef and its peers.

python -m bench.inference PAIR                            # every case; an hour, on an idle machine
python -m bench.inference PAIR --case 24x2 --method fastmef --method mertens
python -m bench.inference PAIR --curve                    # seconds and bytes from 1 to 400 MP
python -m bench.inference PAIR --exact                    # exact against its convolutions alone
python -m bench.inference --page                          # table and figure from the result file

PAIR is a folder with two photographs of at least 12 MP, under- and over-exposed. A case is
megapixels x frames, with x16 for 16 bits: 24x2, 24x5, 100x2x16. Other sizes are reduced from the
pair or tiled with its mirror images; frames between the two are their weighted geometric means.
Results of cases and methods that are not selected stay in the file. enfuse is Debian's package; it
is skipped if it is not installed.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from bench.tables import RESULTS, ROOT, rewrite

FILE = RESULTS / "inference.json"
PAGE = ROOT / "docs" / "large_images.md"
CASES = ("1x2", "12x2", "24x2", "100x2", "24x5", "50x9", "24x2x16", "100x2x16")
CURVE = (1, 3, 10, 30, 100, 200, 400)
SCORED = 3_000_000  # pixels; larger results and their exposures are reduced to about this many
STRIP = 256


@dataclass(frozen=True)
class Case:
    """A bracket: megapixels, frames, bits."""

    name: str

    @property
    def numbers(self) -> tuple[int, int, int]:
        megapixels, count, *bits = map(int, self.name.split("x"))
        return megapixels, count, bits[0] if bits else 8

    @property
    def title(self) -> str:
        megapixels, count, bits = self.numbers
        kind = "JPEG" if bits == 8 else "TIFF"
        return f"{megapixels} MP × {count}, {bits} bits, {kind}"

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width, both even, in a ratio of 2 to 3."""
        width = round((1.5e6 * self.numbers[0]) ** 0.5 / 2) * 2
        return round(width / 1.5 / 2) * 2, width


def fastmef_command(paths: list[Path], output: Path, *options: str) -> list[str]:
    names = [str(path) for path in paths]
    return [sys.executable, "-m", "fastmef", "fuse", *names, "-o", str(output), *options]


def mertens_command(paths: list[Path], output: Path) -> list[str]:
    names = [str(path) for path in paths]
    return [sys.executable, "-m", "bench.inference", "--mertens", str(output), *names]


def enfuse_command(paths: list[Path], output: Path) -> list[str]:
    return ["enfuse", "-o", str(output), *map(str, paths)]


METHODS: dict[str, Callable[[list[Path], Path], list[str]]] = {
    "mertens": mertens_command,
    "enfuse": enfuse_command,
    "fastmef": fastmef_command,
    "exact": lambda paths, output: fastmef_command(paths, output, "--model", "paper"),
}
TITLES = {
    "mertens": "OpenCV Mertens",
    "enfuse": "enfuse",
    "fastmef": "fastmef",
    "exact": "fastmef, exact",
}


def fuse_with_mertens(output: Path, paths: list[Path]) -> None:
    """Read, fuse and write files as in OpenCV's tutorial."""
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    highest = np.iinfo(images[0].dtype).max
    if highest != 255:  # Mertens scales by 1 / 255 for every dtype
        images = [np.float32(image) * np.float32(255 / highest) for image in images]
    fused = cv2.createMergeMertens().process(images)
    dtype = np.uint8 if highest == 255 else np.uint16
    fused = np.clip(fused * highest + 0.5, 0, highest).astype(dtype)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, 95] if output.suffix == ".jpg" else []
    cv2.imwrite(str(output), fused, parameters)


def make_frames(pair: Path, case: Case, folder: Path) -> list[Path]:
    """Write the frames of a case, dark to bright, and return their paths."""
    _, count, bits = case.numbers
    ends = [cv2.imread(str(path)) for path in sorted(pair.iterdir()) if path.is_file()]
    if len(ends) != 2 or any(image is None for image in ends):
        sys.exit(f"{pair}: needed: a folder with two photographs")
    ends.sort(key=np.mean)
    height, width = case.size
    if height <= ends[0].shape[0] and width <= ends[0].shape[1]:
        ends = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in ends]
    paths = []
    for k, t in enumerate(np.linspace(0, 1, count)):
        levels = np.arange(256) / 255.0
        tone = [levels ** (1 - t), levels**t]
        lut = [np.float32(table) for table in tone]
        path = folder / f"{k}.{'jpg' if bits == 8 else 'tif'}"
        strips = mirrored_strips(ends, lut, height, width, 255 if bits == 8 else 65535)
        if bits == 8:
            cv2.imwrite(str(path), np.concatenate(list(strips)), [cv2.IMWRITE_JPEG_QUALITY, 95])
        else:
            write_tiff(path, strips, (height, width, 3), np.uint16)
        paths.append(path)
    return paths


def mirrored_strips(
    ends: list[NDArray[Any]], tones: list[NDArray[Any]], height: int, width: int, highest: int
) -> Iterator[NDArray[Any]]:
    """Yield rows of the geometric mean of both ends, tiled with their mirror images."""
    rows, columns = ends[0].shape[:2]
    x = mirror_index(np.arange(width), columns)
    dtype = np.uint8 if highest == 255 else np.uint16
    for top in range(0, height, STRIP):
        y = mirror_index(np.arange(top, min(top + STRIP, height)), rows)
        dark, bright = (tone[end[y][:, x]] for tone, end in zip(tones, ends, strict=True))
        yield np.rint(dark * bright * highest).astype(dtype)


def mirror_index(index: NDArray[Any], size: int) -> NDArray[Any]:
    index = index % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def write_tiff(path: Path, strips: Iterator[NDArray[Any]], shape: Any, dtype: Any) -> None:
    """Write BGR strips as an RGB TIFF."""
    rgb = (np.ascontiguousarray(strip[..., ::-1]) for strip in strips)
    tifffile.imwrite(
        path, rgb, shape=shape, dtype=dtype, rowsperstrip=STRIP, photometric="rgb", bigtiff=True
    )


# A process inherits the peak memory of its parent, so a small process launches it.
LAUNCHER = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
said = process.stdout.read().decode(errors="replace")
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begun
processor = usage.ru_utime + usage.ru_stime
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, processor, peak, os.waitstatus_to_exitcode(status), said]))
"""


def measure(command: list[str], output: Path) -> dict[str, Any]:
    """Run a process; return seconds, processor seconds, peak bytes, and how it failed if it did."""
    output.unlink(missing_ok=True)
    launched = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    answer = subprocess.run(launched, check=True, capture_output=True, cwd=ROOT, text=True)
    seconds, processor, peak, status, said = json.loads(answer.stdout)
    result = {"seconds": seconds, "processor_seconds": processor, "peak_bytes": peak}
    if status or not output.exists():
        result["failed"] = f"status {status}: {' '.join(said.strip().splitlines()[-1:])}"
    return result


def score(paths: list[Path], output: Path) -> float:
    """Return MEF-SSIM (ma2015, 3 scales) of a result, at about SCORED pixels."""
    import torch

    from fastmef.metrics import mef_ssim

    images = []
    for path in (output, *paths):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., :3]
        scale = min(1.0, (SCORED / (image.shape[0] * image.shape[1])) ** 0.5)
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)[..., ::-1]
        levels = np.float32(reduced) / np.iinfo(image.dtype).max
        images.append(torch.from_numpy(levels.copy()).permute(2, 0, 1))
    return float(mef_ssim(images[0][None], torch.stack(images[1:])[None]))


def run_case(case: Case, methods: list[str], pair: Path, folder: Path, repeat: int) -> list[Any]:
    paths = make_frames(pair, case, folder)
    rows = []
    for method in methods:
        if method == "enfuse" and shutil.which("enfuse") is None:
            print("enfuse is not installed: skipped")
            continue
        if method == "exact" and len(paths) != 2:
            continue
        output = folder / f"{method}{paths[0].suffix}"
        runs = [measure(METHODS[method](paths, output), output) for _ in range(repeat)]
        row = {"case": case.name, "method": method, **middle(runs)}
        if "failed" not in row:
            row["score"] = score(paths, output)
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run with the median time, with the largest peak of all runs."""
    failed = [run for run in runs if "failed" in run]
    if failed:
        return failed[0]
    median = statistics.median_low(run["seconds"] for run in runs)
    run = next(run for run in runs if run["seconds"] == median)
    return {**run, "peak_bytes": max(run["peak_bytes"] for run in runs), "runs": len(runs)}


def run_curve(pair: Path, folder: Path, repeat: int) -> list[dict[str, Any]]:
    """Fuse TIFF files of two frames with 8 bits from 1 to 400 MP."""
    rows = []
    for megapixels in CURVE:
        case = Case(f"{megapixels}x2")
        height, width = case.size
        ends = [cv2.imread(str(path)) for path in sorted(pair.iterdir()) if path.is_file()]
        ends.sort(key=np.mean)
        paths = [folder / "dark.tif", folder / "bright.tif"]
        one = np.ones(256, np.float32)
        same = np.float32(np.arange(256) / 255)
        for path, end in zip(paths, ends, strict=True):
            strips = mirrored_strips([end, end], [one, same], height, width, 255)
            write_tiff(path, strips, (height, width, 3), np.uint8)
        output = folder / "fused.tif"
        row = {
            "megapixels": height * width / 1e6,
            **middle([measure(fastmef_command(paths, output), output) for _ in range(repeat)]),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def run_exact(pair: Path, folder: Path) -> dict[str, Any]:
    """Compare the exact mode at 24 MP x 2 with its convolutions alone, in this process."""
    from bench.convolutions import measure_share
    from fastmef.allocator import keep_freed_memory
    from fastmef.inference.fuser import Fuser

    keep_freed_memory()
    case = Case("24x2")
    images = [cv2.imread(str(path))[..., ::-1] for path in make_frames(pair, case, folder)]
    fuser = Fuser("paper", device="cpu")
    row = measure_share(lambda: fuser.fuse(images))
    return {"case": case.name, "precision": fuser.precision, **row}


def merge(results: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Replace the rows with the same case and method, and sort all rows by case."""
    kept = {(row["case"], row["method"]): row for row in results.get("cases", [])}
    kept |= {(row["case"], row["method"]): row for row in rows}
    order = [(case, method) for case in CASES for method in METHODS]
    results["cases"] = [kept[key] for key in order if key in kept]
    results["cases"] += [row for key, row in kept.items() if key not in order]


def table(results: dict[str, Any]) -> str:
    """Return a table of the cases with seconds, peak memory and score for each method."""
    machine = results["machine"]
    lines = [
        f"`inference.json`, {results['date']}: {machine['cpu']}, {machine['threads']} threads."
        " Seconds from start to exit, peak memory, MEF-SSIM.",
        "",
        "| | " + " | ".join(TITLES.values()) + " |",
        "|---|" + "---:|" * len(TITLES),
    ]
    rows = {(row["case"], row["method"]): row for row in results["cases"]}
    for name in dict.fromkeys(case for case, _ in rows):
        cells = [cell(rows.get((name, method))) for method in METHODS]
        lines.append(f"| {Case(name).title} | " + " | ".join(cells) + " |")
    if "exact" in results:
        exact = results["exact"]
        lines += [
            "",
            f"The exact mode at 24 MP × 2, {exact['precision']}, from arrays to an array:"
            f" {exact['seconds']:.1f} s, {exact['ratio']:.2f} times its convolutions alone.",
        ]
    return "\n".join(lines) + "\n"


def cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "failed" in row:
        return "failed"
    peak = row["peak_bytes"] / 1e9
    return f"{row['seconds']:.1f} s, {peak:.2f} GB, {row['score']:.4f}"


def draw(results: dict[str, Any]) -> None:
    """Draw seconds and bytes per megapixel against size."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows = [row for row in results["curve"] if "failed" not in row]
    sizes = [row["megapixels"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(sizes, [row["seconds"] / row["megapixels"] for row in rows], "o-")
    left.set_ylabel("seconds a megapixel")
    right.plot(sizes, [row["peak_bytes"] / 1e6 / row["megapixels"] for row in rows], "o-")
    right.set_ylabel("peak MB a megapixel")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="megapixels of each of two photographs")
        axes.grid(alpha=0.3)
    figure.savefig(ROOT / "docs" / "figures" / "inference.svg", metadata={"Date": None})


def page() -> None:
    """Rewrite the table of docs/large_images.md and its figure."""
    results = json.loads(FILE.read_text())
    rewrite("inference", table(results), PAGE)
    if results.get("curve"):
        draw(results)


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {"cpu": cpu, "threads": len(os.sched_getaffinity(0)), "system": platform.system()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", nargs="?", type=Path, help="folder with the two photographs")
    parser.add_argument("--case", action="append", metavar="MPxK[x16]", help="default: all")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all")
    parser.add_argument("--curve", action="store_true", help="only seconds and bytes by size")
    parser.add_argument("--exact", action="store_true", help="only exact and its convolutions")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median is taken")
    parser.add_argument("--folder", type=Path, help="folder for some 5 GB of temporary files")
    parser.add_argument("--page", action="store_true", help="rewrite table and figure")
    parser.add_argument("--mertens", nargs="+", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mertens:
        fuse_with_mertens(given.mertens[0], given.mertens[1:])
        return
    if given.page:
        page()
        return
    if given.pair is None:
        parser.error("PAIR is needed")
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    results |= {"date": time.strftime("%Y-%m-%d"), "machine": machine()}
    for package in ("fastmef", "kernels", "bench"):  # pip compiles modules too
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        if given.curve:
            results["curve"] = run_curve(given.pair, Path(name), given.repeat)
        if given.exact:
            results["exact"] = run_exact(given.pair, Path(name))
            print(json.dumps(results["exact"]))
        for case in [] if given.curve or given.exact else given.case or CASES:
            methods = given.method or list(METHODS)
            merge(results, run_case(Case(case), methods, given.pair, Path(name), given.repeat))
            FILE.write_text(json.dumps(results, indent=1) + "\n")
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
