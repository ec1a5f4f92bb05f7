"""Compare fastmef with other methods on validation pairs and on held-out brackets.

python -m bench.quality DATA --cache FOLDER                        # the default weights
python -m bench.quality DATA --cache FOLDER --model new=FILE --cached old --write

DATA holds the folders pairs, stacks and hdr. The cache keeps results, so that other methods are
computed once. Models given with --model are computed in every run, those given with --cached never.
This needs ``pip install '.[bench]'``; enfuse is compared if it is installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from cpuinfo import get_cpu_info

from bench.baselines import enfuse
from bench.quality import brackets, checks, methods, page, robustness, sheets
from bench.quality.brackets import Bracket
from bench.quality.scoring import Settings, forget, fuse_bracket, score_bracket
from fastmef import backends
from fastmef.metrics import SCORES

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "bench" / "results" / "quality.json"
PAGE = ROOT / "docs" / "quality.md"
ROBUSTNESS_PAIRS = 3

Each = Callable[[Callable[[Settings, Any], Any], Sequence[Any]], Iterator[Any]]


def machine() -> dict[str, Any]:
    enfuse_version = (
        enfuse.missing()
        or subprocess.run(["enfuse", "--version"], capture_output=True, text=True).stdout.partition(
            "\n"
        )[0]
    )
    return {
        "cpu": get_cpu_info().get("brand_raw", platform.machine()),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "enfuse": enfuse_version,
        "cpp": backends.cpu_status(),
    }


def measure_robustness(
    settings: Settings, task: tuple[str, Bracket]
) -> tuple[str, str, dict[str, float]]:
    """Return the label of a model, the name of a bracket, and the robustness of the model on it."""
    label, bracket = task
    fuse = methods.model(settings.models[label])
    measured = robustness.robustness(fuse, bracket.frames(settings.data))
    return label, bracket.name, {x: round(y, 4) for x, y in measured.items()}


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path, help="folder of pairs/, stacks/ and hdr/")
    parser.add_argument("--cache", type=Path, required=True, help="folder of results to reuse")
    parser.add_argument(
        "--model",
        type=_labelled,
        action="append",
        metavar="LABEL=NAME",
        help="bundled name or .safetensors file; repeatable (fastmef=default)",
    )
    parser.add_argument(
        "--cached",
        action="append",
        default=[],
        metavar="LABEL",
        help="model of an earlier run whose results are in the cache; repeatable",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each (1)")
    parser.add_argument("--sheet", type=Path, metavar="FOLDER", help="write contact sheets there")
    parser.add_argument(
        "--write", action="store_true", help=f"write {_shown(RESULT)} and {_shown(PAGE)}"
    )
    return parser.parse_args(words)


def _labelled(text: str) -> tuple[str, str]:
    if not re.fullmatch(r"[\w.-]+=.+", text):
        raise argparse.ArgumentTypeError(f"expected LABEL=NAME_OR_FILE, got {text!r}")
    label, _, name = text.partition("=")
    return label, name


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@contextmanager
def _processes(settings: Settings, jobs: int) -> Iterator[Each]:
    """Yield a function that maps over a sequence in processes of one thread each, in order."""
    # A forked process would inherit locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool:
        yield lambda function, items: pool.map(partial(function, settings), items)


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    models = dict(options.model or [("fastmef", "default")])
    settings = Settings(options.data, options.cache, models, tuple(options.cached))
    with _processes(settings, options.jobs) as each:
        result = compare(settings, each, options.sheet)
    if options.write:
        RESULT.write_text(page.dump(result))
        PAGE.write_text(page.render(result))
    return 0


def compare(settings: Settings, each: Each, sheet_folder: Path | None) -> dict[str, Any]:
    """Run and print all comparisons, write contact sheets if wanted, and return the result."""
    data, models = settings.data, settings.models
    pairs, held_out = brackets.validation_pairs(data), brackets.held_out(data)
    looked_at = [*sheets.chosen_pairs(pairs), *brackets.stacks(data)]
    for bracket in {*pairs, *held_out, *(looked_at if sheet_folder else [])}:
        forget(settings, bracket)

    # Long brackets come first, so that no process has to start one at the end.
    longest_first = sorted([*pairs, *held_out], key=lambda bracket: -bracket.count)
    records = dict(zip(longest_first, each(score_bracket, longest_first), strict=True))
    pair_records = {bracket.scene: records[bracket] for bracket in pairs}
    bracket_records = {bracket.name: records[bracket] for bracket in held_out}

    whole = [bracket for bracket in brackets.stacks(data) if bracket in held_out]
    tried = [*pairs[:ROBUSTNESS_PAIRS], *whole]
    behaviour: dict[str, dict[str, dict[str, float]]] = {label: {} for label in models}
    tasks = [(label, bracket) for label in models for bracket in tried]
    for label, scene, measured in each(measure_robustness, tasks):
        behaviour[label][scene] = measured

    verdicts = {
        label: [
            str(check)
            for check in (
                *checks.check_pairs(label, pair_records),
                *checks.check_brackets(label, bracket_records),
                *(checks.check_robustness(behaviour[label]) if label in behaviour else ()),
            )
        ]
        for label in (*settings.cached, *models)
    }
    result = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "models": {**{label: "an earlier run" for label in settings.cached}, **models},
        "held_out": {"stacks": brackets.HELD_OUT_STACKS, "hdr": brackets.HELD_OUT_HDR},
        "columns": list(SCORES),
        "checks": verdicts,
        "robustness": behaviour,
        "records": {"pairs": page.pack(pair_records), "held_out": page.pack(bracket_records)},
    }
    for title, group in (
        ("validation pairs", pair_records),
        ("held-out brackets", bracket_records),
    ):
        print(f"{len(group)} {title}", *page.table(checks.means(group)), "", sep="\n")
    for label, lines in verdicts.items():
        print(label, *lines, "", sep="\n")

    if sheet_folder:
        for bracket, _ in zip(looked_at, each(fuse_bracket, looked_at), strict=True):
            sheets.write_sheet(settings, bracket, sheet_folder)
    return result
