"""Time a step of training, by plain eager PyTorch and by fastmef, whose losses must agree.

python -m bench.training_step                 # writes bench/results/training_step.json
python -m bench.training_step --steps 5 --rounds 1
python -m bench.training_step --table         # the table of the result file

The network and the loss are the paper's, at width 16 (batch 4 of 250×250) and 64 (batch 2), with
borders repeated, as fastmef trains, or filled with zeros. Every variant runs in processes of its
own, in turns, since fastmef's training changes how memory is allocated. The fastest step of each
counts. Batches are made beforehand: only the step is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.tables import RESULTS, training

FILE = RESULTS / "training_step.json"
CASES = ((16, 4, "replicate"), (64, 2, "replicate"), (16, 4, "zeros"), (64, 2, "zeros"))
VARIANTS = ("plain", "fastmef float32", "fastmef bfloat16")
# Largest difference of a loss to that of plain PyTorch, relative to it. Adam's first steps have the
# size of the learning rate whatever the gradient, so rounding grows with the steps.
TOLERANCES = {"fastmef float32": 5e-3, "fastmef bfloat16": 3e-2}
RATE = 1e-4
WARM_UP = 2

Step = Callable[[Tensor], float]


def batches(count: int, size: int) -> Tensor:
    """Return pairs ``(count, size, 2, 3, 250, 250)`` of light that is clipped at two exposures."""
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


def plain_step(width: int, padding: str) -> tuple[Step, Callable[[], dict[str, float]]]:
    """Return a step as one writes it in plain PyTorch, with its default layout and optimiser."""
    from bench.baselines.plain_training import PlainNet
    from bench.convolution import by_convolution
    from fastmef import reference
    from fastmef.reference.color import rgb_to_gray

    network = PlainNet(width, padding)
    network.take_over(new_network(width, padding))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-4)
    loss_of = by_convolution(reference.fusion_loss)

    def step(exposures: Tensor) -> float:
        gray = rgb_to_gray(exposures)
        loss = loss_of(network(gray), gray)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, dict


def our_step(
    width: int, padding: str, precision: str
) -> tuple[Step, Callable[[], dict[str, float]]]:
    """Return a step as fastmef train takes it, without the making of batches."""
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


def run(variant: str, width: int, size: int, padding: str, steps: int) -> dict[str, Any]:
    """Take steps; return every loss and every time."""
    if variant == "plain":
        step, phases = plain_step(width, padding)
    else:
        step, phases = our_step(width, padding, variant.split()[1])
    losses, seconds, times = [], [], []
    for exposures in batches(WARM_UP + steps, size):
        start = time.perf_counter()
        losses.append(step(exposures))
        seconds.append(time.perf_counter() - start)
        times.append(phases())
    best = min(range(WARM_UP, len(seconds)), key=seconds.__getitem__)
    return {"losses": losses, "seconds": seconds[best], "times": times[best]}


def measure(steps: int, rounds: int) -> dict[str, Any]:
    """Run every variant of every case in turns, and check that the losses agree."""
    results: list[dict[str, Any]] = []
    for width, size, padding in CASES:
        found: dict[str, dict[str, Any]] = {}
        for _ in range(rounds):
            for variant in VARIANTS:
                arguments = [variant, str(width), str(size), padding, str(steps)]
                command = [sys.executable, "-m", "bench.training_step", "--run", *arguments]
                output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
                result = json.loads(output)
                if variant not in found or result["seconds"] < found[variant]["seconds"]:
                    found[variant] = result
                print(width, padding, variant, f"{result['seconds']:.3f} s", file=sys.stderr)
        for variant, tolerance in TOLERANCES.items():
            gap = disagreement(found[variant]["losses"], found["plain"]["losses"])
            if gap > tolerance:
                raise SystemExit(f"{width} {padding} {variant}: a loss is {gap:.2%} from plain's")
            found[variant]["disagreement"] = gap
        case = {"width": width, "batch": size, "padding": padding}
        results.append({**case, "variants": found})
    machine = {"cpu": platform.processor(), "threads": torch.get_num_threads()}
    return {"machine": machine, "torch": torch.__version__, "steps": steps, "cases": results}


def disagreement(losses: list[float], expected: list[float]) -> float:
    """Return the largest relative difference of the losses of any step."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        variant, width, size, padding, steps = args.run
        print(json.dumps(run(variant, int(width), int(size), padding, int(steps))))
        return
    if not args.table:
        FILE.write_text(json.dumps(measure(args.steps, args.rounds), indent=1) + "\n")
    print(training(json.loads(FILE.read_text())))


if __name__ == "__main__":
    main()
