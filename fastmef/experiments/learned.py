"""The experiment ``learned``: γ learned for an outer goal, the fixed γ, and the goal alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastmef.data.patches import PatchSampler
from fastmef.experiments import page, plots
from fastmef.experiments.attention import AttentionGamma, outer_loss, stopped
from fastmef.experiments.budget import MANY_NETWORKS
from fastmef.experiments.experiment import Experiment, Result
from fastmef.experiments.lab import Lab
from fastmef.experiments.scoring import VARIANTS, mean_and_deviation, network_fusion, score_scenes
from fastmef.experiments.store import Values
from fastmef.functional import gamma_weights, softmax_fuse
from fastmef.metrics import SCORES
from fastmef.nn.losses import WeightedSSIMLoss
from fastmef.nn.network import FusionNet
from fastmef.nn.objective import MEFSSIMLoss

RATE, GAMMA_RATE = 2e-3, 5e-3
"""Peak learning rates of the network and of γ."""

Goal = Callable[[Tensor, Tensor], Tensor]

GOALS: dict[str, Goal] = {
    "MEF-SSIM": MEFSSIMLoss("ma2015", 1),
    "SSIM to the stack": WeightedSSIMLoss(torch.ones_like),
}
"""1 - MEF-SSIM (``ma2015``, 1 scale), and 1 - the mean contrast and structure to all exposures."""

FIXED, SAME, DIRECT = "fixed γ", "learned γ, same loss", "MEF-SSIM directly"
NAMES = (FIXED, *(f"learned γ, {name}" for name in GOALS), SAME, DIRECT)

QUESTION = "Can γ be learned?"

METHOD = """\
A small attention network, three convolutions shared by the exposures, computes γ at every pixel.
The paper's network is trained on the γ-weighted loss with γ held constant (a stop-gradient). γ is
trained so that a step of this training improves an outer goal: to first order, it moves towards
the exposure whose similarity rises where the goal falls. The outer goal is 1 − MEF-SSIM
(`ma2015`, 1 scale), or 1 minus the mean similarity to all exposures.

It is compared with the paper's fixed γ (variance × gradient); with γ learned on the loss that it
weights, which can only choose the exposure that is easier to resemble; and with the network
trained on 1 − MEF-SSIM directly, without γ. All see the same patches in the same number of steps.
The last columns describe γ: the mean γ of the darker exposure, and the mean of the larger γ of
both, which is 0.5 if γ is undecided and 1 if one exposure has all of it."""


def measure(lab: Lab) -> Values:
    """Train and score with every kind of γ."""
    return {
        "training": len(lab.training_scenes),
        "test": len(lab.test_scenes),
        "variants": {
            name: [
                lab.variant(
                    f"{name}, seed {seed}",
                    {"way": name, "seed": seed},
                    partial(_scores, lab, name, seed),
                )
                for seed in lab.seeds
            ]
            for name in NAMES
        },
    }


def _scores(lab: Lab, name: str, seed: int) -> Values:
    network, gamma = train_pair(lab, name, seed)
    scores = score_scenes(lab.test_scenes, network_fusion(network))
    return scores | ({} if gamma is None else _decisions(lab, gamma))


def train_pair(lab: Lab, name: str, seed: int) -> tuple[FusionNet, Any]:
    """Train the paper's network with one of :data:`NAMES`.

    Returns:
        The network in eval mode, and γ: a module, the name of the fixed γ, or ``None``.
    """
    budget = lab.budget
    sampler = PatchSampler(lab.training_scenes, budget.patch, budget.batch_size, seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    network = FusionNet(width=budget.width).to(device)
    gamma: Any = {FIXED: "variance_gradient", DIRECT: None}.get(name, AttentionGamma().to(device))
    groups: list[dict[str, Any]] = [{"params": network.parameters(), "lr": RATE}]
    if isinstance(gamma, nn.Module):
        groups.append({"params": gamma.parameters(), "lr": GAMMA_RATE})
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    network.train()
    for step in range(budget.steps):
        exposures = sampler.batch(step).to(device)
        loss = _loss(name, gamma, network.logits(exposures), exposures)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.cpu().eval(), gamma.cpu() if isinstance(gamma, nn.Module) else gamma


def _loss(name: str, gamma: Any, logits: Tensor, exposures: Tensor) -> Tensor:
    """Return the loss of the network, plus that of γ if it is learned."""
    if name == DIRECT:
        return GOALS["MEF-SSIM"](softmax_fuse(logits, exposures), exposures)
    if name == FIXED:
        return WeightedSSIMLoss(gamma).from_logits(logits, exposures)
    if name == SAME:
        return WeightedSSIMLoss(gamma)(softmax_fuse(logits, exposures), exposures)
    inner = WeightedSSIMLoss(stopped(gamma)).from_logits(logits, exposures)
    goal = GOALS[name.removeprefix("learned γ, ")]
    return inner + outer_loss(gamma, logits, exposures, goal)


@torch.no_grad()
def _decisions(lab: Lab, gamma: Any) -> dict[str, float]:
    """Return the mean γ of the darker exposure, and of the exposure that γ prefers."""
    sampler = PatchSampler(lab.test_scenes, lab.budget.patch, len(lab.test_scenes), 0)
    weights = gamma_weights(sampler.batch(0), gamma)
    return {"dark": float(weights[:, 0].mean()), "decided": float(weights.amax(dim=1).mean())}


def sections(result: Result) -> list[str]:
    """Return one table."""
    values = result["values"]
    variants = values["variants"]
    header = ["", *(f"`{key}`" for key in VARIANTS), "γ of the darker", "γ of the preferred"]
    rows: list[list[page.Cell]] = [
        [
            name,
            *(
                mean_and_deviation(records, key) if key in records[0] else ""
                for key in (*VARIANTS, "dark", "decided")
            ),
        ]
        for name, records in variants.items()
    ]
    data = f"pairs, {values['training']} scenes for training, {values['test']} of the others scored"
    lines = page.table(header, rows)
    lines += page.measured_on(result, data, page.seeds_of(result["budget"]["seeds"]))
    lines += page.figure(result, "Scores by the way to γ")
    return lines


def answer(values: Values) -> list[str]:
    """Compare every γ with the fixed one, in standard deviations of the seeds."""
    variants = values["variants"]
    base, keys = variants[FIXED], ("ma2015_1_scale", "ma2015_3_scales", "mefnet")
    learned = [name for name in NAMES if name.startswith("learned")]
    better = [
        (name, key)
        for name in learned
        for key in keys
        if mean_and_deviation(variants[name], key)[0] > mean_and_deviation(base, key)[0]
    ]
    clear = sum(page.is_clear(variants[name], base, key) for name, key in better)
    sentences = [
        f"A learned γ is better than the fixed one in {len(better)} of {len(learned) * len(keys)}"
        f" comparisons, and in {clear} by more than the standard deviations of the seeds."
    ]
    for key in keys:
        parts = [f"{name} {page.difference(variants[name], base, key)}" for name in NAMES[1:]]
        fixed, _ = mean_and_deviation(base, key)
        sentences.append(
            f"{SCORES[key]} beside the fixed γ's {fixed:.4f}: {', '.join(parts)}. {page.BOLD}"
        )
    return sentences


def draw(result: Result, axes: Any) -> None:
    """Draw two variants of the metric."""
    variants = result["values"]["variants"]
    for axis, key in zip(axes, ("ma2015_1_scale", "mefnet"), strict=True):
        series = {SCORES[key]: [mean_and_deviation(records, key) for records in variants.values()]}
        plots.dots(axis, list(variants), series, SCORES[key])


LEARNED = Experiment(
    "learned",
    "Learned γ",
    QUESTION,
    METHOD,
    ("pairs",),
    measure,
    answer,
    sections,
    draw,
    small=MANY_NETWORKS,
    columns=2,
)
