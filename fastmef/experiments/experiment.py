"""What an experiment consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmef.experiments.lab import Lab
from fastmef.experiments.photographs import Image
from fastmef.experiments.store import Values

Result = Mapping[str, Any]
"""What is written as JSON: ``values``, and the budget, data, command and commits behind them."""

Rows = list[list[tuple[str, Image]]]
"""Pictures with their labels, row by row."""


@dataclass(frozen=True)
class Experiment:
    """One question, and how it is answered."""

    name: str
    title: str
    question: str
    """One sentence."""
    method: str
    """How the question is answered, as Markdown."""
    needs: Sequence[str]
    """Folders of the data: ``pairs``, ``hdr``."""
    measure: Callable[[Lab], Values]
    answer: Callable[[Values], list[str]]
    """Sentences that say what the values show."""
    sections: Callable[[Result], list[str]]
    """Lines of Markdown: the tables and the figure."""
    draw: Callable[[Result, Any], None]
    """Draws on an array of axes."""
    small: Mapping[str, int] = field(default_factory=dict)
    """Sizes that replace those of the budget ``"small"``, where many networks are trained."""
    parts: Sequence[str] = ("network",)
    """Which sizes of the budget count, see :meth:`Budget.describe`."""
    columns: int = 1
    """Axes of the figure."""
    pictures: Callable[[Lab], Rows] | None = None
    """Pictures to look at; made where there are HDR files, which may be shown."""
