"""Show progress bars on stderr, so that results can be piped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

_PATIENCE = 1.0  # seconds before a bar appears


def progress_bar(count: ProgressColumn | None = None) -> Progress:
    """Return a bar with count and time left. It is hidden if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        count or MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def late_progress(parts: dict[str, float]) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows progress on a bar, which appears after a second.

    Args:
        parts: the phases in their order → their shares of the whole time.
    """
    begun, names = time.monotonic(), list(parts)
    bar: Progress | None = None
    task: TaskID | None = None

    def report(what: str, done: int, total: int) -> None:
        nonlocal bar, task
        if bar is None or task is None:
            if time.monotonic() - begun <= _PATIENCE:
                return
            from rich.progress import TaskProgressColumn  # most runs end before they need it

            bar = progress_bar(TaskProgressColumn())
            task = bar.add_task("fusing", total=sum(parts.values()))
            bar.start()
        before = sum(parts[name] for name in names[: names.index(what)])
        share = done / total if total else 0.0
        bar.update(task, description=what, completed=before + parts[what] * share)

    try:
        yield report
    finally:
        if bar is not None:
            bar.stop()
