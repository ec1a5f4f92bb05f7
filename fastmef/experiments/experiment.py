"""The parts of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmef.experiments.lab import Lab
from fastmef.experiments.photographs import Image
from fastmef.experiments.store import Values

Result = Mapping[str, Any]
"""The content of the JSON file: ``values``, and their budget, data, command and commits."""

Rows = list[list[tuple[str, Image]]]
"""Rows of pictures with their labels."""


@dataclass(frozen=True)
class Experiment:
    """One question, and how it is answered."""

    name: str
    title: str
    question: str
    """The question in one sentence."""
    method: str
    """Markdown that explains how the question is answered."""
    needs: Sequence[str]
    """Folders of the data that are needed: ``pairs``, ``hdr``."""
    measure: Callable[[Lab], Values]
    answer: Callable[[Values], list[str]]
    """Sentences that say what the values show."""
    sections: Callable[[Result], list[str]]
    """Lines of Markdown with the tables and the figure."""
    draw: Callable[[Result, Any], None]
    """Draws the figure on an array of axes."""
    small: Mapping[str, int] = field(default_factory=dict)
    """Sizes that replace those of the budget ``"small"`` if many networks are trained."""
    parts: Sequence[str] = ("network",)
    """The parts whose sizes are stated, see :meth:`Budget.describe`."""
    columns: int = 1
    """Number of axes of the figure."""
    pictures: Callable[[Lab], Rows] | None = None
    """Pictures to look at. They are made from HDR files only, whose licence allows to show them."""
