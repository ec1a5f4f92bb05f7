"""The training step as one CUDA graph: nothing in it waits for the device or depends on values."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from capture import NotCapturable, capturable
from runs import small
from safetensors.torch import load_file
from torch import Tensor

from fastmef import backends
from fastmef.errors import DivergenceError
from fastmef.nn.network import FusionNet
from fastmef.training import graph, loop, objective, step, train
from fastmef.training.config import TrainConfig
from fastmef.training.distributed import World
from fastmef.training.graph import GraphedStep, Update, ValueLog, capturable_adamw
from fastmef.training.run_folder import LOG, WEIGHTS

RECIPES = ("default", "paper", "pairs")


def config_of(recipe: str) -> TrainConfig:
    return TrainConfig.recipe(recipe, width=4, batch_size=2, patch=96)


def network_of(config: TrainConfig) -> FusionNet:
    return FusionNet(
        exposures="any" if config.exposures == "any" else 2,
        width=config.width,
        in_features=config.in_features,
        skip_connections=config.skip_connections,
        upsampling=config.upsampling,
    )


def update_of(config: TrainConfig, network: FusionNet) -> Update:
    optimizer = capturable_adamw(network.parameters(), weight_decay=config.weight_decay)
    return Update(network, objective.Objective(config), optimizer, "float32", config.clip)


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of "meta" run on the kernels of a GPU, as far as the host can tell."""
    from torch.optim import adam

    monkeypatch.setattr(backends, "usable_on", lambda device: (backends.CUDA, backends.TRITON))
    monkeypatch.setattr(objective, "autocast", lambda *given: contextlib.nullcontext())
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *given, **options: None)


@pytest.mark.parametrize("recipe", RECIPES)
def test_step_can_be_captured(recipe: str, pretended_gpu: None) -> None:
    config = config_of(recipe)
    network = network_of(config).to("meta").train()
    update = update_of(config, network)
    batch = torch.empty(2, 2, 3, config.patch, config.patch, device="meta")
    found = []
    for _ in range(3):
        with capturable() as mode:
            graph.set_learning_rate(update.optimizer, 1e-3)
            values = update(batch)
        assert values.device.type == "meta"
        found.append(mode.steps)
    # The optimiser makes its moments in the first step.
    assert found[1] == found[2] and any("fastmef" in name for name, _ in found[1])


def _new_tensor(x: Tensor) -> Tensor:
    return x * x.new_tensor([2.0])


def _from_host(x: Tensor) -> Tensor:
    return torch.ones(3).to("meta") + x


@torch.library.custom_op("fastmef_tests::foreign", mutates_args=())
def foreign(x: Tensor) -> Tensor:
    return x.clone()


@foreign.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@pytest.mark.parametrize(
    "given, why",
    [
        (_new_tensor, "new_tensor goes through the host"),
        (lambda x: x.sum().item(), "item goes through the host"),
        (lambda x: x.cpu(), "cpu goes through the host"),
        (_from_host, "uses tensors on cpu"),
        (lambda x: x.nonzero(), "depends on values"),
        (foreign, "none of PyTorch's or fastmef's"),
    ],
)
def test_what_no_graph_holds_is_refused(given: Callable[[Tensor], Any], why: str) -> None:
    with pytest.raises(NotCapturable, match=why), capturable():
        given(torch.empty(3, device="meta"))


def test_memory_that_varies_is_seen() -> None:
    found = []
    for size in (3, 4):
        with capturable() as mode:
            torch.empty(size, device="meta") + 1
        found.append(mode.steps)
    assert found[0] != found[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_graphed_step_gives_the_weights_of_the_plain_loop(recipe: str) -> None:
    config = config_of(recipe)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(2, 2, 3, 96, 96, generator=generator) for _ in range(3)]
    rates = [float(torch.tensor(1e-3 / (i + 1))) for i in range(len(batches))]  # of float32
    torch.manual_seed(0)
    plain = network_of(config).train()
    graphed = network_of(config).train()
    graphed.load_state_dict(plain.state_dict())
    form = objective.Objective(config)
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=config.weight_decay, fused=True)
    update = update_of(config, graphed)
    replay, log = GraphedStep(update), ValueLog(len(batches))
    losses, rows = [], []
    for batch, rate in zip(batches, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        loss, _ = form(plain, batch, "float32")
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), config.clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        graph.set_learning_rate(update.optimizer, rate)
        rows += log.add(replay(batch))
    for (name, x), y in zip(plain.state_dict().items(), graphed.state_dict().values(), strict=True):
        assert torch.equal(x, y), name
    assert [row[0] for row in rows] == losses


class TestTraining:
    """Run fastmef train with a graph, which on the CPU runs its step without one."""

    # Rates that float32 holds exactly, as the learning rate in a graph is one.
    EXACT = small(
        "pairs",
        batch_size=2,
        patch=32,
        scales=(1.0,),
        learning_rate=2**-9,
        warmup=0,
        schedule="constant",
        clip=0.01,
    )

    @pytest.fixture
    def graphed(self, monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
        """Train with graphs; return the shapes of the batches."""
        shapes: list[torch.Size] = []
        call = GraphedStep.__call__

        def counting(self: GraphedStep, batch: Tensor) -> Tensor:
            shapes.append(batch.shape)
            return call(self, batch)

        monkeypatch.setattr(GraphedStep, "__call__", counting)
        for module in (step, loop):
            monkeypatch.setattr(module, "can_be_graphed", lambda config, world: True)
        return shapes

    @staticmethod
    def records(run: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
        return [{k: v for k, v in x.items() if k not in ("seconds", "times")} for x in lines]

    @pytest.mark.parametrize("ema", [0.0, 0.5])
    def test_run_is_that_of_the_plain_loop(
        self, ema: float, pairs: Path, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        config = TrainConfig.from_dict(self.EXACT.to_dict() | {"ema": ema})
        plain, run = tmp_path / "plain", tmp_path / "graphed"
        train(pairs, plain, config)
        shapes = request.getfixturevalue("graphed")

        def stop(record: dict[str, Any]) -> None:
            if record["event"] == "step" and record["step"] == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(pairs, run, config, progress=stop)
        train(pairs, run, resume=True)
        assert set(shapes) == {(2, 2, 3, 32, 32)} and len(shapes) == 5
        assert self.records(run) == self.records(plain)
        one, other = load_file(run / WEIGHTS), load_file(plain / WEIGHTS)
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_divergence_is_named(
        self, pairs: Path, tmp_path: Path, graphed: list[torch.Size]
    ) -> None:
        config = TrainConfig.from_dict(self.EXACT.to_dict() | {"learning_rate": 1e30, "steps": 50})
        with pytest.raises(DivergenceError, match=r"^step \d+: the loss is .*over\.png at row"):
            train(pairs, tmp_path / "run", config)

    @pytest.mark.parametrize(
        "options, size, device, expected",
        [
            ({}, 1, "cuda", True),
            ({}, 1, "cpu", False),
            ({}, 2, "cuda", False),
            ({"accumulate": 2}, 1, "cuda", False),
            ({"recompute": True}, 1, "cuda", False),
        ],
    )
    def test_where(self, options: Any, size: int, device: str, expected: bool) -> None:
        config = TrainConfig.from_dict(self.EXACT.to_dict() | options)
        world = World(0, size, size, torch.device(device))
        assert step.can_be_graphed(config, world) == expected
        assert not step.can_be_graphed(TrainConfig(), world)  # brackets of any length


def test_values_come_late_and_in_order() -> None:
    log = ValueLog(3)
    values = torch.zeros(2)  # one buffer, as a graph has
    found = []
    for i in range(5):
        values.fill_(i)
        found.append([list(row) for row in log.add(values)])
    assert found == [[], [], [[0, 0], [1, 1], [2, 2]], [], []]
    assert log.flush() == [[3, 3], [4, 4]] and log.flush() == [] and ValueLog(2).flush() == ()
