"""Time a training step in plain eager PyTorch and in fastmef, and compare their losses.

python -m bench.training_step                 # writes bench/results/training_step.json
python -m bench.training_step --steps 5 --rounds 1
python -m bench.training_step --table         # the table of the result file

The network and the loss are the paper's, at width 16 (batch 4 of 250×250) and 64 (batch 2), with
replicated borders, as in fastmef. Every variant runs in processes of its own, in turns, because
fastmef's training changes how memory is allocated. The fastest step of each variant is reported.
Batches are made beforehand, so only the step is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.inference import machine
from bench.tables import RESULTS, training

FILE = RESULTS / "training_step.json"
CASES = ((16, 4), (64, 2))
PADDING = "replicate"
REORDERED = "plain, channels last"  # the same arithmetic in another order
EXACT = "plain, float64"  # not timed
VARIANTS = ("plain", REORDERED, "fastmef float32", "fastmef bfloat16")
# Largest relative difference of the first loss from that in float64.
FIRST = {REORDERED: 1e-5, "fastmef float32": 1e-5, "fastmef bfloat16": 1e-2}
# Adam's first steps have the size of the learning rate for any gradient, so rounding errors grow.
# The error of later losses may be this many times the largest error of plain PyTorch in float32.
ROOM = 3
RATE = 1e-4
WARM_UP = 2

Step = Callable[[Tensor], float]


def batches(count: int, size: int) -> Tensor:
    """Return pairs ``(count, size, 2, 3, 250, 250)``: light at two exposures, clipped."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count * size, 3, 16, 16, generator=generator)
    light = torch.nn.functional.interpolate(coarse, (250, 250), mode="bicubic").clamp(0, 1)
    light = light * (0.8 + 0.2 * torch.rand(light.shape, generator=generator))
    pairs = torch.stack((0.4 * light, 1.6 * light), dim=1).clamp(0, 1)
    return pairs.unflatten(0, (count, size))


def new_network(width: int, padding: str) -> Any:
    from fastmef import FusionNet

    torch.manual_seed(0)
    return FusionNet(2, width=width, padding=padding)


def plain_step(
    width: int,
    padding: str,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> tuple[Step, Callable[[], dict[str, float]]]:
    """Return a step in plain PyTorch with its default optimiser, as users write it."""
    from bench.baselines.plain_training import PlainNet
    from bench.convolution import with_conv2d
    from fastmef import reference
    from fastmef.reference.color import rgb_to_gray

    network = PlainNet(width, padding)
    network.take_over(new_network(width, padding))
    network.to(memory_format=memory_format, dtype=dtype)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4)
    loss_of = with_conv2d(reference.fusion_loss)

    def step(exposures: Tensor) -> float:
        gray = rgb_to_gray(exposures.to(dtype))
        loss = loss_of(network(gray), gray)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, dict


def our_step(
    width: int, padding: str, precision: str
) -> tuple[Step, Callable[[], dict[str, float]]]:
    """Return a step of ``fastmef train``, without making batches."""
    from fastmef.allocator import keep_freed_memory
    from fastmef.training import TrainConfig, set_learning_rate
    from fastmef.training.distributed import World
    from fastmef.training.objective import Objective
    from fastmef.training.parallel import TrainedNetwork
    from fastmef.training.state import TrainState
    from fastmef.training.timing import PhaseTimer

    keep_freed_memory()
    config = TrainConfig.recipe("paper", width=width)
    network = new_network(width, padding).to(memory_format=torch.channels_last)
    state, device = TrainState.begin(network, config), torch.device("cpu")
    timer = PhaseTimer(device)
    trained = TrainedNetwork(network, World(0, 1, 1, device), timer)
    objective = Objective(config)
    set_learning_rate(state.optimizer, RATE)

    def step(exposures: Tensor) -> float:
        state.optimizer.zero_grad(set_to_none=True)
        timer.start("loss")
        loss = objective(trained, exposures, precision).total
        loss.backward()
        timer.start("optimizer")
        state.optimizer.step()
        state.count(1)
        return float(loss.detach())

    return step, timer.finish


def run(variant: str, width: int, size: int, steps: int) -> dict[str, Any]:
    """Take steps; return all losses, and the time of the fastest step and of its phases."""
    if variant == REORDERED:
        step, phases = plain_step(width, PADDING, torch.channels_last)
    elif variant == EXACT:
        step, phases = plain_step(width, PADDING, dtype=torch.float64)
    elif variant == "plain":
        step, phases = plain_step(width, PADDING)
    else:
        step, phases = our_step(width, PADDING, variant.split()[1])
    losses, seconds, times = [], [], []
    for exposures in batches(WARM_UP + steps, size):
        start = time.perf_counter()
        losses.append(step(exposures))
        seconds.append(time.perf_counter() - start)
        times.append(phases())
    best = min(range(WARM_UP, len(seconds)), key=seconds.__getitem__)
    return {"losses": losses, "seconds": seconds[best], "times": times[best]}


def measure(cases: Sequence[tuple[int, int]], steps: int, rounds: int) -> dict[str, Any]:
    """Run every variant of the cases in turns, and check that the losses agree."""
    results: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    for width, size in cases:
        found: dict[str, dict[str, Any]] = {}
        for _ in range(rounds):
            for variant in VARIANTS:
                result = run_alone(variant, width, size, steps)
                if variant not in found or result["seconds"] < found[variant]["seconds"]:
                    found[variant] = result
                print(width, variant, f"{result['seconds']:.3f} s", file=sys.stderr)
        check(width, found, run_alone(EXACT, width, size, steps)["losses"])
        results.append({"width": width, "batch": size, "variants": found})
    about = machine() | {"threads": torch.get_num_threads(), "load": round(load, 1)}
    return {"machine": about, "torch": torch.__version__, "steps": steps, "cases": results}


def run_alone(variant: str, width: int, size: int, steps: int) -> dict[str, Any]:
    """Return the result of :func:`run` in a process of its own."""
    arguments = [variant, str(width), str(size), str(steps)]
    command = [sys.executable, "-m", "bench.training_step", "--run", *arguments]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def check(width: int, found: dict[str, dict[str, Any]], exact: list[float]) -> None:
    """Compare the losses of every step with float64's; add the largest ``disagreement``.

    Raises:
        SystemExit: the losses of a variant differ too much.
    """
    rounding = disagreement(found["plain"]["losses"], exact)
    for result in found.values():
        result["disagreement"] = disagreement(result["losses"], exact)
    for variant, first in FIRST.items():
        gap = found[variant]["disagreement"]
        begin = disagreement(found[variant]["losses"][:1], exact[:1])
        if begin > first or gap > max(first, ROOM * rounding):
            raise SystemExit(
                f"{width} {variant}: the first loss is {begin:.1e} from float64's, a later one"
                f" {gap:.1e}; plain's in float32 {rounding:.1e}"
            )


def disagreement(losses: list[float], expected: list[float]) -> float:
    """Return the largest relative difference of the losses of any step."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, action="append", help="default: 16 and 64")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        variant, *sizes = args.run
        print(json.dumps(run(variant, *map(int, sizes))))
        return
    if not args.table:
        cases = [case for case in CASES if args.width is None or case[0] in args.width]
        FILE.write_text(json.dumps(measure(cases, args.steps, args.rounds), indent=1) + "\n")
    print(training(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
