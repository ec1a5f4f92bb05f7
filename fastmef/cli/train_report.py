"""Print the progress of a training, its scores and times, and plans."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import click
from rich.progress import MofNCompleteColumn

from fastmef.cli.progress import progress_bar
from fastmef.cli.tables import DEFAULT_DECIMALS
from fastmef.data.files import display
from fastmef.inference.memory import format_memory
from fastmef.metrics import DECIMALS
from fastmef.training import Plan, PlannedScene
from fastmef.training.throughput import Throughput


class Report:
    """Show the records of a training on a progress bar and in lines of text."""

    def __init__(self) -> None:
        self.begun = False
        """Whether there was a record. Only the main process gets records."""
        self._bar = progress_bar(MofNCompleteColumn())
        self._task = self._bar.add_task("training", total=None)
        self._throughput = Throughput()

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, record: dict[str, Any]) -> None:
        """Show a record of the log."""
        self.begun = True
        if record["event"] == "start":
            self._bar.update(self._task, completed=record["step"], total=record["steps"])
            for skipped in record["skipped"]:
                click.echo(f"not used: {skipped}", err=True)
        elif record["event"] == "step":
            self._throughput.add(record)
            rate = self._throughput.patches_per_second
            what = f"training, loss {record['loss']:.4f}, {rate:.1f} patches/s"
            self._bar.update(self._task, completed=record["step"], description=what)
        elif record["event"] == "validation":
            click.echo(_scores(record))
            click.echo(f"step {record['step']}: {_time(self._throughput)}")


def show_plan(plan: Plan) -> None:
    """Print which scenes a training would use, and which not and why."""
    for title, scenes in (("training", plan.training), ("validation", plan.validation)):
        click.echo(f"{title}:")
        for scene in scenes:
            click.echo(f"  {display(scene.scene.location)}: {_contents(scene)}")
    if plan.skipped:
        click.echo("not used:")
        for skipped in plan.skipped:
            click.echo(f"  {skipped}")
    decoded = sum(scene.bytes for scene in (*plan.training, *plan.validation))
    click.echo(
        f"{len(plan.training)} scenes for training, {len(plan.validation)} for validation;"
        f" {format_memory(decoded)} decoded, of which {format_memory(plan.memory)} may stay in"
        " memory"
    )
    faulty = sum(skipped.faulty for skipped in plan.skipped)
    if faulty:
        click.echo(f"{faulty} scenes cannot be used: training needs --skip-faulty")


def _contents(planned: PlannedScene) -> str:
    size = f"{planned.width}×{planned.height}"
    if planned.scene.is_radiance:
        return f"rendered from {size}"
    return f"{len(planned.scene.images)} exposures of {size}"


def _scores(record: dict[str, Any]) -> str:
    scores = (
        f"{name} {value:.{DECIMALS.get(name, DEFAULT_DECIMALS)}f}"
        for name, value in record.items()
        if name not in ("event", "step")
    )
    return f"step {record['step']}: " + ", ".join(scores)


def _time(throughput: Throughput) -> str:
    shares = (f"{phase} {share:.0%}" for phase, share in throughput.shares.items())
    return f"{throughput.patches_per_second:.1f} patches/s; {', '.join(shares)} of the time"
